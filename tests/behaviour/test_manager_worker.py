"""Manager and worker: returns against oracles, what reaches what, goals, and the clock."""

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

from dreamer_h.behaviour.attitude import INDIFFERENT
from dreamer_h.behaviour.goals import practised, waypoints_of
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.hierarchical_losses import HierarchyStatistics, hierarchical_losses
from dreamer_h.behaviour.inside import followed
from dreamer_h.behaviour.lesson import Lesson
from dreamer_h.behaviour.manager import (
    choice_of,
    macro_of,
    manager_losses,
    misjudged,
    plan,
    proposed,
)
from dreamer_h.behaviour.paths import Paths
from dreamer_h.behaviour.replayed import Replayed
from dreamer_h.behaviour.subgoal import aimed, distance, spread_of, subgoal
from dreamer_h.behaviour.worker import Post, Segment, attempt
from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.nn import fsq
from dreamer_h.nn.distributions import OneHot
from dreamer_h.types import Pursuits, Stack
from dreamer_h.world.upper.hierarchy import Hierarchy, make_world

K, T, B = 2, 8, 3
WORLD = dataclasses.replace(
    tiny.WORLD, residual=True, learned_scale=True, selffed=K, selffed_paths=2
)
JUMP = JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8, distil_warmup=0)
BEHAVIOUR = dataclasses.replace(tiny.BEHAVIOUR, manager_jumps=3, worker_waypoints=4)
CONFIG = Config(
    levels=2, strides="2", world=WORLD, jump=JUMP, behaviour=BEHAVIOUR,
    replay=ReplayConfig(batch=2, length=T),
)  # fmt: skip
PIXELS = dataclasses.replace(
    CONFIG, obs="pixels", size=16,
    world=dataclasses.replace(WORLD, residual=False, learned_scale=False, selffed=0),
)  # fmt: skip


ANCHOR = WORLD.groups * WORLD.classes + tiny.OBS
# the first led to its subgoal, the second astray; the third is none
AFAR = jnp.arange(3.0 * ANCHOR).reshape(3, -1)
PURSUITS = Pursuits(
    start=jnp.ones((3, ANCHOR)),
    goal=AFAR,
    reached=AFAR * jnp.asarray([[1.0], [-1.0], [1.0]]),
    real=jnp.asarray([True, True, False]),
)


def make(config=CONFIG, obs=tiny.STATE) -> tuple[Hierarchy, ManagerWorker]:
    world = tiny.weights(lambda: make_world(obs, tiny.ACTION, config, key=jr.key(0)), seed=1)
    assert isinstance(world, Hierarchy)
    world = eqx.tree_at(lambda w: w.base.reward, world, tiny.peaked(world.base.reward))
    build = lambda: ManagerWorker(world, tiny.ACTION, config.behaviour, key=jr.key(0))
    behaviour = tiny.weights(build, seed=2)
    heads = lambda b: (b.manager.critic, b.worker.critic)
    return world, eqx.tree_at(heads, behaviour, tuple(map(tiny.peaked, heads(behaviour))))


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def seen(model) -> Stack:
    world, _ = model
    batch = tiny.batch(size=B, steps=T)
    start = jax.vmap(lambda window, key: world.start(window, key=key))
    return jax.jit(start)(batch, jr.split(jr.key(0), B))


def standing_of(seen: Stack):
    return jax.tree.map(lambda leaf: leaf[:, 1], seen.above[0])


