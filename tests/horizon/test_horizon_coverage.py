"""What recordings show of a task's states."""

import numpy as np
import pytest
import recorded

from dreamer_h.horizon.recorded.coverage import coverage, entropy, resolved, rows, shown, table

EPISODES, LENGTH = 40, 50


def drawn(seed: int, width: float, size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    states = width * np.random.default_rng(seed).normal(size=(EPISODES * LENGTH, size))
    return states, np.repeat(np.arange(EPISODES), LENGTH)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_the_entropy_of_a_normal_is_what_it_is_known_to_be(width):
    found = entropy(*drawn(0, width))
    wanted = 1.5 * np.log(2 * np.pi * np.e * width**2)
    assert found["value"] == pytest.approx(wanted, abs=0.1)
    assert found["lo"] < found["value"] < found["hi"]


def test_steps_of_one_episode_that_are_close_to_each_other_make_nothing_narrower():
    states, episode = drawn(0, 1.0)
    # each state ten times over, as a slow episode has it
    states, episode = np.repeat(states[::10], 10, axis=0), episode
    assert entropy(states, episode)["value"] > entropy(states[::10], episode[::10])["value"] - 2.5


def test_the_wider_recording_shows_what_the_narrow_one_has_and_not_the_other_way_round():
    wide, narrow = drawn(0, 1.0), drawn(1, 0.5)
    resolution = min(resolved(*wide), resolved(*narrow))
    assert shown(wide[0], *narrow, resolution)["value"] > 0.75
    found = shown(narrow[0], *wide, resolution)
    assert found["value"] < 0.5
    assert found["lo"] <= found["value"] <= found["hi"]
    one, other = drawn(2, 1.0), drawn(3, 1.0)
    alike = shown(one[0], *other, resolved(*one))["value"]
    assert alike == pytest.approx(0.95, abs=0.02)


def test_what_is_spread_thin_shows_nothing_of_what_lies_dense():
    thin, dense = drawn(0, 6.0, size=17), drawn(1, 1.0, size=17)
    resolution = min(resolved(*thin), resolved(*dense))
    assert shown(thin[0], *dense, resolution)["value"] < 0.05


def test_recordings_are_held_against_each_other(tmp_path):
    one = recorded.driven(tmp_path / "one")
    other = recorded.driven(tmp_path / "other", seed=1)
    found = coverage({"one": one, "other": other})
    assert set(found) == {"one", "other"}
    assert 0.5 < found["one"]["shown"]["other"]["value"] <= 1.0
    listed = rows(found, "driven")
    assert len(listed) == 4 and {row["task"] for row in listed} == {"driven"}
    assert [row["value"] for row in listed if row["what"] == "shown/other/by/one"] == [
        found["one"]["shown"]["other"]["value"]
    ]
    text = table(found)
    assert text.count("\n") == 4 and "| one |" in text
