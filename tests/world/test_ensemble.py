"""Guesses of the next step: what their differences say, and that nothing else learns from them."""

import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import oracles
import pytest
import tiny

from dreamer_h.config import JumpConfig, ReplayConfig
from dreamer_h.nn.distributions import OneHot
from dreamer_h.world.ensemble import UNIMIX, Ensemble
from dreamer_h.world.losses import posterior_losses
from dreamer_h.world.objective import batch_losses, scales
from dreamer_h.world.upper.hierarchy import make_world
from dreamer_h.world.world import World

M, F, G, O, CHANGE = 4, 5, 2, 3, 0.1
DOUBTING = dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True, ensemble=M)
TRUSTING = dataclasses.replace(DOUBTING, ensemble=0)


def make(carried: int) -> Ensemble:
    build = lambda: Ensemble(
        F, G, carried=carried, groups=2, classes=4, change=CHANGE, members=M, units=8, key=jr.key(0)
    )
    return tiny.weights(build)


def guesses(ensemble: Ensemble, inputs) -> np.ndarray:
    """(M, N, outputs), one head after the other."""
    hidden = ensemble.trunk(jnp.concatenate(inputs, axis=-1))
    heads = [jax.tree.map(lambda leaf, m=m: leaf[m], ensemble.heads) for m in range(M)]
    return np.float64([head(hidden) for head in heads])


def without_ensemble(world: World) -> World:
    return eqx.tree_at(lambda world: world.ensemble, world, None)


@pytest.fixture
def inputs(normal):
    return normal(6, F), normal(6, G)


def test_of_an_observation_it_is_how_much_the_guesses_add_to_what_none_can_know(inputs):
    ensemble = make(O)
    variance = (CHANGE * guesses(ensemble, inputs)).var(axis=0)
    floor = -4.6 + np.log1p(np.exp(np.float64(ensemble.log_scale) + 4.6))
    wanted = 0.5 * np.log1p(variance / np.exp(2 * floor)).sum(-1)
    np.testing.assert_allclose(ensemble.information(*inputs), wanted, rtol=1e-4)


def test_of_a_code_it_is_how_far_the_guesses_are_from_their_mixture(inputs):
    ensemble = make(0)
    logits = guesses(ensemble, inputs).reshape(M, 6, 2, 4)
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs = (1 - UNIMIX) * probs / probs.sum(-1, keepdims=True) + UNIMIX / 4
    entropy = lambda p: -(p * np.log(p)).sum((-2, -1))
    wanted = entropy(probs.mean(0)) - entropy(probs).mean(0)
    found = ensemble.information(*inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert (found < 2 * np.log(M)).all()


@pytest.mark.parametrize("carried", [O, 0])
def test_guesses_that_agree_know_all(inputs, carried):
    ensemble = make(carried)
    alike = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), ensemble.heads)
    ensemble = eqx.tree_at(lambda e: e.heads, ensemble, alike)
    np.testing.assert_allclose(ensemble.information(*inputs), 0.0, atol=1e-5)


def test_what_they_are_taught_is_the_mean_of_their_nats(inputs, normal):
    ensemble, before, after = make(O), normal(6, O), normal(6, O)
    code = OneHot.from_logits(normal(6, 2, 4), 0.0)
    scale = -4.6 + np.log1p(np.exp(np.float64(ensemble.log_scale) + 4.6))
    away = before + CHANGE * guesses(ensemble, inputs) - oracles.symlog(np.float64(after))
    wanted = (0.5 * np.square(away / np.exp(scale)) + scale).sum(-1).mean(0)
    found = ensemble.loss(*inputs, before, code, after)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    of_code = make(0)
    logs = OneHot.from_logits(jnp.asarray(guesses(of_code, inputs)).reshape(M, 6, 2, 4), UNIMIX)
    wanted = jax.vmap(lambda log_probs: code.kl(OneHot(log_probs)))(logs.log_probs).mean(0)
    np.testing.assert_allclose(
        of_code.loss(*inputs, None, code, after), wanted, rtol=1e-4, atol=1e-5
    )


def test_surprise_is_that_of_all_guesses_together(inputs, normal):
    ensemble, before, after = make(O), normal(6, O), normal(6, O)
    code = OneHot.from_logits(normal(6, 2, 4), 0.0)
    guess = before + CHANGE * guesses(ensemble, inputs)
    floor = -4.6 + np.log1p(np.exp(np.float64(ensemble.log_scale) + 4.6))
    variance = guess.var(axis=0) + np.exp(2 * floor)
    away = guess.mean(axis=0) - oracles.symlog(np.float64(after))
    wanted = 0.5 * (away**2 / variance + np.log(variance)).sum(-1)
    found = ensemble.surprise(*inputs, before, code, after)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    of_code = make(0)
    logs = OneHot.from_logits(jnp.asarray(guesses(of_code, inputs)).reshape(M, 6, 2, 4), UNIMIX)
    mixture = OneHot(jnp.log(jnp.exp(logs.log_probs).mean(0)))
    found = of_code.surprise(*inputs, None, code, after)
    np.testing.assert_allclose(found, code.kl(mixture), rtol=1e-3, atol=1e-4)


