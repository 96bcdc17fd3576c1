import warnings

import gymnasium as gym
import numpy as np
import pytest

from dreamer_h.guard import EnvironmentFault, checked_picture, checked_reset, checked_step


class Says(gym.Env):
    """Answers a step with what it was given, a reset with the observation alone."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, obs, reward=0.5, terminated=False):
        self.answer = obs, reward, terminated, False, {}

    def reset(self, *, seed=None, options=None):
        return self.answer[0], {}

    def step(self, action):
        return self.answer


GOOD = np.array([0.5, -1.0], np.float32)
STEP = np.zeros(1, np.float32)


def test_a_sound_answer_passes_as_it_is():
    obs, reward, terminated, truncated = checked_step(Says(GOOD, np.float64(2), np.True_), STEP)
    assert (reward, terminated, truncated) == (2.0, True, False)
    assert type(reward) is float and type(terminated) is bool
    np.testing.assert_array_equal(obs, GOOD)
    np.testing.assert_array_equal(checked_reset(Says(GOOD), 0), GOOD)


@pytest.mark.parametrize("obs, said", [
    (np.array([np.nan, 0], np.float32), r"not finite at \[0\]"),
    (np.array([0, np.inf], np.float32), r"not finite at \[1\]"),
    (np.array([0, 1.5], np.float32), "outside its space"),
    (np.zeros(3, np.float32), r"float32 \(3,\), its space is float32 \(2,\)"),
    (np.zeros(2, np.float64), r"float64 \(2,\), its space is float32 \(2,\)"),
])  # fmt: skip
def test_an_observation_outside_the_contract_is_named(obs, said):
    with pytest.raises(EnvironmentFault, match=said):
        checked_reset(Says(obs), 0)
    with pytest.raises(EnvironmentFault, match=said):
        checked_step(Says(obs), STEP)


@pytest.mark.parametrize("reward", [np.nan, -np.inf, 1e300, np.float64(-1e39)])
def test_a_reward_that_float32_cannot_hold_is_a_fault_without_a_warning(reward):
    with warnings.catch_warnings(), pytest.raises(EnvironmentFault, match="reward is .* float32"):
        warnings.simplefilter("error")
        checked_step(Says(GOOD, reward), STEP)


@pytest.mark.parametrize("call", ["reset", "step"])
def test_what_an_environment_raises_is_quoted(monkeypatch, call):
    def broken(self, *args, **kwargs):
        raise ZeroDivisionError("no mass")

    monkeypatch.setattr(Says, call, broken)
    check = {"reset": lambda: checked_reset(Says(GOOD), 0)}.get(
        call, lambda: checked_step(Says(GOOD), STEP)
    )
    with pytest.raises(EnvironmentFault, match=f"{call} raised ZeroDivisionError: no mass"):
        check()


def test_a_reward_that_is_no_number_is_a_fault():
    with pytest.raises(EnvironmentFault, match="step raised TypeError"):
        checked_step(Says(GOOD, None), STEP)


@pytest.mark.parametrize("drawn, said", [
    (None, "render gave object"),
    (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\), not a picture"),
    (np.zeros((4, 4, 3), np.float32), "float32"),
])  # fmt: skip
def test_what_is_no_picture_is_said(monkeypatch, drawn, said):
    env = Says(GOOD)
    monkeypatch.setattr(env, "render", lambda: drawn)
    with pytest.raises(EnvironmentFault, match=said):
        checked_picture(env)
    monkeypatch.setattr(env, "render", lambda: np.ones((4, 5, 3), np.uint8))
    assert checked_picture(env).shape == (4, 5, 3)
    with pytest.raises(EnvironmentFault, match="render raised NotImplementedError"):
        checked_picture(Says(GOOD))
