"""Stable-Baselines3 takes the learned simulator for one of its own; `make test-agents`."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.env_checker import (  # pyright: ignore[reportMissingImports]
    check_env,
)

from envs.learned import LearnedEnv, LearnedVectorEnv
from envs.learned.sb3 import LearnedVecEnv, to_sb3

LIMIT = 4


def test_it_finds_no_fault(run):
    check_env(LearnedEnv(run), warn=True)


def test_its_steps_are_those_of_the_vector(run):
    ours, theirs = (to_sb3(run, 3, max_episode_steps=LIMIT) for _ in range(2))
    ours.seed(7)
    obs = ours.reset()
    np.testing.assert_array_equal(obs, theirs.env.reset(seed=7)[0])
    given = np.random.default_rng(0).uniform(-1, 1, (2 * LIMIT, 3, 1)).astype(np.float32)
    for step, action in enumerate(given, 1):
        obs, reward, done, infos = ours.step(action)
        there, paid, terminated, truncated, told = theirs.env.step(action)
        np.testing.assert_array_equal(obs, there)
        np.testing.assert_allclose(reward, paid)
        assert done.tolist() == (terminated | truncated).tolist() == [step % LIMIT == 0] * 3
        assert [info["steps"] for info in infos] == [(step - 1) % LIMIT + 1] * 3
        if done.any():
            assert all(info["TimeLimit.truncated"] for info in infos)
            for i in range(3):
                np.testing.assert_array_equal(
                    infos[i]["terminal_observation"], told["final_obs"][i]
                )


def test_another_mode_is_refused(run):
    with pytest.raises(ValueError, match="SameStep"):
        LearnedVecEnv(LearnedVectorEnv(2, run))


def test_what_is_of_all_is_set_for_all(run):
    env = to_sb3(run, 3)
    env.set_attr("note", 7)
    assert env.get_attr("note") == [7, 7, 7] == [env.env.note] * 3  # pyright: ignore
    with pytest.raises(ValueError, match="without indices"):
        env.set_attr("note", 8, indices=[0])
    with pytest.raises(ValueError, match=r"call fork of `\.env`"):
        env.env_method("fork")
