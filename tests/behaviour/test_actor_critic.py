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

from dreamer_h.behaviour.actor_critic import (
    ActorCritic,
    Underway,
    imagination_losses,
    imagine,
    replay_value_loss,
)
from dreamer_h.types import Latent
from dreamer_h.world.world import World

B, H = 4, 3
CONFIG = tiny.BEHAVIOUR
BINS = oracles.two_hot_bins(41)


@pytest.fixture(scope="module")
def world() -> World:
    # of a few seeds, the one whose rewards listen best to actions
    world = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)), seed=1)
    return eqx.tree_at(lambda w: w.reward, world, tiny.peaked(world.reward))


@pytest.fixture(scope="module")
def behaviour() -> ActorCritic:
    behaviour = tiny.weights(lambda: ActorCritic(16, tiny.ACTION, CONFIG, key=jr.key(0)), seed=3)
    behaviour = eqx.tree_at(lambda b: b.critic, behaviour, tiny.peaked(behaviour.critic))
    # means and spread near their middle: far inside the box
    output = lambda b: (b.actor.output.weight, b.actor.output.bias)
    middle = (0.1 * output(behaviour)[0], jnp.asarray([0.1, -0.1, -20.0, -20.0]))
    return eqx.tree_at(output, behaviour, middle)


@pytest.fixture(scope="module")
def slow_critic(behaviour):
    return tiny.peaked(tiny.weights(lambda: behaviour.critic, seed=2))


@pytest.fixture
def start(normal) -> Latent:
    code = jnp.eye(4)[jnp.asarray([[0, 1], [2, 3], [1, 1], [3, 0]])]
    return Latent(normal(B, 8, scale=0.5), code, normal(B, 2, 4))


def follow(gradient):
    @jax.jit
    def run(world, behaviour, start, key):
        return imagine(
            world, behaviour, Underway.begun(start), H, gradient=gradient, lambda_=0.95, key=key
        )[0]

    return run


reinforce = follow("reinforce")


def test_a_rollout_scores_its_own_path(world, behaviour, start, seed):
    rollout = reinforce(world, behaviour, start, jr.key(seed))
    chex.assert_shape(rollout.features, (H, B, 16))  # the states acted from, time first
    chex.assert_shape([rollout.reward, rollout.value, rollout.returns, rollout.weight], (H, B))
    np.testing.assert_array_equal(rollout.features[0], start.features)
    # arriving at t + 1, which is acted from, unless it is the last state
    reward = np.asarray(world.reward_of(rollout.features).mean)
    np.testing.assert_allclose(rollout.reward[:-1], reward[1:], rtol=1e-4, atol=1e-4)
    discount = np.asarray(world.continue_of(rollout.features).mean)
    value = np.asarray(behaviour.value(rollout.features).mean)
    np.testing.assert_allclose(rollout.value, value, rtol=1e-4, atol=1e-4)
    # the last return holds what the last state, which the rollout does not show, is worth
    following = np.asarray(rollout.returns[-1] - rollout.reward[-1])
    for b in range(B):
        ahead = np.append(discount[1:, b], 1.0), np.append(value[1:, b], following[b])
        wanted = oracles.lambda_return(rollout.reward[:, b], *ahead, 0.95)
        np.testing.assert_allclose(rollout.returns[:, b], wanted, rtol=1e-3, atol=1e-3)
        # alive at the start for certain, then as likely as every step so far went on
        alive = [1.0, discount[1, b], discount[1, b] * discount[2, b]]
        np.testing.assert_allclose(rollout.weight[:, b], alive, rtol=1e-4)


def test_the_last_imagined_state_bootstraps_from_its_own_value(world, behaviour, start, seed):
    """One step: r + d v, all of the state that the world steps to under the same keys."""
    key = jr.key(seed)
    run = lambda: imagine(
        world, behaviour, Underway.begun(start), 1, gradient="reinforce", lambda_=0.95, key=key
    )[0]
    rollout = jax.jit(run)()
    _, world_key = jr.split(jr.split(key, 1)[0])
    step = jax.vmap(lambda *inputs, key: world.step(*inputs, key=key))
    last = jax.jit(step)(start, rollout.action[0], key=jr.split(world_key, B)).features
    wanted = world.reward_of(last).mean + world.continue_of(last).mean * behaviour.value(last).mean
    np.testing.assert_allclose(rollout.reward[0], world.reward_of(last).mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rollout.returns[0], wanted, rtol=1e-3, atol=1e-3)


