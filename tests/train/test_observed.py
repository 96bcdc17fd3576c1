"""What is known of the entries of observations."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FrameStackObservation, RescaleAction, TransformObservation

import envs
from dreamer_h.horizon.recorded.layout import fields_of, names_of
from dreamer_h.train.contract import observed
from dreamer_h.types import Observed
from envs.layout import Field


class Told(gym.Env):
    """Says what its two numbers are."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    layout = (Field("hand", 0, 1, "position"), Field("turn", 1, 2, "angle"))


def test_an_angle_is_known_by_its_layout():
    assert observed(Told()) == Observed((2,), np.dtype(np.float32), (1,))
    assert names_of(fields_of(Told())) == ["hand", "turn"]


def test_a_wrapper_of_actions_changes_nothing_of_it():
    assert observed(RescaleAction(Told(), np.float32(-1), np.float32(1))).angles == (1,)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: TransformObservation(env, lambda obs: obs / 2, env.observation_space),
        lambda env: FrameStackObservation(env, 2),
    ],
)
def test_of_observations_that_a_wrapper_changes_nothing_is_known(wrap):
    fields = fields_of(wrap(Told()))
    assert [field.kind for field in fields] == ["other"]
    assert fields[0].stop in (2, 4)


def test_the_shoulder_of_reacher_is_an_angle():
    env = envs.make("reacher-easy")
    try:
        assert observed(env).angles == (0,)
    finally:
        env.close()


def test_it_survives_json_and_older_checkpoints_have_none():
    seen = Observed((4,), np.dtype(np.float32), (0, 2))
    assert Observed.from_json(seen.as_json()) == seen
    old = {"shape": [4], "dtype": "float32"}
    assert Observed.from_json(old) == Observed((4,), np.dtype(np.float32))
