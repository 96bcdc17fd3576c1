"""Imagining from a recorded context, with and without levels."""

import imageio.v3 as iio
import numpy as np
import pytest

import envs


def test_a_flat_run_goes_on_alone(finished, cli, tmp_path, capsys):
    path = tmp_path / "out.npz"
    assert cli("simulate.py", finished, "--begin", 8, "--steps", 20, "--save", path) == 0
    assert "level 0 alone" in capsys.readouterr().out
    with np.load(path) as found:
        assert found["obs"].shape == (29, 5) and found["imagined"].shape == (8, 21, 5)
        assert np.isfinite(found["imagined"]).all()
        assert found["action"].shape == (8, 20, 1) and found["imagined_reward"].shape == (8, 21)
        assert list(found["names"][:2]) == ["position[0]", "position[1]"]
    assert path.with_suffix(".png").stat().st_size > 10_000
    actions = []
    for seed in (0, 0, 1):
        assert cli(
            "simulate.py", finished, "--steps", 5, "--actions", "policy", "--samples", 2,
            "--seed", seed, "--save", path,
        ) == 0  # fmt: skip
        actions.append(np.load(path)["action"])
    np.testing.assert_array_equal(actions[0], actions[1])
    assert np.any(actions[0] != actions[2]) and np.any(actions[0][0] != actions[0][1])


@pytest.mark.slow
def test_an_upper_level_marks_its_waypoints(added, cli, tmp_path, capsys):
    path = tmp_path / "with levels.npz"
    assert cli("simulate.py", added, "--level", 1, "--steps", 10, "--save", path) == 0
    assert "level 1: jumps from agent step 0 to 12" in capsys.readouterr().out
    with np.load(path) as found:
        np.testing.assert_array_equal(found["level1/steps"], [0, 4, 8, 12])
        assert found["level1/obs"].shape == (8, 4, 5) and found["imagined"].shape == (8, 11, 5)


@pytest.mark.slow
@pytest.mark.skipif(not envs.video_available(), reason="no OpenGL")
def test_a_film_shows_every_step(finished, cli, tmp_path):
    path = tmp_path / "out.npz"
    assert cli("simulate.py", finished, "--steps", 20, "--video", "--save", path) == 0
    shown = iio.imread(path.with_suffix(".mp4"))
    assert shown.shape[0] == 37 and shown[20].std() > 1


@pytest.mark.parametrize(
    "arguments, answer",
    [
        (["--level", 1, "--steps", 5], "has levels 0 to 0"),
        (["--level", 1, "--actions", "policy"], "chooses an action a step"),
        (["--steps", 0], "--steps is 0"),
        (["--steps", 9999], "the episode has 250 agent steps"),
        (["--context", "nowhere"], "no finished recording"),
    ],
)
def test_bad_input_is_answered_with_advice(finished, cli, tmp_path, arguments, answer):
    code = cli("simulate.py", finished, *arguments, "--save", tmp_path / "x.npz")
    assert answer in str(code)
