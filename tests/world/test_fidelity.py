"""State observations beside the code: the residual path, learned deviations, own rollouts."""

import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
import tiny

from dreamer_h.nn.distributions import Symlog
from dreamer_h.presets import preset, with_settings
from dreamer_h.world.losses import selffed_losses, world_losses
from dreamer_h.world.world import World

CONFIG = dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True)
T = 4


@pytest.fixture(scope="module")
def world() -> World:
    return tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, CONFIG, key=jr.key(0)))


@pytest.fixture
def window(seed):
    return tiny.window(seed, T)


start = jax.jit(lambda world, window, key: world.start(window, key=key))
imagine = jax.jit(lambda world, latent, action, key: world.imagine(latent, action, key=key))
decode = jax.jit(lambda world, latent: world.decode(latent))
step = jax.jit(lambda world, latent, action, key: world.step(latent, action, key=key))


def last(latent):
    return jax.tree.map(lambda leaf: leaf[-1], latent)


def test_a_posterior_carries_what_was_seen(world, window, seed):
    latent = start(world, window, jr.key(seed))
    np.testing.assert_allclose(latent.obs, oracles.symlog(window.obs), rtol=1e-5)
    np.testing.assert_allclose(decode(world, latent).obs.mean, window.obs, rtol=1e-4, atol=1e-5)
    assert latent.features.shape == (T + 1, world.features) == (T + 1, 8 + 8 + tiny.OBS)


def test_a_prior_carries_what_is_expected(world, window, seed, normal):
    before = last(start(world, window, jr.key(seed)))
    path = imagine(world, before, normal(3, tiny.ACTION), jr.key(seed)).latent
    for t in range(3):
        here = jax.tree.map(lambda leaf, t=t: leaf[t + 1], path)
        came_from = dataclasses.replace(here, obs=path.obs[t])
        change = world.decoder.output(world.decoder.mlp(came_from.features))
        np.testing.assert_allclose(here.obs, path.obs[t] + 0.1 * change, rtol=1e-3, atol=1e-4)
    seen = decode(world, path).obs.mean
    np.testing.assert_allclose(seen, oracles.symexp(np.asarray(path.obs)), rtol=1e-4, atol=1e-5)


def test_the_memory_goes_on_from_what_is_carried(world, window, seed, normal):
    before = last(start(world, window, jr.key(seed)))
    other = dataclasses.replace(before, obs=before.obs + 1.0)
    action, key = normal(tiny.ACTION), jr.key(seed)
    here, there = (step(world, latent, action, key).deter for latent in (before, other))
    assert np.abs(here - there).max() > 1e-4


def test_an_episode_forgets_what_was_carried(world, window, seed):
    first = dataclasses.replace(window, is_first=window.is_first.at[2].set(True))
    other = dataclasses.replace(first, obs=first.obs.at[1].add(5.0))
    found, changed = (start(world, w, jr.key(seed)) for w in (first, other))
    chex.assert_trees_all_equal(*(jax.tree.map(lambda x: x[2:], p) for p in (found, changed)))


def test_without_a_change_everything_stays_as_it_was_seen(world, window, seed, normal):
    output = lambda w: (w.decoder.output.weight, w.decoder.output.bias)
    still = eqx.tree_at(output, world, jax.tree.map(jnp.zeros_like, output(world)))
    before = last(start(still, window, jr.key(seed)))
    path = imagine(still, before, normal(3, tiny.ACTION), jr.key(seed)).latent
    seen = decode(still, path).obs.mean
    np.testing.assert_allclose(seen, np.broadcast_to(window.obs[-1], seen.shape), rtol=1e-4)


def test_observing_step_by_step_carries_the_same(world, window, seed):
    key = jr.key(seed)
    whole = start(world, window, key)
    observe = jax.jit(lambda *inputs, key: world.observe(*inputs, key=key))
    latent = world.initial()
    for t, step_key in enumerate(jr.split(key, T + 1)):
        action = window.action[t - 1] if t else jnp.zeros(tiny.ACTION)
        latent = observe(latent, action, window.obs[t], key=step_key)
    chex.assert_trees_all_close(latent, last(whole), rtol=1e-4, atol=1e-5)


def losses(world, window, key, selffed=0):
    return world_losses(world, window, horizon=20.0, free_nats=0.0, selffed=selffed, key=key)


def test_the_reconstruction_is_of_the_change_in_nats(world, window, seed):
    found, latent, _ = jax.jit(losses)(world, window, jr.key(seed))
    symlog = oracles.symlog(window.obs)
    before = np.concatenate([symlog[:1], symlog[:-1]])
    inputs = np.concatenate([latent.deter, latent.code.reshape(T + 1, -1), before], axis=-1)
    change = world.decoder.output(world.decoder.mlp(jnp.asarray(inputs, jnp.float32)))
    error = before + 0.1 * np.float64(change) - symlog
    scale = -4.6 + np.log1p(np.exp(np.float64(world.decoder.log_scale) + 4.6))
    wanted = (0.5 * (error / np.exp(scale)) ** 2 + scale).sum(-1)
    np.testing.assert_allclose(found["recon"][1:], wanted[1:], rtol=2e-3, atol=1e-3)
    assert found["recon"][0] == 0  # nothing was there to change


