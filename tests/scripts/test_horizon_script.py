import json
from pathlib import Path

import numpy as np
import pytest

from dreamer_h.horizon.recorded.recording import load_recording
from dreamer_h.train.checkpoints.load import load_replay

TASK = ("--task", "pendulum-swingup", "--episodes", 30, "--action-repeat", 10, "--jobs", 1)


@pytest.fixture(scope="module")
def data(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("horizon") / "with space" / "data"
    assert cli("horizon.py", "record", *TASK, "--out", folder) == 0
    return folder


def test_record_fit_score_and_compare(cli, data, tmp_path, capsys):
    fitted, out = tmp_path / "mlp", tmp_path / "results"
    score = ("horizon.py", "score", "--data", data, "--out", out, "--jobs", 1, "--model")
    fit = ("horizon.py", "fit", "--data", data)
    assert cli(*fit, "--updates", 20, "--model", "mlp", "--out", fitted) == 0
    assert cli(*fit, "--model", "linear", "--out", tmp_path / "linear") == 0
    assert cli(*score, fitted) == 0
    assert cli(*score, tmp_path / "linear") == 0
    assert cli("horizon.py", "compare", out) == 0
    report = json.loads((out / "mlp-0.json").read_text())
    assert report["horizons"] == [1, 2, 4, 8, 16, 32, 64]
    assert report["env_steps"][0] == 10 and report["seconds"][0] == pytest.approx(0.2)
    assert report["origin"]["seed"] == 0 and report["origin"]["budget"]["updates"] == 20
    entry = report["metrics"]["nrmse_median"]["8"]
    assert entry["lo"] <= entry["value"] <= entry["hi"]
    assert report["floor"]["exact"] == 0.0 and "median" in report["floor"]["lyapunov"]
    with np.load(out / "mlp-0.npz") as file:
        assert file["far/nrmse"].dtype == np.float16 and file["far/nrmse"].shape == (10, 7)
    pairs = json.loads((out / "paired.json").read_text())
    assert {(pair["left"], pair["right"]) for pair in pairs} == {("mlp-0", "linear")}
    assert (out / "compare.png").stat().st_size > 10_000
    both = ("--model", "mlp-0", "--rival", "linear")
    assert cli("horizon.py", "overview", out.parent, *both) == 0
    assert f"| {out.name} |" in (out.parent / "overview.md").read_text()
    rows = json.loads((out / "linear.rows.json").read_text())
    assert {"nrmse_median", "trusted_horizon", "crps"} <= {row["what"] for row in rows}
    assert "| linear |" in capsys.readouterr().out


@pytest.mark.slow
def test_levels_are_fitted_scored_and_held_against_each_other(cli, data, tmp_path, capsys):
    fitted, out = tmp_path / "levels", tmp_path / "results"
    fit = ("horizon.py", "fit", "--data", data, "--preset", "debug", "--updates", 2)
    assert cli(*fit, "--model", "levels2", "--strides", 4, "--out", fitted) == 0
    assert "level 1: " in capsys.readouterr().out
    card = json.loads((fitted / "model.json").read_text())
    assert [one["level"] for one in card["crossovers"]] == [1]
    assert cli(*fit, "--model", "flat", "--out", tmp_path / "flat") == 0
    score = ("horizon.py", "score", "--data", data, "--out", out, "--jobs", 1, "--model")
    assert cli(*score, fitted) == 0
    assert cli(*score, fitted, "--fast") == 0
    assert cli(*score, tmp_path / "flat", "--pool", tmp_path / "flat", "--name", "fused") == 0
    assert {path.name for path in out.glob("*_fast*.json")} >= {"levels2-0_fast.json"}
    assert "has none" in str(cli(*score, tmp_path / "flat", "--fast"))
    levels = ("horizon.py", "levels", "--data", data, "--out", out, "--model")
    assert "has one level only" in str(cli(*levels, tmp_path / "flat"))
    assert cli(*levels, fitted) == 0
    assert (out / "levels2-0.levels.png").stat().st_size > 10_000
    assert cli("horizon.py", "compare", out) == 0  # what `levels` wrote is no scored simulator
    both = ("--models", tmp_path / "flat", fitted, "--starts", 1, 3)
    assert cli("horizon.py", "speed", "--data", data, *both, "--out", tmp_path / "speed") == 0
    found = json.loads((tmp_path / "speed" / "speed.json").read_text())["starts"]
    assert found["1"]["flat-0"]["ratio"] == 1 and found["3"]["levels2-0_fast"]["median"] > 0
    assert "| starts | flat-0 | levels2-0 | levels2-0_fast |" in capsys.readouterr().out
    (fitted / "weights.eqx").write_bytes((fitted / "weights.eqx").read_bytes()[:-100])
    assert "is damaged or of another version" in str(cli(*score, fitted))


def test_another_framework_answers_in_files(cli, data, tmp_path):
    queries, answers, out = tmp_path / "queries.npz", tmp_path / "theirs.npz", tmp_path / "results"
    assert cli("horizon.py", "score", "--data", data, "--export", queries) == 0
    with np.load(queries) as file:  # persistence, in plain numpy
        longest = file["action"].shape[1]
        obs = np.repeat(file["context_obs"][None, :, -1:], longest, axis=2)
        np.savez(answers, window_id=file["window_id"], obs=obs)
    score = ("horizon.py", "score", "--data", data, "--out", out, "--jobs", 1)
    assert cli(*score, "--import", answers) == 0
    assert cli(*score, "--model", "persistence") == 0
    theirs, ours = (
        json.loads((out / f"{name}.json").read_text())["metrics"]["nrmse_rms"]
        for name in ("theirs", "persistence")
    )
    assert theirs == ours
    assert cli(*score, "--import", answers, "--changed", 1) == 0  # beside it
    assert {"theirs.json", "theirs_changed1.json"} < {path.name for path in out.iterdir()}
    (out / "own.npz").write_bytes(answers.read_bytes())
    assert "would be written over" in str(cli(*score, "--import", out / "own.npz"))
    assert (out / "own.npz").read_bytes() == answers.read_bytes()


def test_the_worker_of_the_page_answers(cli, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("horizon.py", "score", "--data", data, "--export", "queries.npz") == 0
    page = (Path(__file__).parents[2] / "docs" / "horizon.md").read_text()
    worker = page.split("```python\nimport numpy")[1].split("```")[0]
    exec(compile("import numpy" + worker, "docs/horizon.md", "exec"), {})
    score = ("horizon.py", "score", "--data", data, "--out", "out", "--jobs", 1)
    assert cli(*score, "--import", "predictions.npz") == 0
    report = json.loads(Path("out/predictions.json").read_text())
    assert report["samples"] == 19 and report["metrics"]["covered"]["1"]["value"] < 0.9


def test_other_actions_are_played_by_physics(cli, data, tmp_path):
    score = ("horizon.py", "score", "--data", data, "--out", tmp_path, "--jobs", 1, "--model")
    assert cli(*score, "persistence") == 0
    assert cli(*score, "persistence", "--changed", 2) == 0
    fact, other = (
        json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("persistence", "persistence_changed2")
    )
    assert other["origin"]["changed"] == 2 and fact["origin"]["changed"] is None
    one, two = (found["metrics"]["nrmse_rms"]["1"]["value"] for found in (fact, other))
    assert one != two and other["floor"]["exact"] == 0.0  # restarted, it does the same again
    assert (data / "floor.npz").exists() and (data / "floor_changed2.npz").exists()
    assert "windows have 1 to" in str(cli(*score, "persistence", "--changed", 10**6))


def test_wrong_names_have_a_plain_answer(cli, data, tmp_path):
    record = ("horizon.py", "record", "--task", "pendulum-swingup", "--out", tmp_path / "x")
    assert "must be noise, excited or agent" in str(cli(*record, "--behaviour", "wild"))
    fit = ("horizon.py", "fit", "--data", data, "--updates", 1, "--model")
    assert "did you mean mlp" in str(cli(*fit, "mpl"))
    assert "mlp has no config" in str(cli(*fit, "mlp", "--set", "world.deter=8"))
    assert "linear has no config" in str(cli(*fit, "linear", "--preset", "cpu"))
    assert "needs --task" in str(cli("horizon.py", "record"))
    score = ("horizon.py", "score", "--data", data, "--out", tmp_path / "y", "--model")
    assert "did you mean linear" in str(cli(*score, "liner"))
    assert "needs --out" in str(cli("horizon.py", "score", "--data", data))
    assert "no finished recording" in str(cli(*fit[:2], "--data", tmp_path, "--model", "mlp"))


def test_a_trained_run_is_scored_and_recorded(cli, data, finished, tmp_path):
    other = ("horizon.py", "score", "--data", data, "--out", tmp_path / "other", "--model")
    assert "has task cartpole-balance, the recording" in str(cli(*other, finished))
    assert "has pendulum-swingup" in str(cli(*other, "linear", "--policy", finished))
    folder = tmp_path / "agent"
    task = "envs:dmc/cartpole-balance-v0"  # the run's was written otherwise
    record = ("horizon.py", "record", "--task", task, "--action-repeat", 4)
    behaviour = ("--behaviour", f"agent:{finished}", "--episodes", 24, "--jobs", 1)
    assert cli(*record, *behaviour, "--out", folder) == 0
    score = ("horizon.py", "score", "--data", folder, "--out", tmp_path / "out", "--jobs", 1)
    assert cli(*score, "--model", finished, "--name", "flat") == 0
    report = json.loads((tmp_path / "out" / "flat.json").read_text())
    assert report["samples"] == 19 and isinstance(report["trusted"]["calibration"], int)
    assert {row["x"] for row in json.loads((tmp_path / "out" / "flat.rows.json").read_text())}
    checkpoints = sorted((finished / "checkpoints").glob("update_*.ckpt"))
    assert len(checkpoints) >= 2
    policies = (finished, checkpoints[0], finished / "checkpoints" / "best.ckpt")
    assert cli(*score, "--model", finished, "--name", "judge", "--policy", *policies) == 0
    judged = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert len(judged["closed_loop"]) == len(policies) and "regret" in judged["decisions"]
    for one in judged["closed_loop"].values():
        gap = one["return_imagined"]["value"] - one["return_real"]["value"]
        assert one["gap"]["value"] == pytest.approx(gap)
    out = tmp_path / "ranked"
    rank = ("horizon.py", "rank", "--data", folder, "--model", finished, "--out", out, "--jobs", 1)
    rank = (*rank, "--policies")
    assert "1 policies are no ranking" in str(cli(*rank, checkpoints[0]))
    assert cli(*rank, finished, finished / "checkpoints" / "best.ckpt", "--name", "flat") == 0
    ranked = json.loads((out / "flat.rank.json").read_text())
    assert len(ranked["policies"]) == len(ranked["closed_loop"]) >= 3
    rows = json.loads((out / "flat.rank.rows.json").read_text())
    of = lambda way: {row["what"] for row in rows if row["what"].startswith(f"rank/{way}/")}
    assert len(of("decisions")) == 4 and of("by_age") == {
        f"rank/by_age/{what}" for what in ("rank_correlation", "regret", "regret_share")
    }
    assert (out / "flat.rank.png").stat().st_size > 1000


def test_what_a_run_has_seen_is_a_recording(cli, finished, tmp_path):
    run, seen = tmp_path / "run", tmp_path / "seen"
    task = ("--preset", "debug", "--task", "cartpole-balance", "--action_repeat", 10)
    short = ("--steps", 7000, "--prefill", 690, "--eval_every", 0)  # hardly an update
    assert cli("train.py", *task, *short, "--logdir", run) == 0
    record = ("horizon.py", "record", "--out")
    assert "the splits need at least 3" in str(cli(*record, seen, "--from-run", finished))
    assert cli(*record, seen, "--from-run", run) == 0
    made = (seen / "manifest.json").stat().st_mtime_ns
    assert cli(*record, seen, "--from-run", run) == 0  # a queue that was stopped goes on
    assert (seen / "manifest.json").stat().st_mtime_ns == made
    recording, ring = load_recording(seen), load_replay(run)[1]
    kept = [recording.episode(n) for n in range(len(recording.manifest["episodes"]))]
    sums = lambda episodes: sorted((float(e.obs.sum()), float(e.reward.sum())) for e in episodes)
    assert len(kept) >= 6 and sums(kept) == sums(ring.finished())
    assert recording.task == "cartpole-balance" and recording.action_repeat == 10
    assert not recording.restartable and recording.layout[0].name == "position"
    score = ("horizon.py", "score", "--data", seen, "--out", tmp_path / "out", "--model")
    assert "learned from 4 of the 4 calibration and test episodes" in str(cli(*score, run))
    again = tmp_path / "again"
    assert cli(*record, again, "--from-run", run) == 0
    assert cli("horizon.py", "cover", seen, again, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "coverage.json").read_text())
    assert found["seen"]["shown"]["again"]["value"] == 1.0
    assert found["seen"]["entropy"] == found["again"]["entropy"]
    assert "| seen |" in (tmp_path / "out" / "coverage.md").read_text()