def test_the_reinforce_gradient_is_the_score_function(world, behaviour, slow_critic, start, seed):
    entropy = 0.1
    config = dataclasses.replace(CONFIG, entropy=entropy)

    @jax.jit
    @jax.grad
    def found(behaviour):
        rollout, *_ = imagine(
            world,
            behaviour,
            Underway.begun(start),
            H,
            gradient="reinforce",
            lambda_=0.95,
            key=jr.key(seed),
        )
        losses, _ = imagination_losses(
            behaviour, slow_critic, rollout, jnp.float32(2.0), jnp.float32(entropy), config
        )
        return losses["policy"].sum()

    gradient = found(behaviour)
    rollout = reinforce(world, behaviour, start, jr.key(seed))
    features, action, returns, value, weight = map(
        np.float64,
        (rollout.features, rollout.action, rollout.returns, rollout.value, rollout.weight),
    )
    output = np.float64(behaviour.actor(jnp.asarray(features, jnp.float32)))
    mean, std = oracles.bounded_normal(output)
    advantage = ((returns - value) / 2.0)[..., None]
    gate = oracles.sigmoid(output[..., 2:] + 2.0)
    dmean, dstd = 1 - mean**2, 0.9 * gate * (1 - gate)
    by_mean = (action - mean) / std**2 * advantage * dmean
    by_std = (((action - mean) ** 2 / std**3 - 1 / std) * advantage + entropy / std) * dstd
    wanted = -(weight[..., None] * np.concatenate([by_mean, by_std], -1)).sum((0, 1))
    # a sum of 12 terms that may cancel
    np.testing.assert_allclose(gradient.actor.output.bias, wanted, rtol=2e-3, atol=2e-3)
    # the policy's loss leaves the critic alone
    for leaf in jax.tree.leaves(gradient.critic):
        np.testing.assert_array_equal(leaf, 0.0)


@jax.jit
def sum_of_returns(bias, world, behaviour, start, key):
    behaviour = eqx.tree_at(lambda b: b.actor.output.bias, behaviour, bias)
    rollout, *_ = imagine(
        world, behaviour, Underway.begun(start), H, gradient="dynamics", lambda_=0.95, key=key
    )
    return rollout.returns.sum()


def blind(world, behaviour):
    """Nothing reads the code: what is drawn does not jump, so finite differences are slopes."""
    width = tiny.WORLD.deter
    mute = lambda layer: layer.at[width:].set(0.0)
    world = eqx.tree_at(
        lambda w: w.level.cell.embed_code.linear.weight, world, replace_fn=jnp.zeros_like
    )
    first = lambda head: head.mlp.blocks[0].linear.weight
    world = eqx.tree_at(lambda w: (first(w.reward), first(w.continue_)), world, replace_fn=mute)
    return world, eqx.tree_at(
        lambda b: (first(b.actor), first(b.critic)), behaviour, replace_fn=mute
    )


def test_the_dynamics_gradient_is_the_slope_of_the_return(world, behaviour, start, seed):
    world, behaviour = blind(world, behaviour)
    bias, key = behaviour.actor.output.bias, jr.key(seed)
    found = jax.jit(jax.grad(sum_of_returns))(bias, world, behaviour, start, key)[:2]
    step, slopes = 3e-2, []
    for i in range(2):
        up = sum_of_returns(bias.at[i].add(step), world, behaviour, start, key)
        down = sum_of_returns(bias.at[i].add(-step), world, behaviour, start, key)
        slopes.append(float(up - down) / (2 * step))
    # central differences err by step^2; float32 returns of about 10 by 1e-6 / step
    largest = float(np.abs(found).max())
    assert largest > 1e-2
    np.testing.assert_allclose(found, slopes, atol=2e-2 * largest + 2e-4)


@pytest.fixture(scope="module")
def slopes():
    """Gradients of policy and value loss, weighted, with respect to everything."""

    def make(kind):
        config = dataclasses.replace(CONFIG, gradient=kind)

        def total(moved, start, weights, key):
            world, behaviour, slow_critic = moved
            rollout, *_ = imagine(
                world, behaviour, Underway.begun(start), H, gradient=kind, lambda_=0.95, key=key
            )
            losses, _ = imagination_losses(
                behaviour, slow_critic, rollout, jnp.float32(1.0), jnp.float32(3e-4), config
            )
            return weights[0] * losses["policy"].sum() + weights[1] * losses["value"].sum()

        return jax.jit(jax.grad(total))

    return {kind: make(kind) for kind in ("reinforce", "dynamics")}


@pytest.mark.parametrize("kind", ["reinforce", "dynamics"])
def test_learning_in_imagination_moves_neither_world_nor_slow_critic(
    world, behaviour, slow_critic, start, seed, slopes, kind
):
    moved = (world, behaviour, slow_critic)
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        found = slopes[kind](moved, start, jnp.asarray(weights), jr.key(seed))
        for leaf in jax.tree.leaves((found[0], found[2])):
            np.testing.assert_array_equal(leaf, 0.0)
        learns, rests = found[1].actor, found[1].critic
        if weights[1]:
            learns, rests = rests, learns
        assert np.abs(learns.output.weight).max() > 0.0
        for leaf in jax.tree.leaves(rests):
            np.testing.assert_array_equal(leaf, 0.0)