@pytest.mark.parametrize("reliant", [True, False])
def test_the_managers_returns_are_the_lambda_returns_of_its_jumps(model, seen, reliant):
    world, behaviour = model
    run = lambda key: plan(
        world, behaviour.manager, standing_of(seen), 3, lambda_=0.9, reliant=reliant, key=key
    )
    found = jax.jit(run)(jr.key(1))
    manager, jump = behaviour.manager, world.jumps[0]
    # a jump's own head says what the segment pays, discounts of its steps included
    discount, paid = [], []
    for n in range(3):
        known = jump.macro.decode(macro_of(found.choice[n]), found.standing.obs[n])
        at = jax.tree.map(lambda leaf, n=n: leaf[n], found.standing)
        keys = jr.split(jr.split(jr.split(jr.key(1), 3)[n])[1], B)
        leap = jax.jit(jax.vmap(lambda latent, known, key: jump.foresee(latent, known, key=key)))
        following, outlook = leap(at, known, keys)
        np.testing.assert_allclose(found.reward[n], outlook.reward.mean, rtol=1e-4, atol=1e-5)
        share = manager.reliability(at.obs, found.goal[n]).mean if reliant else 1.0
        discount.append(np.asarray(outlook.continue_.mean * share))
        # where the worker does not get, it is still where it was
        stays = outlook.continue_.mean * (1 - share) * manager.value(at.features).mean
        paid.append(np.asarray(found.reward[n] + stays))
        if n < 2:
            after = jax.tree.map(lambda leaf, n=n: leaf[n + 1], found.standing)
            chex.assert_trees_all_close(after, following, atol=1e-5)
    value = [*np.asarray(found.value)[1:], np.asarray(manager.value(following.features).mean)]
    wanted = oracles.lambda_return(np.stack(paid), np.stack(discount), value, 0.9)
    np.testing.assert_allclose(found.returns, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.weight[2], discount[0] * discount[1], rtol=1e-4)