def test_an_episode_that_begins_in_a_window_has_nothing_before_it(world, window, seed):
    first = dataclasses.replace(window, is_first=window.is_first.at[2].set(True))
    other = dataclasses.replace(first, obs=first.obs.at[1].add(5.0))
    found, changed = (jax.jit(losses)(world, w, jr.key(seed))[0]["recon"] for w in (first, other))
    np.testing.assert_array_equal(found[2:], changed[2:])
    assert found[2] == 0 != found[3]


def test_own_rollouts_are_held_to_what_they_should_have_foreseen(world, window, seed):
    key = jr.key(seed)
    latent = start(world, window, key)
    found = jax.jit(lambda: selffed_losses(world, window, latent, 2, 1, key=key))()
    for number, rollout_key in enumerate(jr.split(key, 2)):
        begin = 2 * number
        here = jax.tree.map(lambda leaf, t=begin: leaf[t], latent)
        path = imagine(world, here, window.action[begin : begin + 2], rollout_key).latent
        said = decode(world, jax.tree.map(lambda leaf: leaf[1:], path))
        steps = slice(begin + 1, begin + 3)
        wanted = said.obs.loss(window.obs[steps]), said.reward.loss(window.reward[steps])
        names = ("selffed/recon", "selffed/reward")
        for name, values in zip(names, wanted, strict=True):
            np.testing.assert_allclose(found[name][steps], values, rtol=1e-3, atol=1e-3)
    assert found["selffed/recon"][0] == 0


def test_own_rollouts_in_pairs_are_judged_together(world, window, seed):
    key = jr.key(seed)
    latent = start(world, window, key)
    found = jax.jit(lambda: selffed_losses(world, window, latent, T, 2, key=key))()
    here = jax.tree.map(lambda leaf: leaf[0], latent)
    said = []
    for rollout_key in jr.split(key, (2, 1))[:, 0]:
        path = imagine(world, here, window.action, rollout_key).latent
        said.append(decode(world, jax.tree.map(lambda leaf: leaf[1:], path)))
    assert np.abs(said[0].obs.output - said[1].obs.output).max() > 0  # each has draws of its own
    truth = oracles.symlog(window.obs[1:])
    wanted = oracles.almost_fair_crps(np.float64([p.obs.output for p in said]), truth)
    scale = np.float64(said[0].obs.log_scale)
    wanted = (wanted / np.exp(scale) + scale).sum(-1)
    np.testing.assert_allclose(found["selffed/recon"][1:], wanted, rtol=2e-3, atol=1e-3)
    wanted = np.mean([p.reward.loss(window.reward[1:]) for p in said], axis=0)
    np.testing.assert_allclose(found["selffed/reward"][1:], wanted, rtol=1e-3)


def test_own_rollouts_teach_to_go_on_and_not_where_to_begin(world, window, seed):
    def total(world):
        latent = world.start(window, key=jr.key(seed))
        return sum(
            x.sum() for x in selffed_losses(world, window, latent, 2, 1, key=jr.key(1)).values()
        )

    gradient = jax.jit(jax.grad(total))(world)
    for leaf in jax.tree.leaves((gradient.encoder, gradient.level.posterior)):
        np.testing.assert_array_equal(leaf, 0.0)
    for moved in (gradient.level.prior_output.weight, gradient.decoder.output.weight):
        assert np.abs(moved).max() > 1e-6
    hidden = dataclasses.replace(window, mask=jnp.zeros(T + 1, bool))
    latent = start(world, window, jr.key(seed))
    for loss in selffed_losses(world, hidden, latent, 2, 1, key=jr.key(1)).values():
        np.testing.assert_array_equal(loss, 0.0)


def test_a_learned_deviation_finds_that_of_the_errors(seed):
    error = np.random.default_rng(seed).normal(size=(4000, 2)) * [0.05, 2.0]
    target = jnp.asarray(oracles.symexp(error), jnp.float32)
    loss = lambda s: Symlog(jnp.zeros((4000, 2)), s).loss(target).mean()
    scale = jnp.zeros(2)
    for _ in range(300):
        scale = scale - 0.1 * jax.grad(loss)(scale)
    np.testing.assert_allclose(np.exp(scale), [0.05, 2.0], rtol=0.05)


def test_pixels_have_none_of_it():
    pixels = dataclasses.replace(preset("debug"), obs="pixels")
    with pytest.raises(ValueError, match="for state observations"):
        with_settings(pixels, ["world.residual=true"])
    with pytest.raises(ValueError, match="must fit into"):
        with_settings(preset("debug"), ["world.selffed=17"])
