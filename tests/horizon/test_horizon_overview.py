import pytest

from dreamer_h.horizon.scoring.overview import figure, table, verdict

HORIZONS = [1, 8, 32, 64]


def curve(*values):
    return {str(h): {"value": value} for h, value in zip(HORIZONS, values, strict=True)}


def report(errors, crps=(0.1, 0.2, 0.3, 0.4), saturation=32):
    return {
        "horizons": HORIZONS,
        "seconds": [0.02 * h for h in HORIZONS],
        "metrics": {"nrmse_median": curve(*errors), "crps": curve(*crps)},
        "floor": {"saturation": saturation, "oracle_median": {"1": 0.1, "8": 0.2}},
        "yardsticks": {
            "climatology": {"crps": curve(0.5, 0.5, 0.5, 0.5)},
            "mean": {"nrmse_median": curve(1.0, 1.0, 1.0, 1.0)},
        },
    }


RIVAL = report((0.1, 0.2, 0.3, 0.4))


@pytest.mark.parametrize("errors, crps, saturation, worse, no_skill", [
    ((0.9, 0.2, 0.3, 0.9), (0.1, 0.2, 0.3, 0.4), 32, [], []),  # before 8 and after saturation: free
    ((0.1, 0.2, 0.3, 0.9), (0.1, 0.2, 0.3, 0.5), 64, [64], [64]),
    ((0.1, 0.21, 0.3, 0.4), (0.6, 0.2, 0.3, 0.4), None, [8], [1]),  # no oracle: to the end
    ((0.1, 0.2, None, 0.4), (0.1, 0.2, None, 0.4), 64, [32], [32]),  # null: blown up
])  # fmt: skip
def test_a_verdict_names_the_horizons_that_speak_against_it(
    errors, crps, saturation, worse, no_skill
):
    found = verdict({"ours": report(errors, crps, saturation), "theirs": RIVAL}, "ours", "theirs")
    assert found == {"saturation": saturation or 64, "worse": worse, "no_skill": no_skill}


def test_the_table_counts_the_tasks_on_which_both_hold():
    good = {"ours": report((0.1, 0.1, 0.1, 0.1)), "theirs": RIVAL}
    bad = {"ours": report((0.1, 0.9, 0.1, 0.1)), "theirs": RIVAL}
    text = table({"walker-walk": good, "hopper-hop": bad, "cheetah-run": good}, "ours", "theirs")
    assert "Both hold on 2 of 3 tasks." in text
    assert "| hopper-hop | 32 | 0.900 / 0.200 | 8 | – | no |" in text


def test_a_model_that_was_not_scored_is_named():
    with pytest.raises(ValueError, match="theirs was not scored; there are ours"):
        verdict({"ours": RIVAL}, "ours", "theirs")


def test_every_task_has_a_panel_and_every_model_one_colour():
    tasks = {f"task-{i}": {"ours": RIVAL, "theirs": RIVAL} for i in range(5)}
    del tasks["task-3"]["ours"]
    panels = [panel for panel in figure(tasks).axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == list(tasks)
    colors = lambda panel: {line.get_label(): line.get_color() for line in panel.lines}
    assert all(colors(p)["theirs"] == colors(panels[0])["theirs"] for p in panels)
    assert [("ours" in colors(p)) for p in panels] == [True, True, True, False, True]
    assert colors(panels[0])["theirs"] != colors(panels[0])["ours"]


def test_a_model_that_few_tasks_have_is_not_drawn():
    tasks = {f"task-{i}": {"ours": RIVAL, "theirs": RIVAL} for i in range(4)}
    tasks["task-0"]["ablation"] = RIVAL
    labels = {line.get_label() for panel in figure(tasks).axes for line in panel.lines}
    assert {"ours", "theirs"} < labels and "ablation" not in labels
