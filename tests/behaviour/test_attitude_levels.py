"""Manager and worker stop before what their levels doubt."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
import tiny

from dreamer_h.behaviour.attitude import INDIFFERENT, Attitude
from dreamer_h.behaviour.goals import waypoints_of
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.manager import decided, plan
from dreamer_h.behaviour.subgoal import spread_of
from dreamer_h.behaviour.worker import Post, Segment, attempt
from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.world.upper.hierarchy import make_world

K, T, B, LAMBDA = 4, 8, 5, 0.9
CONFIG = Config(
    levels=2,
    strides=str(K),
    world=dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True, ensemble=3),
    jump=JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8),
    behaviour=tiny.BEHAVIOUR,
    replay=ReplayConfig(batch=2, length=T),
)


@pytest.fixture(scope="module")
def model():
    build = lambda: make_world(tiny.STATE, tiny.ACTION, CONFIG, key=jr.key(0))
    world = tiny.weights(build, seed=1)
    world = eqx.tree_at(lambda w: w.base.reward, world, tiny.peaked(world.base.reward))
    # what a jump pays is of order one, too
    anchor, bins = CONFIG.world.groups * CONFIG.world.classes + tiny.OBS, CONFIG.world.bins
    bias = world.jumps[0].head.output.bias
    peak = -0.5 * jnp.square(jnp.arange(bins) - bins // 2.0)
    bias = bias.at[anchor : anchor + bins].set(peak)
    world = eqx.tree_at(lambda w: w.jumps[0].head.output.bias, world, bias)
    made = lambda: ManagerWorker(world, tiny.ACTION, CONFIG.behaviour, key=jr.key(0))
    behaviour = tiny.weights(made, seed=2)
    heads = lambda b: (b.manager.critic, b.worker.critic)
    return world, eqx.tree_at(heads, behaviour, tuple(map(tiny.peaked, heads(behaviour))))


@pytest.fixture(scope="module")
def post(model) -> Post:
    world, _ = model
    start = jax.vmap(lambda window, key: world.start(window, key=key))
    seen = jax.jit(start)(tiny.batch(size=B, steps=T), jr.split(jr.key(0), B))
    at = lambda tree, t: jax.tree.map(lambda leaf: leaf[:, t], tree)
    return Post.seen(at(seen.ground, 0), at(seen.above[0], 1))


def returns_of(paid, discount, value, relied):
    """The value stands for what follows an outcome that is the last that is relied upon."""
    ends = np.concatenate([~relied[1:], np.zeros((1, B), bool)])
    found = np.zeros_like(paid)
    following = value[-1]
    for t in reversed(range(len(paid))):
        mixed = (1 - LAMBDA) * value[t] + LAMBDA * following
        found[t] = following = paid[t] + discount[t] * np.where(ends[t], value[t], mixed)
    return found


def test_a_manager_bootstraps_at_the_last_jump_that_is_relied_upon(model, post):
    world, behaviour = model
    run = jax.jit(
        lambda attitude: plan(
            world, behaviour.manager, post.standing, 3, lambda_=LAMBDA, reliant=False,
            attitude=attitude, key=jr.key(1),
        )
    )  # fmt: skip
    plain, jump = run(INDIFFERENT), world.jumps[0]
    told = jump.information_of(plain.standing, decided(jump, plain.standing, plain.choice))
    since = np.cumsum(np.float64(told), axis=0)
    middle = np.sort(since.ravel())[since.size // 2 : since.size // 2 + 2]
    limit = float(middle.mean())
    relied = since <= limit
    assert relied.any() and not relied.all()
    found = run(Attitude(trusted=jnp.asarray([0.0, limit], jnp.float32)))
    np.testing.assert_array_equal(found.choice, plain.choice)
    np.testing.assert_allclose(found.weight, plain.weight * relied, rtol=1e-5)
    np.testing.assert_array_equal(
        found.relied, np.concatenate([np.ones((1, B), bool), relied[:-1]])
    )
    assert np.abs(plain.reward).max() < 10 and np.abs(plain.value).min() > 1e-3
    # weights tell the discounts, and the last plain return what is beyond
    discount = np.float64(plain.weight[1:] / plain.weight[:-1])
    discount = np.concatenate([discount, np.ones((1, B))])
    end = np.float64(plain.returns[-1] - plain.reward[-1])
    value = np.concatenate([np.float64(plain.value[1:]), end[None]])
    wanted = returns_of(np.float64(plain.reward), discount, value, relied)
    np.testing.assert_allclose(found.returns, wanted, rtol=1e-3, atol=1e-3)
    attitude = Attitude(trusted=jnp.asarray([4.0, limit], jnp.float32))
    way, held = waypoints_of(world, found, 100, 1.001, attitude, key=jr.key(2))  # nothing ends
    assert int(held.sum()) == int(relied[:-1].sum())
    # so far as level 1 has come with its doubt, the worker begins with its own
    np.testing.assert_array_equal(way.post.doubt <= 4.0, held)
    used = np.sort(np.asarray(found.doubt[1:]).ravel()) / limit
    np.testing.assert_allclose(np.sort(way.post.doubt), 4.0 * used, rtol=1e-4)


def test_a_plan_goes_on_with_the_doubt_that_its_beginning_has(model, post):
    world, behaviour = model
    run = lambda doubt: plan(
        world, behaviour.manager, post.standing, 3, lambda_=LAMBDA, reliant=False,
        attitude=Attitude(trusted=jnp.asarray([0.0, 5.0], jnp.float32)), doubt=doubt,
        key=jr.key(1),
    )  # fmt: skip
    fresh, late = run(0.0), run(jnp.asarray([0.0, 4.0, 6.0] + [0.0] * (B - 3))[:B])
    np.testing.assert_allclose(late.doubt[:, 1], fresh.doubt[:, 1] + 4.0, rtol=1e-5)
    assert late.relied[0, 1] and not late.relied[:, 2].any() and not late.weight[:, 2].any()


def test_a_worker_bootstraps_at_the_last_step_that_is_relied_upon(model, post):
    world, behaviour = model
    doubted = dataclasses.replace(post, doubt=jnp.linspace(0.0, 0.2, B))
    segment = Segment(doubted, jnp.asarray(post.standing.obs)[::-1], jnp.linspace(0.0, 3.0, B))
    spread = spread_of(post.ground.obs)
    run = jax.jit(
        lambda attitude: attempt(
            world, behaviour.worker, behaviour.manager, segment, spread,
            goal_weight=jnp.float32(0.0), within=jnp.float32(0.0), gradient="reinforce",
            lambda_=LAMBDA, attitude=attitude, key=jr.key(3),
        )
    )  # fmt: skip
    plain, tried = run(INDIFFERENT)
    # nobody looks at doubt where nobody cares
    np.testing.assert_array_equal(tried.post.doubt, doubted.doubt)
    _, shy = run(Attitude(pessimism=1e-9))
    told = np.float64(shy.post.doubt - doubted.doubt)
    assert (told > 0).all()
    # the manager's critic learns from it: what it would be charged for its jump, not for the steps
    _, charged = run(Attitude(pessimism=2.0))
    np.testing.assert_allclose(charged.worth, tried.worth - 2.0 * segment.told, rtol=1e-4)
    limit = float(np.median(np.asarray(doubted.doubt) + 0.6 * told))
    found, cut = run(Attitude(trusted=jnp.asarray([limit, 0.0], jnp.float32)))
    np.testing.assert_array_equal(found.action, plain.action)
    np.testing.assert_allclose(cut.post.doubt, shy.post.doubt, rtol=1e-5)
    np.testing.assert_array_equal(cut.relied, cut.post.doubt <= limit)
    relied = np.asarray(found.weight) > 0
    assert relied.any() and not relied.all()
    assert (np.diff(relied.astype(int), axis=0) <= 0).all()  # never again
    np.testing.assert_allclose(found.weight, plain.weight * relied, rtol=1e-5)
    discount = np.float64(tried.discount)
    end = np.float64(plain.returns[-1] - plain.reward[-1]) / discount[-1]
    value = np.concatenate([np.float64(plain.value[1:]), end[None]])
    wanted = returns_of(np.float64(plain.reward), discount, value, relied)
    np.testing.assert_allclose(found.returns, wanted, rtol=1e-3, atol=1e-3)


def test_returns_here_are_those_of_the_oracle_where_all_is_relied_upon():
    rng = np.random.default_rng(0)
    paid, value = rng.normal(size=(2, 6, B))
    discount = rng.uniform(0.5, 1.0, (6, B))
    found = returns_of(paid, discount, value, np.ones((6, B), bool))
    wanted = oracles.lambda_return(paid, discount, value, LAMBDA)
    np.testing.assert_allclose(found, wanted)
