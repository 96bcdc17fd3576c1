"""What recordings show of a task's states."""

import numpy as np
import pytest
import recorded

from dreamer_h.horizon.coverage import coverage, entropy, shown, table

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
    wide, narrow = drawn(0, 2.0), drawn(1, 0.5)
    assert shown(*wide, *narrow)["value"] > 0.98
    found = shown(*narrow, *wide)
    assert found["value"] < 0.3
    assert found["lo"] <= found["value"] <= found["hi"]
    alike = shown(*drawn(2, 1.0), *drawn(3, 1.0))["value"]
    assert alike == pytest.approx(0.95, abs=0.02)


def test_recordings_are_held_against_each_other(tmp_path):
    one = recorded.driven(tmp_path / "one")
    other = recorded.driven(tmp_path / "other", seed=1)
    found = coverage({"one": one, "other": other})
    assert set(found) == {"one", "other"}
    assert 0.5 < found["one"]["shown"]["other"]["value"] <= 1.0
    text = table(found)
    assert text.count("\n") == 4 and "| one |" in text
