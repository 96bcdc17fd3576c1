"""Shunning doubt, seeking it, stopping before it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.behaviour.actor_critic import ActorCritic, Underway, imagine, replay_value_loss
from dreamer_h.behaviour.attitude import INDIFFERENT, Attitude
from dreamer_h.behaviour.flat import flat_losses
from dreamer_h.behaviour.lesson import Lesson
from dreamer_h.nn.statistics import EntropyWeight, ReturnScale, Statistics
from dreamer_h.types import Latent
from dreamer_h.world.world import World

B, H, LAMBDA = 4, 5, 0.9
WORLD = dataclasses.replace(tiny.WORLD, ensemble=3)


@pytest.fixture(scope="module")
def world() -> World:
    world = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, WORLD, key=jr.key(0)), seed=1)
    return eqx.tree_at(lambda w: w.reward, world, tiny.peaked(world.reward))


@pytest.fixture(scope="module")
def behaviour() -> ActorCritic:
    made = tiny.weights(lambda: ActorCritic(16, tiny.ACTION, tiny.BEHAVIOUR, key=jr.key(0)), seed=3)
    return eqx.tree_at(lambda b: b.critic, made, tiny.peaked(made.critic))


@pytest.fixture
def start(normal) -> Underway:
    code = jnp.eye(4)[jnp.asarray([[0, 1], [2, 3], [1, 1], [3, 0]])]
    latent = Latent(normal(B, 8, scale=0.5), code, normal(B, 2, 4))
    return Underway(latent, jnp.asarray([0.0, 0.1, 0.0, 0.0]))


@jax.jit
def follow(world, behaviour, start, attitude):
    rollout, last, discount = imagine(
        world, behaviour, start, H, gradient="reinforce", lambda_=LAMBDA, attitude=attitude,
        key=jr.key(0),
    )  # fmt: skip
    told = world.information_of(rollout.features, rollout.action)
    return rollout, last, discount, told


def wanted(plain, discount, worth, mixing):
    """Returns (H, B) by numpy; the value at the end is what the plain return there holds."""
    end = (plain.returns[-1] - plain.reward[-1]) / discount[-1]
    value = np.concatenate([plain.value[1:], end[None]])
    returns, following = np.zeros((H, B)), value[-1]
    for t in reversed(range(H)):
        ahead = (1 - mixing[t]) * value[t] + mixing[t] * following
        returns[t] = following = worth[t] + discount[t] * ahead
    return returns


def test_indifference_is_what_there_was_before(world, behaviour, start):
    rollout, last, discount, _ = follow(world, behaviour, start, INDIFFERENT)
    mixing = np.full((H, B), LAMBDA)
    found = wanted(rollout, np.asarray(discount), np.asarray(rollout.reward), mixing)
    np.testing.assert_allclose(rollout.returns, found, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(last.doubt, start.doubt)  # nobody looked


def test_pessimism_takes_the_doubt_of_a_step_from_what_it_pays(world, behaviour, start):
    plain, _, discount, told = follow(world, behaviour, start, INDIFFERENT)
    shy, last, *_ = follow(world, behaviour, start, Attitude(2.0))
    np.testing.assert_array_equal(shy.reward, plain.reward)  # what the task pays stays known
    worth = np.asarray(plain.reward - 2.0 * told)
    found = wanted(plain, np.asarray(discount), worth, np.full((H, B), LAMBDA))
    np.testing.assert_allclose(shy.returns, found, rtol=1e-3, atol=1e-3)
    assert (shy.returns < plain.returns).all()
    np.testing.assert_allclose(last.doubt, start.doubt + told.sum(0), rtol=1e-4)


@pytest.mark.parametrize("exploring", [True, False])
def test_an_explorer_wants_doubt_alone_until_it_is_told_otherwise(
    world, behaviour, start, exploring
):
    plain, _, discount, told = follow(world, behaviour, start, INDIFFERENT)
    attitude = Attitude(0.5, exploring=jnp.bool_(exploring))
    found = follow(world, behaviour, start, attitude)[0].returns
    worth = told if exploring else plain.reward - 0.5 * told
    by_hand = wanted(plain, np.asarray(discount), np.asarray(worth), np.full((H, B), LAMBDA))
    np.testing.assert_allclose(found, by_hand, rtol=1e-3, atol=1e-3)
    loss = attitude.of_task(jnp.ones(3))
    assert loss.tolist() == [0.0 if exploring else 1.0] * 3


def test_what_one_level_has_used_of_its_trust_another_begins_with():
    attitude = Attitude(trusted=jnp.asarray([2.0, 10.0], jnp.float32))
    np.testing.assert_allclose(
        attitude.handed_over(jnp.asarray([0.0, 1.0, 3.0]), of=0, to=1), [0.0, 5.0, 15.0]
    )
    none = Attitude(trusted=jnp.asarray([jnp.finfo(jnp.float32).max, 0.0]))  # no limit; no trust
    assert none.handed_over(jnp.float32(7.0), of=0, to=1) == 0.0
    assert none.relied(none.handed_over(jnp.float32(0.0), of=1, to=0))
    assert not none.relied(none.handed_over(jnp.float32(0.1), of=1, to=0))
    assert INDIFFERENT.handed_over(jnp.float32(7.0), of=0, to=1) == 0.0


def test_a_path_ends_where_its_doubt_is_too_much(world, behaviour, start):
    plain, _, discount, told = follow(world, behaviour, start, INDIFFERENT)
    since = np.asarray(start.doubt + np.cumsum(told, axis=0))
    limit = float(np.sort(since.ravel())[since.size // 2])  # some end at once, some later
    relied = since <= limit
    assert not relied.all() and relied.any()
    rollout, last, *_ = follow(world, behaviour, start, Attitude(trusted=jnp.asarray([limit])))
    beyond = np.concatenate([relied[1:], np.ones((1, B), bool)])
    found = wanted(plain, np.asarray(discount), np.asarray(plain.reward), LAMBDA * beyond)
    np.testing.assert_allclose(rollout.returns, found, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rollout.weight, plain.weight * relied, rtol=1e-5)
    assert (Attitude(trusted=jnp.asarray([limit])).relied(last.doubt) == relied[-1]).all()


@pytest.fixture(scope="module")
def lesson(world):
    """Of an attitude; the latents are the world's own."""
    batch = tiny.batch(size=B, steps=H)
    seen = jax.jit(jax.vmap(lambda window, key: world.start(window, key=key)))
    latents = seen(batch, jr.split(jr.key(4), B))
    return lambda attitude: Lesson(batch, latents, latents, attitude=attitude)