def test_the_value_loss_is_the_cross_entropy_to_the_return_and_to_the_slow_critic(
    world, behaviour, slow_critic, start, seed
):
    rollout = reinforce(world, behaviour, start, jr.key(seed))
    config = dataclasses.replace(CONFIG, slow_scale=0.5)
    losses, metrics = imagination_losses(
        behaviour, slow_critic, rollout, jnp.float32(1.0), jnp.float32(3e-4), config
    )
    features = rollout.features
    logits, slow = np.asarray(behaviour.critic(features)), np.asarray(slow_critic(features))
    for at in np.ndindex(H, B):
        wanted = oracles.two_hot_loss(logits[at], float(rollout.returns[at]), BINS)
        opinion = oracles.two_hot_mean(slow[at], BINS)
        wanted += 0.5 * oracles.two_hot_loss(logits[at], opinion, BINS)
        np.testing.assert_allclose(losses["value"][at], rollout.weight[at] * wanted, rtol=1e-3)
    np.testing.assert_allclose(metrics["advantage"], rollout.returns - rollout.value, atol=1e-5)


T = 4


@pytest.fixture
def replayed(normal, seed):
    """(window, latents, bootstrap values) of T steps without padding."""
    latent = Latent(normal(T + 1, 8), normal(T + 1, 2, 4), normal(T + 1, 2, 4))
    return tiny.window(seed, T), latent, normal(T + 1, scale=3.0)


@jax.jit
def replay_loss(behaviour, slow_critic, latent, window, bootstrap):
    paid = window.reward[1:]
    return replay_value_loss(behaviour, slow_critic, latent, window, paid, bootstrap, CONFIG)


def test_the_replay_value_loss_follows_its_equation(behaviour, slow_critic, replayed):
    window, latent, bootstrap = replayed
    window = dataclasses.replace(window, is_terminal=window.is_terminal.at[2].set(True))
    found = replay_loss(behaviour, slow_critic, latent, window, bootstrap)
    discount = (1 - 1 / CONFIG.horizon) * np.array([1.0, 0.0, 1.0, 1.0])
    returns = oracles.lambda_return(window.reward[1:], discount, bootstrap[1:], CONFIG.lambda_)
    logits = np.asarray(behaviour.critic(latent.features))
    slow = np.asarray(slow_critic(latent.features))
    for t in range(T):
        wanted = oracles.two_hot_loss(logits[t], returns[t], BINS)
        wanted += oracles.two_hot_loss(logits[t], oracles.two_hot_mean(slow[t], BINS), BINS)
        np.testing.assert_allclose(found[t], wanted, rtol=1e-3)


def test_the_replay_value_loss_moves_critic_and_latents_but_not_the_slow_critic(
    behaviour, slow_critic, replayed
):
    window, latent, bootstrap = replayed
    found = jax.jit(jax.grad(lambda *x: replay_loss(*x[:3], window, bootstrap).sum(), (0, 1, 2)))(
        behaviour, slow_critic, latent
    )
    assert np.abs(found[0].critic.output.weight).max() > 0
    assert np.abs(found[2].deter[:-1]).min() > 0 and np.abs(found[2].code[:-1]).max() > 0
    for leaf in jax.tree.leaves((found[0].actor, found[1], found[2].deter[-1])):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_return_behind_an_episodes_end_counts_for_no_replayed_value(
    behaviour, slow_critic, replayed, terminal
):
    """The last real step bootstraps from its own imagined return: a time limit is no end."""
    window, latent, bootstrap = replayed
    seen = jnp.asarray([True, True, True, False, False])
    window = dataclasses.replace(
        window, mask=seen, is_terminal=window.is_terminal.at[2].set(terminal)
    )
    found = replay_loss(behaviour, slow_critic, latent, window, bootstrap)
    other = dataclasses.replace(window, reward=window.reward.at[3:].set(50.0))
    again = replay_loss(behaviour, slow_critic, latent, other, bootstrap.at[3:].set(-50.0))
    np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(found[2:], 0.0)
    discount = (1 - 1 / CONFIG.horizon) * np.array([1.0, 0.0 if terminal else 1.0])
    returns = oracles.lambda_return(window.reward[1:3], discount, bootstrap[1:3], CONFIG.lambda_)
    logits = np.asarray(behaviour.critic(latent.features))
    slow = np.asarray(slow_critic(latent.features))
    for t in range(2):
        wanted = oracles.two_hot_loss(logits[t], returns[t], BINS)
        wanted += oracles.two_hot_loss(logits[t], oracles.two_hot_mean(slow[t], BINS), BINS)
        np.testing.assert_allclose(found[t], wanted, rtol=1e-3)


def test_a_fresh_critic_values_everything_at_exactly_zero(behaviour, getkey, normal):
    fresh = lambda key: ActorCritic(16, tiny.ACTION, CONFIG, key=key).critic.output
    critic = eqx.tree_at(lambda c: c.output, behaviour.critic, jax.jit(fresh)(getkey()))
    behaviour = eqx.tree_at(lambda b: b.critic, behaviour, critic)
    np.testing.assert_array_equal(behaviour.value(normal(5, 16)).mean, 0.0)
