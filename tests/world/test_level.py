import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.types import Latent
from dreamer_h.world.level import Level, forget

T = 4
EMBEDDING = 3


@pytest.fixture(scope="module")
def level() -> Level:
    return tiny.weights(
        lambda: Level(
            EMBEDDING, tiny.ACTION, deter=6, hidden=5, groups=2, classes=4, blocks=2, unimix=0.01,
            key=jr.key(0),
        )
    )  # fmt: skip


along = jax.jit(lambda level, *inputs, key: level.observe_sequence(*inputs, key=key))
one = jax.jit(lambda level, *inputs, key: level.observe(*inputs, key=key))


@pytest.fixture
def inputs(normal):
    """Actions (T, A), embeddings (T1, E), and an episode that begins inside the window."""
    is_first = jnp.asarray([False, False, True, False, False])
    return normal(T, tiny.ACTION), normal(T + 1, EMBEDDING), is_first


# Threefry keys throughout: with them a draw in a batch equals the draw alone.


def test_observing_step_by_step_equals_observing_the_sequence(level, inputs, seed):
    action, embedding, is_first = inputs
    key = jr.key(seed)
    sequence = along(level, *inputs, key=key)
    keys, latent = jr.split(key, T + 1), level.initial()
    for t in range(T + 1):
        led_here = action[t - 1] if t > 0 else jnp.zeros(tiny.ACTION)
        if is_first[t]:
            latent, led_here = level.initial(), jnp.zeros(tiny.ACTION)
        latent = one(level, latent, led_here, embedding[t], key=keys[t])
        # matrix products of another batch size round differently
        wanted = jax.tree.map(lambda leaf, t=t: leaf[t], sequence)
        chex.assert_trees_all_close(latent, wanted, rtol=1e-4, atol=1e-5)


def test_a_new_episode_forgets_the_past_exactly(level, inputs, seed, normal):
    action, embedding, is_first = inputs
    key = jr.key(seed)
    found = along(level, *inputs, key=key)
    # the action that "led to" the first observation belongs to the past, too
    action = action.at[:2].set(100.0 * normal(2, tiny.ACTION))
    embedding = embedding.at[:2].set(normal(2, EMBEDDING, scale=100.0))
    other = along(level, action, embedding, is_first, key=key)
    after = lambda latent: jax.tree.map(lambda leaf: leaf[2:], latent)
    chex.assert_trees_all_equal(after(found), after(other))
    assert not np.array_equal(found.logits[:2], other.logits[:2])
    # without the mark the past is felt
    unmarked = along(level, action, embedding, jnp.zeros_like(is_first), key=key)
    assert not np.array_equal(unmarked.deter[2], other.deter[2])


def test_the_past_cannot_know_the_future(level, inputs, seed):
    action, embedding, is_first = inputs
    key, is_first = jr.key(seed), jnp.zeros_like(is_first)
    action = 0.5 * jnp.tanh(action)  # beyond the box all actions are alike
    found = along(level, action, embedding, is_first, key=key)
    other = along(level, action.at[2:].add(0.4), embedding.at[3:].add(1.0), is_first, key=key)
    before = lambda latent: jax.tree.map(lambda leaf: leaf[:3], latent)
    chex.assert_trees_all_equal(before(found), before(other))
    assert not np.array_equal(found.deter[3], other.deter[3])


def test_a_batch_of_sequences_equals_a_loop_over_them(level, seed, normal):
    keys = jr.split(jr.key(seed), 3)
    action, embedding = normal(3, T, tiny.ACTION), normal(3, T + 1, EMBEDDING)
    is_first = jnp.zeros((3, T + 1), bool).at[1, 2].set(True).at[2, 0].set(True)
    batched = jax.jit(jax.vmap(lambda *inputs, key: level.observe_sequence(*inputs, key=key)))(
        action, embedding, is_first, key=keys
    )
    for b in range(3):
        alone = along(level, action[b], embedding[b], is_first[b], key=keys[b])
        wanted = jax.tree.map(lambda leaf, b=b: leaf[b], batched)
        chex.assert_trees_all_close(alone, wanted, rtol=1e-4, atol=1e-5)


def test_forget_zeroes_where_an_episode_begins_and_nothing_else():
    latent = Latent(jnp.full((3, 6), jnp.nan), jnp.full((3, 2, 4), jnp.inf), jnp.ones((3, 2, 4)))
    kept = forget(latent, jnp.asarray([True, False, True]))
    for found, leaf in zip(jax.tree.leaves(kept), jax.tree.leaves(latent), strict=True):
        np.testing.assert_array_equal(found[jnp.asarray([0, 2])], 0.0)
        np.testing.assert_array_equal(found[1], leaf[1])
    half = forget(
        dataclasses.replace(latent, deter=latent.deter.astype(jnp.bfloat16)), jnp.ones(3, bool)
    )
    assert half.deter.dtype == jnp.bfloat16


def test_codes_are_one_hot_and_drawn_from_the_logits_of_their_latent(level, inputs, seed):
    latent = along(level, *inputs, key=jr.key(seed))
    code = np.asarray(latent.code)
    np.testing.assert_allclose(code, np.round(code), atol=1e-6)
    np.testing.assert_allclose(code.sum(-1), 1.0, atol=1e-6)
    # the posterior's logits, not the prior's: very sure ones decide the draw
    bias = jnp.zeros(8).at[jnp.asarray([1, 6])].set(1e3)
    sure = eqx.tree_at(lambda l: l.posterior_output.bias, level, bias)
    keys = jr.split(jr.key(seed), 200)
    many = jax.jit(jax.vmap(lambda key: sure.observe_sequence(*inputs, key=key).code))(keys)
    # 2000 draws with a uniform share of 1 %, of which 3 in 4 are another class: 15, at most 40
    other = np.sum(np.asarray(many.argmax(-1)) != [1, 2])
    assert 1 <= other <= 40
