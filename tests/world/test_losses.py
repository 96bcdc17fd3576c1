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

from dreamer_h.world.losses import world_losses
from dreamer_h.world.world import World

HORIZON = 20.0
NAMES = ("recon", "reward", "continue", "dyn", "rep")


@pytest.fixture(scope="module")
def world() -> World:
    return tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)))


def learner(free_nats):
    """(gradient of the weighted losses, (losses, latent, metrics)); weights (5,) are of NAMES."""

    def total(world, window, weights, key):
        found = world_losses(world, window, horizon=HORIZON, free_nats=free_nats, key=key)
        named = zip(NAMES, weights, strict=True)
        return sum(weight * found[0][name].sum() for name, weight in named), found

    return jax.jit(jax.grad(total, has_aux=True))


# two compilations serve all the tests
at_zero, at_two = learner(0.0), learner(2.0)
ONES = jnp.ones(len(NAMES))


def exact(world, window, key):
    return at_zero(world, window, ONES, key)[1]


def gradient(world, window, weights, key):
    return at_zero(world, window, weights, key)[0]


@pytest.fixture
def window(seed):
    """Four agent steps; the episode ends terminally at the third, behind it is padding."""
    window = tiny.window(seed)
    seen = jnp.asarray([True, True, True, True, False])
    zero = lambda x: jnp.where(seen.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
    return dataclasses.replace(
        window,
        obs=zero(window.obs),
        reward=zero(window.reward),
        action=window.action.at[3:].set(0.0),
        is_terminal=jnp.asarray([False, False, False, True, False]),
        mask=seen,
    )


def test_each_loss_follows_its_equation(world, window, seed):
    losses, latent, metrics = exact(world, window, jr.key(seed))
    prior = oracles.mixed(world.level.prior_logits(latent.deter), tiny.WORLD.unimix)
    posterior = oracles.mixed(latent.logits, tiny.WORLD.unimix)
    kl = [oracles.kl(p, q) for p, q in zip(posterior, prior, strict=True)]
    np.testing.assert_allclose(metrics["kl/0"], kl, rtol=1e-4, atol=1e-5)
    wanted_entropy = [oracles.entropy(p) for p in posterior]
    np.testing.assert_allclose(metrics["posterior_entropy"], wanted_entropy, rtol=1e-4)

    features = latent.features
    output = np.float64(world.decoder.output(world.decoder.mlp(features)))
    recon = ((output - oracles.symlog(window.obs)) ** 2).sum(-1)
    bins = oracles.two_hot_bins(tiny.WORLD.bins)
    rows = zip(np.asarray(world.reward(features)), np.asarray(window.reward), strict=True)
    reward = [oracles.two_hot_loss(row, float(r), bins) for row, r in rows]
    goes_on = oracles.sigmoid(world.continue_(features)[..., 0])
    target = np.where(window.is_terminal, 0.0, 1.0 - 1.0 / HORIZON)
    continue_ = -(target * np.log(goes_on) + (1 - target) * np.log(1 - goes_on))

    arrived, seen = np.array([0, 1, 1, 1, 0]), np.asarray(window.mask)
    wanted = {
        "recon": recon * seen,
        "reward": reward * arrived,
        "continue": continue_ * arrived,
        "dyn": kl * arrived,
        "rep": kl * arrived,
    }
    assert losses.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(losses[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_kl_terms_are_summed_over_groups_then_held_above_the_free_nats(world, window, seed):
    free, _, metrics = at_two(world, window, ONES, jr.key(seed))[1]
    wanted = np.maximum(2.0, metrics["kl/0"]) * [0, 1, 1, 1, 0]
    np.testing.assert_allclose(free["dyn"], wanted, rtol=1e-5)
    np.testing.assert_allclose(free["rep"], wanted, rtol=1e-5)


def test_below_the_free_nats_the_kl_teaches_exactly_nothing(world, window, seed):
    # nearly equal logits everywhere: a small KL
    level = lambda w: (w.level.prior_output, w.level.posterior_output)
    flat = eqx.tree_at(level, world, jax.tree.map(jnp.zeros_like, level(world)))
    flat = eqx.tree_at(lambda w: w.level.prior_output.bias, flat, 0.1 * jnp.arange(8.0))
    kl_alone = jnp.asarray([0.0, 0.0, 0.0, 1.0, 1.0])
    found, (_, _, metrics) = at_two(flat, window, kl_alone, jr.key(seed))
    assert 0.0 < float(metrics["kl/0"].min()) <= float(metrics["kl/0"].max()) < 2.0
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, 0.0)
    assert np.abs(gradient(flat, window, kl_alone, jr.key(seed)).level.prior_output.bias).max() > 0


def test_dyn_moves_the_prior_and_rep_the_posterior(world, window, seed):
    # blind to codes: else dyn reaches the posterior through the next memory
    blind = eqx.tree_at(
        lambda w: w.level.cell.embed_code.linear.weight, world, replace_fn=jnp.zeros_like
    )
    dyn = gradient(blind, window, jnp.asarray([0.0, 0.0, 0.0, 1.0, 0.0]), jr.key(seed)).level
    rep = gradient(blind, window, jnp.asarray([0.0, 0.0, 0.0, 0.0, 1.0]), jr.key(seed)).level
    for leaf in jax.tree.leaves((dyn.posterior, dyn.posterior_output, rep.prior, rep.prior_output)):
        np.testing.assert_array_equal(leaf, 0.0)
    for moved in (dyn.prior_output, rep.posterior_output):
        assert np.abs(moved.weight).max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_teaches_the_recurrent_cell(world, window, name, seed):
    weights = jnp.asarray([float(name == other) for other in NAMES])
    found = gradient(world, window, weights, jr.key(seed)).level.cell
    assert np.abs(found.gates.weight).max() > 1e-6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_padding_changes_no_loss_and_no_gradient(world, window, seed):
    other = dataclasses.replace(
        window,
        obs=window.obs.at[4].set(1e3),
        action=window.action.at[3].set(-1.0),
        reward=window.reward.at[4].set(-7.0),
        is_terminal=window.is_terminal.at[4].set(True),
    )
    assert not np.array_equal(other.obs, window.obs)
    key = jr.key(seed)
    chex.assert_trees_all_equal(exact(world, window, key)[0], exact(world, other, key)[0])
    chex.assert_trees_all_equal(
        gradient(world, window, ONES, key), gradient(world, other, ONES, key)
    )


def test_padding_costs_nothing(world, window, seed):
    nothing = dataclasses.replace(window, mask=jnp.zeros(5, bool))
    for loss in exact(world, nothing, jr.key(seed))[0].values():
        np.testing.assert_array_equal(loss, 0.0)


def test_the_reward_of_the_first_observation_changes_no_loss(world, window, seed):
    other = dataclasses.replace(window, reward=window.reward.at[0].set(1e3))
    key = jr.key(seed)
    chex.assert_trees_all_equal(exact(world, window, key)[0], exact(world, other, key)[0])
