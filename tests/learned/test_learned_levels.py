"""One step of the environment is a jump of an upper level."""

import warnings

import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.learned import LearnedEnv, LearnedVectorEnv, to_gymnax

STRIDE, LIMIT = 4, 250


@pytest.fixture(scope="module")
def env(jumping) -> LearnedEnv:
    return LearnedEnv(jumping, level=1)


def choices(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (count, 8))


def test_gymnasium_finds_no_fault(jumping):
    made = gym.make("dreamer_h/Learned-v0", run=jumping, level=1, disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*observation space m.* value is")
        check_env(made.unwrapped, skip_render_check=True)


def test_an_action_is_a_macro_action_and_a_step_a_jump(env):
    real = envs.make("cartpole-balance", action_repeat=4)
    assert env.observation_space == real.observation_space
    assert env.action_space == gym.spaces.MultiDiscrete([5] * 8)
    assert env.dt == pytest.approx(STRIDE * real.dt)
    env.reset(seed=0)
    steps = [env.step(choice) for choice in choices(63)]
    assert [step[-1]["steps"] for step in steps] == list(range(4, 253, 4))
    # the limit of 250 agent steps lies inside the last jump
    assert [step[3] for step in steps] == [False] * 62 + [True]


def test_a_shorter_limit_counts_jumps_however_it_is_made(jumping):
    short = {"run": jumping, "level": 1, "max_episode_steps": 5}
    one = gym.make("dreamer_h/Learned-v0", **short)
    alone = LearnedEnv(jumping, level=1, max_episode_steps=5)
    for env in (one, alone):
        env.reset(seed=0)
        assert [env.step(choice)[3] for choice in choices(5)] == [False] * 4 + [True]
    many = gym.make_vec("dreamer_h/Learned-v0", num_envs=1, **short)
    many.reset(seed=0)
    assert [bool(many.step(choice[None])[3][0]) for choice in choices(5)] == [False] * 4 + [True]
    endless = LearnedEnv(jumping, level=1, max_episode_steps=-1)
    assert endless.episode_limit == LIMIT
    with pytest.raises(ValueError, match="max_episode_steps is 0"):
        LearnedEnv(jumping, max_episode_steps=0)


def test_macro_actions_lead_elsewhere(env):
    reached = []
    for choice in (np.zeros(8, int), np.zeros(8, int), np.full(8, 4)):
        env.reset(seed=1)
        reached.append(env.step(choice)[0])
    np.testing.assert_array_equal(reached[0], reached[1])
    assert np.any(reached[0] != reached[2])


@pytest.mark.parametrize("wrong", [np.full(8, 5), np.full(8, -1), np.zeros(7, int), np.zeros(8)])
def test_what_is_no_macro_action_is_refused(env, wrong):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="needed is one of MultiDiscrete"):
        env.step(wrong)


def test_it_is_judged_by_real_actions_all_the_same(env):
    obs, reward = env.counterfactual(0, 20, np.zeros((6, 1)), samples=3)
    assert obs.shape == (3, 6, 5) and reward.shape == (3, 6)
    env.reset(options={"episode": 0, "t": 20})
    assert env.step(choices(1)[0])[-1]["steps"] == STRIDE


def test_many_are_as_single_ones(env, jumping):
    many = LearnedVectorEnv(3, jumping, level=1)
    given = np.stack([choices(5, seed) for seed in range(3)], axis=1)
    begun, _ = many.reset(seed=7)
    found = [many.step(one) for one in given]
    for i in range(3):
        np.testing.assert_allclose(env.reset(seed=7 + i)[0], begun[i], 1e-5)
        for t, choice in enumerate(given[:, i]):
            obs, reward, *_ = env.step(choice)
            np.testing.assert_allclose(found[t][0][i], obs, 1e-4, 1e-4)
            np.testing.assert_allclose(found[t][1][i], reward, 1e-3, 1e-5)


def test_it_has_the_interface_of_gymnax(jumping):
    made = to_gymnax(jumping, level=1)
    space = made.action_space()
    action = space.sample(jr.key(0))
    assert made.num_actions == 8 and action.shape == (8,) and space.contains(action)
    assert not space.contains(jnp.full(8, 5))
    obs, state = made.reset(jr.key(1))
    obs, state, reward, done, _ = jax.jit(made.step)(jr.key(2), state, action)
    assert obs.shape == (5,) and state.steps == STRIDE and not done


def test_what_the_levels_cannot_give_is_refused(jumping):
    with pytest.raises(ValueError, match="level is 2; .* has level 0 to 1"):
        LearnedEnv(jumping, level=2)
    with pytest.raises(ValueError, match="for agent steps; level 1 jumps"):
        LearnedEnv(jumping, level=1, truncate_on_trust=True)
