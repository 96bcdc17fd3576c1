import json
from dataclasses import replace

import numpy as np
import pytest
import recorded

from dreamer_h.horizon.scoring.compare import paired
from dreamer_h.horizon.scoring.figures import COLORS, figure, table
from dreamer_h.horizon.scoring.report import report
from dreamer_h.horizon.scoring.score import ask, benchmark, questions, score, yardstick_scores
from dreamer_h.horizon.scoring.scored_files import _small, read_reports, save
from dreamer_h.horizon.simulators.yardsticks import Persistence


class Exploding(Persistence):
    """Persistence; in every other window nothing is finite from the fourth step on."""

    def imagine(self, state, action, samples, *, seed):
        found = super().imagine(state, action, samples, seed=seed)
        obs = found.obs.copy()
        obs[:, ::2, 3:] = np.nan
        return replace(found, obs=obs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models that blow up, and one that does not, scored on a small recording."""
    made = tmp_path_factory.mktemp("compared")
    bench = benchmark(recorded.driven(made / "data", count=12), {})
    others = yardstick_scores(bench)
    for name, kind in (("calm", Persistence), ("wild", Exploding), ("wilder", Exploding)):
        simulator = kind.fit(bench.recording.train, bench.scale)
        scored = score(ask(simulator, questions(bench)), bench)
        save(made / "out", report(name, scored, others, bench), scored, bench)
    return made / "out"


def test_what_blows_up_is_tabled_and_drawn(folder, tmp_path):
    reports = read_reports(folder)
    entry = reports["wild"]["metrics"]["nrmse_median"]["8"]
    assert entry["hi"] is None
    line = next(line for line in table(reports).splitlines() if line.startswith("| wild |"))
    assert "–" in line and "None" not in line and "nan" not in line
    figure(reports).savefig(tmp_path / "compare.png")


def test_differences_are_valid_json(folder):
    pairs = paired([folder])
    text = json.dumps(pairs, allow_nan=False)
    both = [p for p in pairs if (p["left"], p["right"], p["horizon"]) == ("wilder", "wild", 8)]
    assert both[0]["value"] is None and "null" in text
    few = paired([folder], ["calm"])
    assert few == [pair for pair in pairs if "calm" in (pair["left"], pair["right"])] != pairs
    two = paired([folder], models=["calm", "wild"])
    assert two == [pair for pair in pairs if "wilder" not in (pair["left"], pair["right"])] != pairs
    with pytest.raises(ValueError, match="no clam among calm, wild"):
        paired([folder], ["clam"])


def test_every_model_is_in_the_figure(folder):
    found = read_reports(folder)["calm"]
    names = [f"model {i}" for i in range(len(COLORS) + 2)]
    axis = figure(dict.fromkeys(names, found)).axes[1]
    lines = {str(line.get_label()): line for line in axis.get_lines()}
    assert set(names) <= lines.keys()
    looks = {(lines[name].get_color(), lines[name].get_marker()) for name in names}
    assert len(looks) == len(names)


def test_models_of_other_recordings_are_not_paired(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "wild.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "xyz"}))
    with pytest.raises(ValueError, match="wild was scored on recording xyz, calm on abc"):
        paired([tmp_path])


def test_folders_of_one_name_are_not_mixed_up(folder, tmp_path):
    with pytest.raises(ValueError, match="same name"):
        paired([folder, tmp_path / folder.name])


def test_errors_too_large_for_half_a_number_stay_what_they_are(folder, tmp_path):
    small = _small(np.array([1.0, np.inf, np.nan]))
    assert small.dtype == np.float16 and np.isinf(small[1]) and np.isnan(small[2])
    large = _small(np.array([1.0, 1.6e5, np.inf]))
    assert large.dtype == np.float32 and large[1] == np.float32(1.6e5)
