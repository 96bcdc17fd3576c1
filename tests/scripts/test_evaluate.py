import json
import re

import imageio.v3 as iio
import numpy as np
import pytest

import envs
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.seeds import Stream, derive

ROW = ["what", "task", "seed", "x", "value", "lo", "hi", "unit"]


def test_a_table_of_both_policies(finished, cli, capsys):
    assert cli("evaluate.py", finished, "--episodes", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cartpole-balance at 2400 env steps (latest checkpoint)"
    number = r"\d+\.\d"
    for name, line in zip(("mode", "sampled"), lines[2:4], strict=True):
        assert re.fullmatch(
            rf"{name} +{number} +\[{number}, {number}\] +{number} +{number} +2", line
        )


def test_rows_are_those_of_results_and_repeat(finished, cli, capsys):
    printed = []
    for _ in range(2):
        assert cli("evaluate.py", finished, "--episodes", 2, "--json") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    rows = json.loads(printed[0])
    sums = ["return_imagined", "return_real", "gap_imagined"]
    assert [row["what"] for row in rows] == ["return_mode", "return_sampled", *sums]
    for row in rows:
        assert list(row) == ROW
        assert (row["task"], row["seed"], row["x"]) == ("cartpole-balance", 0, 2400)
        assert row["lo"] <= row["value"] <= row["hi"] <= 1000
    assert all(row["unit"] == "return" and row["lo"] >= 0 for row in rows[:2])
    promised, paid, gap = (row["value"] for row in rows[2:])
    assert gap == pytest.approx(promised - paid)


def test_another_seed_plays_other_episodes(finished, cli, capsys):
    values = []
    for seed in (0, 1):
        assert cli("evaluate.py", finished, "--episodes", 2, "--json", "--seed", seed) == 0
        values.append([row["value"] for row in json.loads(capsys.readouterr().out)])
    assert values[0] != values[1]


def test_no_evaluation_resets_as_training_did(finished, cli, monkeypatch):
    reset = []
    original = envs.DmcEnv.reset

    def watched(self, *, seed=None, options=None):
        reset.append(seed)
        return original(self, seed=seed, options=options)

    monkeypatch.setattr(envs.DmcEnv, "reset", watched)
    assert cli("evaluate.py", finished, "--episodes", 2) == 0
    assert reset == 2 * [derive(0, Stream.TEST, 0, i) for i in range(2)]
    trained = {derive(0, Stream.COLLECT, env, n) for env in range(16) for n in range(1000)}
    trained |= {derive(0, Stream.EVALUATE, x, i) for x in range(0, 20_000, 4) for i in range(10)}
    held_out = {derive(0, Stream.TEST, seed, i) for seed in range(10) for i in range(100)}
    assert len(held_out) == 1000 and not held_out & trained


def test_the_best_checkpoint_can_be_chosen(finished, cli, capsys):
    assert cli("evaluate.py", finished, "--episodes", 1, "--checkpoint", "best") == 0
    assert re.match(r"cartpole-balance at (1200|2400) env steps \(best", capsys.readouterr().out)
    assert Checkpoints(finished / "checkpoints").best_score() >= 0


@pytest.mark.skipif(not envs.video_available(), reason="OpenGL is missing")
def test_a_video_of_the_mode(finished, cli, tmp_path, capsys):
    assert (
        cli("evaluate.py", finished, "--episodes", 1, "--video", "--json", "--out", tmp_path) == 0
    )
    captured = capsys.readouterr()
    json.loads(captured.out)  # the video's path goes elsewhere
    assert str(tmp_path / "evaluation.mp4") in captured.err
    frames = iio.imread(tmp_path / "evaluation.mp4")
    assert frames.shape == (251, 240, 320, 3) and frames.dtype == np.uint8
    assert np.abs(frames[1:].astype(float) - frames[:-1]).max() > 10  # it moves


@pytest.mark.parametrize("arguments, answer", [
    (["nowhere"], "nowhere has no config.json; give the --logdir of a run of train.py"),
    (["."], "has no latest checkpoint; let the run train on first"),
    ([".", "--checkpoint", "best"], "has no best checkpoint"),
    ([".", "--episodes", "0"], "--episodes is 0; it must be at least 1"),
])  # fmt: skip
def test_what_is_missing_is_said(finished, tmp_path, cli, monkeypatch, arguments, answer):
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    found = cli("evaluate.py", *arguments)
    assert str(found).startswith("ValueError: ") and answer in str(found)


@pytest.mark.slow
def test_subgoals_are_measured_by_the_replay_or_else_it_is_said(cli, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    assert cli("train.py", *tiny, "--levels", 2, "--strides", 4, "--logdir", run) == 0

    def printed() -> str:
        capsys.readouterr()
        assert cli("evaluate.py", run, "--episodes", 2) == 0
        out, err = capsys.readouterr()
        assert all(name in out for name in ("attained/real", "gap_manager", "manager/entropy"))
        return err

    assert "without the replay" not in printed()
    for path in (run / "replay").iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match="nothing tells what .* has seen"):
        assert "without the replay" in printed()
