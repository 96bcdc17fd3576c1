import json
from pathlib import Path

import numpy as np
import pytest

from dreamer_h.train.evaluation.curves import (
    Point,
    common_steps,
    of_variants,
    over_seeds,
    read_reference,
)

REFERENCE = Path(__file__).parents[2] / "results" / "reference"

TASKS = ("cartpole-swingup", "walker-walk")


def fake(tasks=TASKS, seeds=(0, 1, 2), last=100_000):
    """Rows as table.py collects them: an evaluation every 10k env steps, curves that saturate."""
    rng = np.random.default_rng(0)
    rows = []
    for task in tasks:
        for seed in seeds:
            reach = rng.uniform(700, 900)
            for x in range(0, last + 1, 10_000):
                for what, factor in (("return_mode", 1.0), ("return_sampled", 0.8)):
                    value = factor * reach * (1 - np.exp(-x / 30_000)) + rng.uniform(10, 40)
                    rows.append(row(what, task, seed, x, value, value - 30, value + 30))
                rows.append(row("minutes", task, seed, x, x / 4_000 + 0.2 * seed, None, None))
    return rows


def row(what, task, seed, x, value, lo=None, hi=None, variant="flat"):
    own = {"what": what, "task": task, "variant": variant, "seed": seed, "x": x}
    return {**own, "value": value, "lo": lo, "hi": hi, "unit": "return"}


@pytest.fixture
def plotted(cli, tmp_path):
    """A function that draws rows and returns the table."""

    def plot(rows):
        (tmp_path / "summary.json").write_text(json.dumps(rows))
        assert cli("plot_returns.py", tmp_path) == 0
        assert 5_000 < (tmp_path / "returns.png").stat().st_size < 200_000
        return (tmp_path / "table.md").read_text()

    return plot


def cells(table, task, step, variant="flat"):
    section = table.split(f"### {task}\n")[1].split("###")[0]
    start = f"| {step} | {variant} |"
    (line,) = [line for line in section.splitlines() if line.startswith(start)]
    step, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    return [step, *cells]


def test_the_table_holds_our_numbers_beside_the_published_ones(plotted):
    rows = fake()
    found = cells(plotted(rows), "walker-walk", "100k")
    for column, what in ((1, "return_sampled"), (3, "return_mode")):
        values = [
            r["value"]
            for r in rows
            if (r["what"], r["task"], r["x"]) == (what, "walker-walk", 100_000)
        ]
        assert found[column].startswith(f"{np.mean(values):.0f} [")
        assert found[column].endswith("] (3)")
    assert (found[2], found[4], found[5], found[7]) == ("518", "962", "436", "11.2")
    assert found[6] == "25.2"


def test_reference_returns_at_100k_are_the_published_ones():
    reference = read_reference(REFERENCE)
    at = lambda task, name: {p.env_steps: p.value for p in reference[task][name]}[100_000]
    tasks = (*TASKS, "reacher-easy", "cheetah-run")
    found = [[round(at(task, name)) for name in ("dreamerv3_window", "tdmpc2")] for task in tasks]
    assert found == [[513, 839], [518, 962], [727, 937], [308, 519]]


def test_a_step_without_an_evaluation_takes_the_nearest_and_says_so(plotted):
    found = cells(plotted(fake()), "cartpole-swingup", "25k")
    assert found[1].endswith("at 20k") and found[3].endswith("at 20k")
    assert (found[2], found[4], found[5]) == ("225", "–", "354")


def test_half_a_table_is_drawn_and_lacks_what_is_not_there_yet(plotted):
    rows = fake(tasks=TASKS[1:], seeds=(0,), last=50_000)
    rows += [r for r in fake(tasks=TASKS[1:], seeds=(1,), last=20_000) if r["what"] != "minutes"]
    rows.append(row("return_mode", "walker-walk", 2, 0, None))  # a lost evaluation
    rows.append(row("return_mode", "walker-walk", 0, 100_000, 1.0, variant="levels2"))
    table = plotted(rows)
    assert cells(table, "walker-walk", "100k", "levels2")[3] == "1"
    assert "cartpole" not in table
    assert cells(table, "walker-walk", "100k")[1] == "–"
    assert cells(table, "walker-walk", "50k")[3].endswith("(1)")
    assert cells(table, "walker-walk", "25k")[3].endswith("(2) at 20k")


def test_what_levels_promise_is_drawn_where_there_is_a_manager(tmp_path, plotted):
    rows = fake(tasks=TASKS[:1])
    plotted(rows)
    assert not (tmp_path / "gap.png").exists()
    for what in ("return_manager", "return_imagined", "return_real"):
        rows += [row(what, TASKS[0], 0, x, x / 1e4, variant="levels2") for x in (0, 10_000)]
    rows += [row("return_mode", TASKS[0], 0, 10_000, 5.0, variant="levels2")]
    plotted(rows)
    assert 5_000 < (tmp_path / "gap.png").stat().st_size < 200_000


def test_runs_may_be_of_some_variants():
    found = {"return_mode": {0: {0: Point(1.0, None, None)}}}
    runs = {"walker-walk": {"a": found, "b": found}, "cheetah-run": {"b": found}}
    assert of_variants(runs, None) == runs
    assert of_variants(runs, ["a"]) == {"walker-walk": {"a": found}}
    with pytest.raises(ValueError, match="no variant c; there are a, b"):
        of_variants(runs, ["a", "c"])


def test_one_evaluation_of_one_task_is_enough(plotted):
    table = plotted([row("return_sampled", "walker-walk", 0, 0, 20.0, 10.0, 30.0)])
    assert cells(table, "walker-walk", "10k")[1] == "–"


def test_a_mean_is_taken_only_where_every_seed_was_evaluated():
    point = Point(1.0, None, None)
    assert common_steps({0: {0: point, 10: point, 20: point}, 1: {10: point}}) == [10]


def test_a_single_seed_has_the_interval_of_its_episodes():
    assert over_seeds([Point(5.0, 4.0, 7.0)]) == (5.0, 4.0, 7.0)
    mean, low, high = over_seeds([Point(value, 0.0, 9.0) for value in (1.0, 2.0, 3.0)])
    assert mean == 2.0 and 1.0 <= low < 2.0 < high <= 3.0


def test_a_folder_without_returns_is_explained(cli, tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps([row("crps", "walker-walk", 0, 8, 0.5)]))
    assert "has no returns; run scripts/table.py first" in cli("plot_returns.py", tmp_path)
