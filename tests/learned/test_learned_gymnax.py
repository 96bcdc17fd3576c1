"""Behind gymnax's interface: compiled end to end, and the same episodes."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from envs.learned import LearnedEnv, to_gymnax


@pytest.fixture(scope="module")
def env(run):
    return to_gymnax(run)


def rollout(env, params, steps: int, keys):
    """Observations and so on (steps, E, …), compiled as one program."""

    def one(key):
        reset_key, key = jr.split(key)
        obs, state = env.reset(reset_key, params)

        def step(carry, key):
            act_key, step_key = jr.split(key)
            action = env.action_space(params).sample(act_key)
            obs, state, reward, done, info = env.step(step_key, carry, action, params)
            return state, (obs, reward, done, info["discount"], state.steps)

        return jax.lax.scan(step, state, jr.split(key, steps))[1]

    return jax.jit(jax.vmap(one))(keys)


def test_whole_rollouts_are_one_program(env):
    params = env.default_params.replace(max_steps_in_episode=5)
    obs, reward, done, discount, steps = rollout(env, params, 12, jr.split(jr.key(0), 3))
    assert obs.shape == (3, 12, *env.observation_space(params).shape)
    assert np.isfinite(obs).all() and np.isfinite(reward).all()
    assert np.flatnonzero(done[0]).tolist() == [4, 9] and (discount == 1.0).all()
    assert steps[0].tolist() == [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    assert not np.array_equal(obs[0], obs[1])


def test_a_step_is_that_of_the_environment(env, run):
    single = LearnedEnv(run)
    single.reset(seed=0)
    state, action = single._episode, np.full(1, 0.3, np.float32)
    assert state is not None
    obs, _, reward, done, _ = env.step_env(
        state.key, state, jnp.asarray(action), env.default_params
    )
    there, paid, *_ = single.step(action)
    np.testing.assert_allclose(obs, there, rtol=1e-4, atol=1e-4)
    assert reward == pytest.approx(paid, abs=1e-4) and not done


def test_it_says_what_trainers_ask(env):
    assert env.num_actions == 1 and env.default_params.max_steps_in_episode == 250
    box = env.action_space()
    assert (box.low, box.high, box.shape) == (-1.0, 1.0, (1,))
    assert box.contains(box.sample(jr.key(0)))
    assert env.observation_space().sample(jr.key(0)).shape == (5,)