@jax.jit
def learn(world, behaviour, lesson):
    statistics = Statistics(ReturnScale(jnp.float32(1.0), jnp.float32(4.0), 0.5), STEADY)
    losses, statistics, *_ = flat_losses(
        world, behaviour, behaviour.critics, statistics, None, lesson, tiny.BEHAVIOUR, key=jr.key(5)
    )
    return losses, statistics.return_scale


STEADY = EntropyWeight.init(0.1, 0.0, 0.1)


def test_nothing_is_learned_behind_the_end_of_trust_not_even_a_scale(world, behaviour, lesson):
    limit = lambda nats: Attitude(trusted=jnp.asarray([nats], jnp.float32))
    losses, scale = learn(world, behaviour, lesson(limit(0.0)))  # every step is doubted
    assert not losses["policy"].any() and not losses["value"].any()
    assert (scale.low, scale.high) == (1.0, 4.0)
    losses, scale = learn(world, behaviour, lesson(limit(1e9)))
    plain, usual = learn(world, behaviour, lesson(INDIFFERENT))
    np.testing.assert_allclose(losses["policy"], plain["policy"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((scale.low, scale.high), (usual.low, usual.high), rtol=1e-5)
    assert scale.low != 1.0


def test_what_was_really_paid_is_charged_for_doubt_too(world, behaviour, lesson):
    given = lesson(Attitude(2.0))  # of episodes of one step: nothing follows what is paid
    ends = jnp.ones_like(given.batch.is_terminal)
    given = dataclasses.replace(given, batch=dataclasses.replace(given.batch, is_terminal=ends))
    found = learn(world, behaviour, given)[0]["replay_value"]
    told = world.information_of(given.dreamt.features[:, :-1], given.batch.action)
    rewards = np.asarray(given.batch.reward[:, 1:])
    ahead = jnp.zeros(H + 1)
    wanted = lambda paid: jax.vmap(
        lambda latent, window, paid: replay_value_loss(
            behaviour, behaviour.critic, latent, window, paid, ahead, tiny.BEHAVIOUR
        )
    )(given.latents, given.batch, paid)
    assert told.min() > 0
    np.testing.assert_allclose(found, wanted(rewards - 2.0 * told), rtol=1e-3, atol=1e-4)
    assert np.abs(found - wanted(rewards)).max() > 0.01