def test_they_agree_where_they_were_taught_and_nowhere_else():
    rng = np.random.default_rng(0)
    ensemble = Ensemble(
        F, G, carried=O, groups=2, classes=4, change=1.0, members=M, units=32, key=jr.key(1)
    )
    near = jnp.asarray(rng.normal(size=(256, F)), jnp.float32) * 0.5
    after = jnp.sin(near[:, :O])
    code, given = OneHot.from_logits(jnp.zeros((256, 2, 4)), 0.0), jnp.zeros((256, G))

    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 600))

    @jax.jit
    def step(ensemble, moments):
        loss = lambda ensemble: ensemble.loss(near, given, jnp.zeros((256, O)), code, after).mean()
        steps, moments = optimizer.update(jax.grad(loss)(ensemble), moments)
        return jax.tree.map(jnp.add, ensemble, steps), moments

    before = float(ensemble.information(near, given).mean())
    moments = optimizer.init(ensemble)
    for _ in range(600):
        ensemble, moments = step(ensemble, moments)
    known, unknown = ensemble.information(near, given), ensemble.information(near + 4.0, given)
    assert float(known.mean()) < 0.1 * before
    assert float(unknown.mean()) > 10 * float(known.mean())


def test_the_simulator_learns_the_same_with_and_without_them():
    doubting = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, DOUBTING, key=jr.key(0)))
    trusting = without_ensemble(doubting)
    window = tiny.window()

    def learn(world):
        def total(world):
            latent = world.start(window, key=jr.key(1))
            losses, _ = posterior_losses(world, window, latent, horizon=20.0, free_nats=0.0)
            return sum(loss.sum() for loss in losses.values()), losses

        return jax.jit(jax.grad(total, has_aux=True))(world)

    (moved, losses), (alone, without) = learn(doubting), learn(trusting)
    guessed = losses.pop("ensemble")
    chex.assert_trees_all_equal(losses, without)
    chex.assert_trees_all_equal(without_ensemble(moved), alone)
    assert guessed.shape == (5,) and guessed[0] == 0 and np.all(guessed[1:] != 0)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(moved.ensemble))


def test_a_fresh_simulator_is_the_same_with_and_without_them():
    with_them = World(tiny.STATE, tiny.ACTION, DOUBTING, key=jr.key(3))
    without = World(tiny.STATE, tiny.ACTION, TRUSTING, key=jr.key(3))
    chex.assert_trees_all_equal(without_ensemble(with_them), without)
    assert without.ensemble is None
    assert not without.information_of(jnp.ones((7, 19)), jnp.ones((7, 2))).any()


def test_nobody_doubts_an_action_more_for_being_drawn_beyond_the_box(normal):
    world = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, DOUBTING, key=jr.key(0)))
    features, action = normal(6, world.features), 3.0 * normal(6, tiny.ACTION)
    assert (abs(action) > 1).any()
    edge = world.information_of(features, jnp.clip(action, -1, 1))
    np.testing.assert_allclose(world.information_of(features, action), edge, rtol=1e-5)


@pytest.mark.parametrize("obs", [tiny.STATE, tiny.PIXELS], ids=["state", "pixels"])
def test_every_level_has_its_own(obs):
    plain = dataclasses.replace(tiny.WORLD, ensemble=M)
    config = dataclasses.replace(
        tiny.config(world=DOUBTING if obs is tiny.STATE else plain),
        levels=2, strides="2", replay=ReplayConfig(batch=2, length=4),
        jump=JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8, every=1),
    )  # fmt: skip
    world = tiny.weights(lambda: make_world(obs, tiny.ACTION, config, key=jr.key(0)))
    batch = tiny.batch(obs=obs)
    learn = lambda world: batch_losses(world, batch, config, update=jnp.int32(5), key=jr.key(2))[0]
    losses = jax.jit(learn)(world)
    assert losses.keys() == scales(config).keys()
    assert losses["ensemble"].shape == (2, 5) and losses["level1/ensemble"].shape == (2, 2)
    assert all(np.isfinite(losses[name]).all() for name in ("ensemble", "level1/ensemble"))
    jump = world.jumps[0]
    standing = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), jump.level.initial())
    told = jump.information_of(standing, jnp.ones((3, 8)))
    assert told.shape == (3,) and (told > 0).all()