def test_a_choice_is_held_near_the_prior_by_its_weight(model, seen):
    world, behaviour = model
    manager = behaviour.manager
    found = jax.jit(
        lambda: plan(world, manager, standing_of(seen), 2, lambda_=0.9, reliant=True, key=jr.key(1))
    )()
    found = dataclasses.replace(found, returns=found.value)  # as good as was expected
    of = lambda weight: manager_losses(
        manager, manager.critic, found, jnp.float32(1.0), jnp.float32(weight), BEHAVIOUR
    )
    held, shown = of(0.7)
    free, _ = of(0.0)
    chance = lambda head, inputs: np.exp(
        np.float64(OneHot.from_logits(head(inputs).reshape(2, B, 8, 5), 0.01).log_probs)
    )
    does = chance(manager.actor, found.standing.features)
    usual = chance(manager.prior, found.standing.obs)
    nats = (does * np.log(does / usual)).sum((-2, -1))
    np.testing.assert_allclose(shown["prior_nats"], nats, rtol=1e-3)
    added = np.asarray(held["policy"] - free["policy"])
    np.testing.assert_allclose(added, 0.7 * np.asarray(found.weight) * nats, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(held["value"], free["value"])


@pytest.mark.parametrize("allowed, stronger", [(0.0, True), (1e3, False)])
def test_the_weight_of_the_prior_holds_what_is_allowed(model, seen, allowed, stronger):
    world, behaviour = model
    config = dataclasses.replace(BEHAVIOUR, prior_nats=allowed, prior_rate=1e-4)
    statistics = HierarchyStatistics.init(config)
    lesson = Lesson(tiny.batch(size=B, steps=T), seen.ground, seen)
    learned = jax.jit(
        lambda: hierarchical_losses(
            world, behaviour, behaviour.critics, statistics, None, lesson, config,
            key=jr.key(5, impl="unsafe_rbg"),
        )[1]
    )()  # fmt: skip
    before, after = (s.manager.entropy_weight.weight for s in (statistics, learned))
    assert (after > before) == stronger and after != before


def test_a_choice_is_a_macro_code_and_back():
    code = fsq.quantised(jnp.asarray([[-3.0, -0.6, 0.0, 0.6, 3.0, 0.1, 1.0, -1.0]]))
    np.testing.assert_allclose(macro_of(choice_of(fsq.index(code))), code, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_workers_return_ends_in_its_own_value_under_the_next_subgoal(model, seen, weight):
    world, behaviour = model
    manager, worker = behaviour.manager, behaviour.worker
    ground = jax.tree.map(lambda leaf: leaf[:, 0], seen.ground)
    post = Post.seen(ground, standing_of(seen))
    segment = Segment(post, standing_of(seen).obs[::-1], post.doubt)
    spread = spread_of(seen.ground.obs.reshape(-1, tiny.OBS))
    near = jnp.float32(0.0)
    run = lambda manager, worker, lambda_, weight, within=near: attempt(
        world, worker, manager, segment, spread,
        goal_weight=jnp.float32(weight), within=within, gradient="reinforce", lambda_=lambda_,
        key=jr.key(3),
    )  # fmt: skip
    run = jax.jit(run, static_argnums=2)
    rollout, tried = run(manager, worker, 1.0, weight)
    assert rollout.features.shape[0] == K and rollout.action.shape == (K, B, tiny.ACTION)
    discount = np.float64(tried.discount)
    paid = np.float64(rollout.reward)
    # progress is what a step leaves less far: the sum of it is that of the whole segment
    gained = [np.float64(rollout.returns[0] - discount[0] * rollout.returns[1]) - paid[0]]
    choose, jump = jr.split(jr.split(jr.split(jr.key(3), 3)[2], B)[0])
    standing = jax.tree.map(lambda leaf: leaf[0], tried.post.standing)
    choice = manager.policy(standing.features).sample(choose)
    asked = subgoal(proposed(world.jumps[0], standing, choice, key=jump)[1])
    arrived = jax.tree.map(lambda leaf: leaf[0], tried.post.ground)
    end = float(worker.value(aimed(arrived, asked, jnp.int32(0), K)).mean)
    gained += [np.float64(rollout.returns[1, :1]) - paid[1, :1] - discount[1, :1] * end]
    progress = np.float64(tried.before - tried.after)
    np.testing.assert_allclose(gained[0][:1] + gained[1], weight * progress[:1], atol=2e-3)
    # which ends where the subgoal counts as reached
    within = jnp.max(jnp.concatenate([tried.before, tried.after])) + 0.1
    there, _ = run(manager, worker, 1.0, weight, within)
    nothing, _ = run(manager, worker, 1.0, 0.0)
    np.testing.assert_allclose(there.returns[1], nothing.returns[1], rtol=1e-5)
    within = 0.5 * (tried.before[0] + tried.after[0])
    half, _ = run(manager, worker, 1.0, weight, within)
    gain = lambda rollout: rollout.returns[0] - discount[0] * rollout.returns[1]
    lacking = lambda away: np.maximum(away - np.float64(within), 0.0)
    gained = gain(half)[0] + half.returns[1, 0] - gain(nothing)[0] - nothing.returns[1, 0]
    progress = lacking(tried.before[0]) - lacking(tried.after[0])
    np.testing.assert_allclose(gained, weight * progress, atol=2e-3)
    # with lambda 0 each step bootstraps at once, and the last of both is the same
    flat, _ = run(manager, worker, 0.0, weight)
    np.testing.assert_allclose(flat.returns[-1], rollout.returns[-1], rtol=1e-5)
    # what a segment is worth to the manager knows neither of progress nor of the worker's values
    beyond = np.float64(manager.value(tried.post.standing.features).mean)
    worth = paid[0] + discount[0] * (paid[1] + discount[1] * beyond)
    np.testing.assert_allclose(tried.worth, worth, rtol=1e-4, atol=1e-4)
    critic, value = lambda part: part.critic.output.bias, lambda bias: jnp.roll(bias, 3)
    moved, same = run(manager, eqx.tree_at(critic, worker, replace_fn=value), 1.0, weight)
    np.testing.assert_array_equal(same.worth, tried.worth)
    assert np.abs(moved.returns - rollout.returns).min() > 0
    unmoved, other = run(eqx.tree_at(critic, manager, replace_fn=value), worker, 1.0, weight)
    np.testing.assert_array_equal(unmoved.returns, rollout.returns)
    assert np.abs(other.worth - tried.worth).min() > 0
    assert np.all(tried.before > 0) and np.all(np.isfinite(tried.after))


def test_where_a_subgoal_is_there_is_no_distance(model, seen):
    world, _ = model
    size = world.base.level.groups * world.base.level.classes
    ground = jax.tree.map(lambda leaf: leaf[:, 2], seen.ground)
    goal = jnp.concatenate([jnp.zeros((B, size)), ground.obs], axis=-1)
    spread = jnp.asarray([1.0, 2.0, 0.5])
    assert np.all(distance(world, ground, goal, spread) < 1e-3)
    far = goal.at[:, size:].add(spread)  # one deviation in every entry
    np.testing.assert_allclose(distance(world, ground, far, spread), 1.0, rtol=1e-4)


def test_distances_of_pixels_are_from_the_likeliest_code_in_imagination_as_in_reality():
    world, _ = make(PIXELS, tiny.PIXELS)
    window = jax.tree.map(lambda leaf: leaf[0], tiny.batch(size=1, steps=T, obs=tiny.PIXELS))
    ground = jax.jit(lambda: world.start(window, key=jr.key(0)))().ground
    likeliest = jnp.argmax(world.code(world.arrived(ground)).log_probs, axis=-1)
    wanted = jnp.where(jnp.arange(WORLD.groups) == 0, likeliest, (likeliest + 1) % WORLD.classes)
    goal = jax.nn.one_hot(wanted, WORLD.classes).reshape(T + 1, -1)
    away = distance(world, ground, goal, None)
    np.testing.assert_allclose(away, 1 - 1 / WORLD.groups, atol=1e-5)


def test_goals_are_practised_in_the_shares_that_were_asked_for():
    count = 4000
    asked, reached = jnp.zeros((count, 1)), 1.0 + jnp.arange(count, dtype=jnp.float32)[:, None]
    known = jnp.arange(count) % 2 == 0
    config = dataclasses.replace(BEHAVIOUR, own_goals=0.5, hindsight_goals=0.3)
    goal, of_manager = practised(asked, reached, known, config, key=jr.key(0))
    goal = np.asarray(goal)[:, 0]
    own = goal == 0
    np.testing.assert_array_equal(of_manager, own)
    hindsight = goal == np.asarray(reached)[:, 0]
    assert not np.any(hindsight & ~np.asarray(known))  # what nobody saw is not practised
    assert hindsight[known].mean() == pytest.approx(0.4, abs=0.05)  # and half the strange ones
    assert own[~known].mean() == pytest.approx(0.9, abs=0.05)
    assert not np.any(np.isin(goal[~own], np.asarray(reached)[~np.asarray(known), 0]))


def test_waypoints_are_from_the_managers_path_and_never_its_start(model, seen):
    world, behaviour = model
    dreamt = plan(
        world, behaviour.manager, standing_of(seen), 3, lambda_=0.9, reliant=True, key=jr.key(1)
    )
    horizon = 20.0
    lasting = dataclasses.replace(dreamt, discount=jnp.full((3, B), (1 - 1 / horizon) ** K))
    found, relied = waypoints_of(world, lasting, 100, horizon, INDIFFERENT, key=jr.key(2))
    assert relied.all()
    assert len(found.goal) == 2 * B  # all there are
    later = np.asarray(dreamt.goal[1:]).reshape(2 * B, -1)
    order = np.lexsort(np.asarray(found.goal).T), np.lexsort(later.T)
    np.testing.assert_allclose(np.asarray(found.goal)[order[0]], later[order[1]])
    # behind an end nobody is: the first path ends with its first jump, the second with its next
    ended = dataclasses.replace(
        lasting, discount=lasting.discount.at[0, 0].set(0.0).at[1, 1].set(0.0)
    )
    found, relied = waypoints_of(world, ended, 100, horizon, INDIFFERENT, key=jr.key(2))
    is_of = lambda n, b: bool((found.goal[~relied] == dreamt.goal[n, b]).all(-1).any())
    assert (~relied).sum() == 3 and is_of(1, 0) and is_of(2, 0) and is_of(2, 1)


@pytest.fixture(scope="module")
def slopes(model, seen):
    world, behaviour = model
    slow = jax.tree.map(jnp.copy, behaviour.critics)

    def weighted(moved, batch, seen, weights):
        world, behaviour, slow = moved
        found, _, _, metrics = hierarchical_losses(
            world, behaviour, slow, HierarchyStatistics.init(BEHAVIOUR), None,
            Lesson(batch, seen.ground, seen, PURSUITS), BEHAVIOUR, key=jr.key(5, impl="unsafe_rbg"),
        )  # fmt: skip
        total = sum((weights[name] * loss.mean() for name, loss in found.items()), jnp.float32(0))
        return total, (found, metrics)

    compiled = jax.jit(jax.grad(weighted, has_aux=True))

    def run(batch, *wanted, seen=seen):
        weights = {name: jnp.float32(name in wanted) for name in OWN}
        return compiled((world, behaviour, slow), batch, seen, weights)

    return run


OWN = {
    "manager/policy": "manager.actor",
    "manager/value": "manager.critic",
    "manager/replay_value": "manager.critic",
    "manager/filled_value": "manager.critic",
    "manager/prior": "manager.prior",
    "manager/reliability": "manager.attains",
    "worker/policy": "worker.actor",
    "worker/value": "worker.critic",
}


def still(tree) -> bool:
    return all(not np.any(leaf) for leaf in jax.tree.leaves(tree) if leaf.dtype == jnp.float32)


def test_each_loss_moves_its_own_part_alone(slopes):
    batch = tiny.batch(size=B, steps=T)
    for name, wanted in OWN.items():
        (world, behaviour, slow), (losses, metrics) = slopes(batch, name)
        assert losses.keys() == OWN.keys()
        assert still(world) and still(slow), name
        for who, parts in (
            ("manager", ("actor", "critic", "prior", "attains")),
            ("worker", ("actor", "critic")),
        ):
            for part in parts:
                gradient = getattr(getattr(behaviour, who), part)
                assert still(gradient) == (f"{who}.{part}" != wanted), (name, who, part)
        assert all(np.isfinite(value) for value in metrics.values())


def test_reliability_is_learned_from_real_segments_too(model, slopes):
    _, behaviour = model
    _, (losses, metrics) = slopes(tiny.batch(size=B, steps=T))
    told = behaviour.manager.reliability(PURSUITS.start, PURSUITS.goal).mean
    wanted = -np.log([told[0], 1 - told[1], 1.0])
    np.testing.assert_allclose(losses["manager/reliability"][-3:], wanted, rtol=1e-4, atol=1e-6)
    assert metrics["worker/attained_real"] == 0.5
    brier = np.square([told[0] - 1, told[1]]).mean()
    np.testing.assert_allclose(metrics["manager/brier_real"], brier, rtol=1e-4)


def test_nothing_is_learned_from_padding(slopes, seen):
    batch = tiny.batch(size=B, steps=T)
    mask = batch.mask.at[0, 4:].set(False)
    short = dataclasses.replace(batch, mask=mask)
    _, (losses, _) = slopes(short)
    anchors = T // K
    for name in ("manager/policy", "manager/value"):
        assert not np.any(losses[name][:, 2:anchors])  # begin where nothing was seen
        assert np.any(losses[name][:, :2])
    assert not np.any(losses["manager/prior"][1:anchors])  # never seen to its end
    changed = dataclasses.replace(short, reward=short.reward.at[0, 4:].set(99.0))
    # nor are distances in units of what stands there
    obs = lambda seen: seen.ground.obs
    strange = eqx.tree_at(obs, seen, obs(seen).at[0, 4:].set(99.0))
    _, (others, _) = slopes(changed, seen=strange)
    for name in losses:
        np.testing.assert_array_equal(losses[name], others[name], err_msg=name)


def test_paths_of_segments_go_on_where_the_worker_ended(model, seen):
    world, behaviour = model
    # nothing ends here
    world = eqx.tree_at(lambda w: w.base.continue_.output.bias, world, jnp.full(1, 50.0))
    config = dataclasses.replace(BEHAVIOUR, paths=5, worker_waypoints=2)
    batch = tiny.batch(size=B, steps=T)

    @jax.jit
    def learn(paths, key, statistics):
        found, _, paths, metrics = hierarchical_losses(
            world, behaviour, behaviour.critics, statistics, paths,
            Lesson(batch, seen.ground, seen), config, key=key,
        )  # fmt: skip
        return found, paths, metrics

    nothing, usual = world.initial(), HierarchyStatistics.init(config)
    nowhere = Post.seen(nothing.ground, nothing.above[0])
    found, first, _ = learn(Paths.init(nowhere, 5, 1_000_000), jr.key(0), usual)
    assert found["worker/value"].shape == (K, 7) and found["manager/value"].shape[1] == 5
    assert found["manager/prior"].shape == (B * T // K,)  # of all that was replayed
    assert not first.over.any()
    replayed = Replayed.of(world, batch, seen)
    begun = first.begun(replayed.post, replayed.real, 0, key=jr.key(2))
    chex.assert_trees_all_equal(begun.state, first.state)
    _, second, metrics = learn(first, jr.key(1), usual)
    assert all(np.isfinite(value) for value in metrics.values())
    assert np.all(np.any(second.state.ground.deter != first.state.ground.deter, axis=-1))
    # where level 1 stands is the anchor that level 0 arrived at
    size = world.base.level.groups * world.base.level.classes
    np.testing.assert_allclose(second.state.standing.obs[:, size:], second.state.ground.obs, 1e-5)
    # where level 1 is never right, nobody is late
    vague = eqx.tree_at(lambda s: s.precision.value, usual, jnp.float32(1e9))
    _, _, lenient = learn(first, jr.key(1), vague)
    assert metrics["worker/attained"] < lenient["worker/attained"] == 1.0


def test_level_1_is_held_to_where_the_same_actions_really_led(model, seen):
    world, _ = model
    standing, did = standing_of(seen), choice_of(jnp.zeros((B, 8), jnp.int32))
    spread = jnp.full(tiny.OBS, 2.0)
    off = lambda reached: misjudged(world, standing, did, reached, spread, key=jr.key(3))
    leap = lambda *inputs, key: proposed(world.jumps[0], *inputs, key=key)[1]
    goal = subgoal(jax.vmap(leap)(standing, did, key=jr.split(jr.key(3), B)))
    np.testing.assert_allclose(off(goal), 0.0, atol=2e-4)
    np.testing.assert_allclose(off(goal + 3.0), 1.5, rtol=1e-4)


def test_a_new_subgoal_comes_once_a_segment_counted_from_the_start(model, seen):
    world, behaviour = model
    start = jax.tree.map(lambda leaf: leaf[0, -1], seen)  # at a boundary: T is a multiple of K
    imagined, intents = jax.jit(lambda: followed(world, behaviour, start, 5, key=jr.key(4)))()
    goals = np.asarray(intents)
    new = [bool(np.any(goals[t] != goals[t - 1])) for t in range(1, 5)]
    assert new == [False, True, False, True]
    assert imagined.action.shape == (5, tiny.ACTION)


def test_the_worker_listens_to_its_subgoal(model, seen):
    _, behaviour = model
    stack = jax.tree.map(lambda leaf: leaf[:, 3], seen)
    zeros = jnp.zeros_like(standing_of(seen).obs)
    one, other = behaviour.acting(stack, zeros), behaviour.acting(stack, zeros + 1.0)
    assert np.all(np.abs(one.mode - other.mode).max(-1) > 1e-4)


def test_subgoals_of_pixels_are_codes():
    world, behaviour = make(PIXELS, tiny.PIXELS)
    batch = tiny.batch(size=B, steps=T, obs=tiny.PIXELS)
    start = jax.vmap(lambda window, key: world.start(window, key=key))
    seen = jax.jit(start)(batch, jr.split(jr.key(0), B))
    found, _, _, metrics = jax.jit(
        lambda seen, batch: hierarchical_losses(
            world,
            behaviour,
            behaviour.critics,
            HierarchyStatistics.init(BEHAVIOUR),
            None,
            Lesson(batch, seen.ground, seen),
            BEHAVIOUR,
            key=jr.key(5),
        )
    )(seen, batch)
    assert all(np.all(np.isfinite(loss)) for loss in found.values())
    assert 0 <= metrics["worker/attained"] <= 1
