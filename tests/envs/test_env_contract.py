"""What every suite task promises, over all of them."""

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import DmcEnv

TASKS = envs.tasks()
# dm_control's own: lqr pays 1 minus a quadratic cost, which may be negative
UNBOUNDED_REWARD = {"lqr-lqr_2_1", "lqr-lqr_6_2"}
STEPS = 5  # agent steps; the bit-exact replay below runs longer


@cache
def used(task: str) -> DmcEnv:
    """One environment for all that any environment of the task will do: compiling takes 0.1 s."""
    env = DmcEnv(task, seed=99)
    env.reset()
    return env


def trajectory(env: DmcEnv, seed: int) -> list[Any]:
    steps: list[Any] = [env.reset(seed=seed)[0]]
    env.action_space.seed(seed)
    for _ in range(STEPS):
        steps.append(env.step(env.action_space.sample()))
    return steps


def test_the_suite_has_benchmarking_and_extra_tasks():
    assert len(TASKS) == len(set(TASKS)) >= 51
    assert {"walker-walk", "ball_in_cup-catch", "dog-run", "lqr-lqr_6_2"} <= set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_contract(task):
    env = envs.make(task)
    assert isinstance(env, DmcEnv)
    assert env.observation_space.dtype == np.float32
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, env.action_space.shape, np.float32)
    first, *steps = trajectory(env, seed=3)
    for obs, reward, terminated, truncated, _ in steps:
        assert obs in env.observation_space and np.isfinite(obs).all()
        assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
        assert reward <= 2.0 and (reward >= 0.0 or task in UNBOUNDED_REWARD)
    assert first in env.observation_space
    stop = 0  # the layout covers the observation once, in order
    for field in env.layout:
        assert field.start == stop < field.stop and field.slice == slice(field.start, field.stop)
        stop = field.stop
    assert first.shape == (stop,)
    assert env.episode_limit == 500
    assert env.metadata["render_fps"] == max(1, round(1 / env.dt))
    assert env.physics._contexts is None, "a GL context was opened without being asked"

    # another object, used before: the seed alone decides, bit for bit
    again_first, *again_steps = trajectory(used(task), seed=3)
    np.testing.assert_array_equal(first, again_first)
    for step, other in zip(steps, again_steps, strict=True):
        np.testing.assert_array_equal(step[0], other[0])
        assert step[1:] == other[1:]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore:.*observation space (minimum|maximum) value is.*infinity")
def test_gymnasium_check_env(task):
    check_env(used(task), skip_render_check=True)


def test_action_repeat_sums_rewards():
    once, twice = envs.make("walker-walk", action_repeat=1), envs.make("walker-walk")
    once.reset(seed=0)
    twice.reset(seed=0)
    action = np.full(6, 0.3, np.float32)
    for _ in range(5):
        rewards = [once.step(action)[1] for _ in range(2)]
        assert twice.step(action)[1] == sum(rewards)
    assert twice.dt == 2 * once.dt == 0.05


def test_an_episode_is_truncated_at_the_limit_and_its_last_step_may_be_shorter():
    env = DmcEnv("pendulum-swingup", action_repeat=3)  # 1000 = 333 * 3 + 1
    env.reset(seed=0)
    action = np.zeros(1, np.float32)
    flags = [env.step(action)[2:4] for _ in range(env.episode_limit)]
    assert len(flags) == 334
    assert flags[-1] == (False, True) and set(flags[:-1]) == {(False, False)}
    assert int(env.get_state()["step"]) == 1000
    with pytest.raises(gym.error.ResetNeeded):
        env.step(action)


def test_the_task_without_a_limit_gets_one_and_terminates_where_the_task_says():
    env = DmcEnv("lqr-lqr_2_1")
    env.reset(seed=0)
    assert env.episode_limit == 500
    with env.physics.reset_context():
        env.physics.data.qpos[:] = 0  # at rest at the origin: lqr's terminal state
    *_, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
    assert terminated and not truncated


def test_actions_are_clipped_and_rescaled_to_the_range_of_the_task():
    env = DmcEnv("quadruped-walk", action_repeat=1)  # its control ranges are not [-1, 1]
    env.reset(seed=0)
    spec = env._dm.action_spec()
    assert spec.minimum.max() > -1 or spec.maximum.max() > 1
    for action, control in ((-1.0, spec.minimum), (5.0, spec.maximum)):
        env.step(np.full(spec.shape, action, np.float32))
        # one rounding of the midpoint and half range
        np.testing.assert_allclose(env.physics.control(), control, rtol=1e-12)


@pytest.mark.parametrize("action", [np.zeros(5), np.full(6, np.nan)])
def test_a_bad_action_is_refused(action):
    env = envs.make("walker-walk")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(action)


def test_an_unseeded_reset_continues_the_stream():
    env, other = envs.make("reacher-easy"), envs.make("reacher-easy")
    a = [env.reset(seed=1)[0], env.reset()[0], env.reset()[0]]
    b = [other.reset(seed=1)[0], other.reset()[0], other.reset()[0]]
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[0], a[1])
