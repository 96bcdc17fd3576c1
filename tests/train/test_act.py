import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.train.act import Memory, act, init_memory
from dreamer_h.train.state import Agent, init_agent
from dreamer_h.types import Latent

E = 3


@pytest.fixture(scope="module")
def agent() -> Agent:
    return tiny.weights(lambda: init_agent(tiny.STATE, tiny.ACTION, tiny.config()))


@pytest.fixture
def memory(normal) -> Memory:
    code = jnp.eye(4)[jnp.asarray([[0, 1], [2, 3], [1, 1]])]
    return Memory(
        Latent(normal(E, 8), code, normal(E, 2, 4)), normal(E, tiny.ACTION), normal(E, tiny.ACTION)
    )


NO, YES = jnp.zeros(E, bool), jnp.ones(E, bool)


def run(agent, memory, obs, is_first=NO, sample=YES, step=0):
    # one seed: it is static, and another would compile again
    return act(agent, memory, obs, is_first, sample, jnp.int32(step), seed=5)


def test_a_new_episode_forgets_the_past_exactly(agent, memory, normal):
    obs, first = normal(E, tiny.OBS), jnp.asarray([True, False, True])
    found, action = run(agent, memory, obs, first)
    poisoned = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan).at[2].set(1e9), memory)
    again, other = run(agent, poisoned, obs, first)
    chex.assert_trees_all_equal((found, action), (again, other))
    empty, fresh = run(agent, init_memory(agent, E, tiny.ACTION), obs, first)
    np.testing.assert_array_equal(fresh[jnp.asarray([0, 2])], action[jnp.asarray([0, 2])])
    assert not np.array_equal(empty.latent.deter[1], found.latent.deter[1])


def test_acting_follows_the_posterior_of_the_world(agent, memory, normal):
    obs = normal(E, tiny.OBS)
    found, action = run(agent, memory, obs, sample=NO, step=9)
    observe_key, _ = jr.split(jr.fold_in(jr.key(5), 9))
    keys = jr.split(observe_key, E)
    observe = jax.jit(lambda *inputs, key: agent.world.observe(*inputs, key=key))
    for e in range(E):
        here = jax.tree.map(lambda leaf, e=e: leaf[e], memory)
        wanted = observe(here.latent, here.action, obs[e], key=keys[e])
        latent = jax.tree.map(lambda leaf, e=e: leaf[e], found.latent)
        chex.assert_trees_all_close(latent, wanted, rtol=1e-4, atol=1e-5)
        mode = agent.behaviour.policy(wanted.features).mode
        np.testing.assert_allclose(action[e], mode, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.action, action)  # the next posterior is told of it


def test_environments_do_not_see_each_other(agent, memory, normal):
    obs = normal(E, tiny.OBS)
    found, action = run(agent, memory, obs)
    other = jax.tree.map(lambda leaf: leaf.at[1].add(1.0), memory)
    again, other_action = run(agent, other, obs.at[1].add(1.0))
    for e in (0, 2):
        np.testing.assert_array_equal(action[e], other_action[e])
        np.testing.assert_array_equal(found.latent.deter[e], again.latent.deter[e])
    assert not np.array_equal(action[1], other_action[1])


def test_the_action_is_drawn_where_asked_and_the_mode_elsewhere(agent, memory, normal):
    obs = normal(E, tiny.OBS)
    some = jnp.asarray([True, False, True])
    drawn, mode = run(agent, memory, obs)[1], run(agent, memory, obs, sample=NO)[1]
    mixed = run(agent, memory, obs, sample=some)[1]
    np.testing.assert_array_equal(mixed, np.where(some[:, None], drawn, mode))
    assert not np.array_equal(drawn[0], mode[0])


def test_the_seed_and_the_step_make_the_randomness(agent, memory, normal):
    obs = normal(E, tiny.OBS)
    chex.assert_trees_all_equal(run(agent, memory, obs, step=3), run(agent, memory, obs, step=3))
    assert not np.array_equal(
        run(agent, memory, obs, step=3)[1], run(agent, memory, obs, step=4)[1]
    )


def test_noise_leans_on_that_of_the_step_before_and_stays_standard_normal(agent, normal):
    obs, count = normal(E, tiny.OBS), 400
    memory, found = init_memory(agent, E, tiny.ACTION), []
    for step in range(count):
        first = YES if step == 0 else NO
        memory, action = act(agent, memory, obs, first, YES, jnp.int32(step), 0.9, seed=5)
        policy = agent.behaviour.policy(memory.latent.features)
        drawn = policy.location + policy.scale * memory.noise
        np.testing.assert_allclose(action, np.clip(drawn, -1, 1), atol=1e-6)
        found.append(np.asarray(memory.noise))
    before, after = np.stack(found[:-1]), np.stack(found[1:])
    fresh = after - 0.9 * before  # independent draws of variance 0.19
    assert abs(fresh.std() / np.sqrt(0.19) - 1) < 0.06  # 4 deviations of 2400 draws
    assert abs(np.corrcoef(fresh.ravel(), before.ravel())[0, 1]) < 0.09
    _, anew = act(agent, memory, obs, YES, YES, jnp.int32(count), 0.9, seed=5)
    _, white = act(agent, memory, obs, YES, YES, jnp.int32(count), 0.0, seed=5)
    np.testing.assert_array_equal(anew, white)  # an episode's first draw leans on nothing


def test_actions_stay_in_the_box(agent, memory, normal):
    wide = eqx.tree_at(
        lambda a: a.behaviour.actor.output.bias, agent, jnp.asarray([3.0, -3.0, 50.0, 50.0])
    )
    obs = normal(E, tiny.OBS)
    actions = np.stack([run(wide, memory, obs, step=i)[1] for i in range(30)])
    # means of +-1 and std of 1: about half of the draws lie beyond
    assert np.abs(actions).max() == 1.0
    assert 0.2 < np.mean(np.abs(actions) == 1.0) < 0.8


def test_memory_begins_with_zeros(agent):
    memory = init_memory(agent, E, tiny.ACTION)
    for leaf in jax.tree.leaves(memory):
        assert leaf.shape[0] == E
        np.testing.assert_array_equal(leaf, 0.0)
