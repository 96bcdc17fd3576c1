"""Levels: what a window becomes, step by step and at once, and what reaches what."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.types import Latent, Stack
from dreamer_h.world.objective import batch_losses, scales
from dreamer_h.world.upper.fill import fill
from dreamer_h.world.upper.follow import follow
from dreamer_h.world.upper.hierarchy import Hierarchy, levels_of, make_world
from dreamer_h.world.upper.outcome import Outcome
from dreamer_h.world.upper.turn import fresh, turned

STRIDE, T = 2, 8
WORLD = dataclasses.replace(
    tiny.WORLD, residual=True, learned_scale=True, selffed=STRIDE, selffed_paths=2
)
JUMP = JumpConfig(
    deter=8, hidden=8, units=8, groups=2, chunk_units=8, free_nats=0.0, selffed_warmup=0,
    distil_warmup=0,
)  # fmt: skip


def config(levels: int = 2, **changes) -> Config:
    return Config(
        **{
            "levels": levels,
            "strides": "2,2",
            "world": WORLD,
            "jump": JUMP,
            "replay": ReplayConfig(batch=2, length=T),
            **changes,
        }
    )


def make(chosen: Config, obs=tiny.STATE) -> Hierarchy:
    world = tiny.weights(lambda: make_world(obs, tiny.ACTION, chosen, key=jr.key(0)))
    assert isinstance(world, Hierarchy)
    return world


@pytest.fixture(scope="module", params=[2, 3])
def world(request) -> Hierarchy:
    return make(config(request.param))


def last(stack: Stack) -> Stack:
    return jax.tree.map(lambda leaf: leaf[-1], stack)


@pytest.mark.parametrize("steps", [T, T - 1, 0])
def test_one_step_at_a_time_equals_the_sequence(world, steps):
    window, key = tiny.window(steps=max(steps, 1)), jr.key(5)
    window = jax.tree.map(lambda leaf: leaf[: steps + 1], window)
    window = dataclasses.replace(window, action=window.action[:steps])
    found = jax.jit(lambda: world.start(window, key=key))()
    observe = jax.jit(lambda *inputs, key: world.observe(*inputs, key=key))
    stack, keys = world.initial(), jr.split(key, steps + 1)
    for t in range(steps + 1):
        action = window.action[t - 1] if t else jnp.zeros(tiny.ACTION)
        stack = observe(stack, action, window.obs[t], key=keys[t])
        chex.assert_trees_all_close(
            stack, jax.tree.map(lambda leaf, t=t: leaf[t], found), atol=1e-5
        )


def test_without_crossovers_imagining_is_the_plain_loop_of_steps(world):
    key, actions = jr.key(3), tiny.window(2, 7).action
    stack = last(jax.jit(lambda: world.start(tiny.window(steps=T), key=jr.key(1)))())
    found = jax.jit(lambda: world.imagine(stack, actions, key=key))()
    step = jax.jit(lambda *inputs, key: world.step(*inputs, key=key))
    keys = jr.split(jr.split(key, 1 + len(world.jumps))[0], len(actions))
    for t, action in enumerate(actions):
        stack = step(stack, action, key=keys[t])
        chex.assert_trees_all_close(
            stack.ground, jax.tree.map(lambda leaf, t=t: leaf[t + 1], found.latent), atol=1e-5
        )
    assert found.waypoints == ()


def test_levels_hand_over_at_their_crossovers(world):
    stack = last(jax.jit(lambda: world.start(tiny.window(steps=T), key=jr.key(1)))())
    actions = tiny.window(2, 13).action
    marks = (2, 6)[: len(world.jumps)]
    found = jax.jit(lambda actions: world.imagine(stack, actions, key=jr.key(3), crossovers=marks))
    path = found(actions)
    assert len(path.latent.deter) == 14  # the last jump is not needed to its end
    if len(marks) == 1:
        assert [list(points.steps) for points in path.waypoints] == [[2, 4, 6, 8, 10, 12, 14]]
    else:
        assert [list(points.steps) for points in path.waypoints] == [[2, 4, 6], [6, 10, 14]]
    for points in path.waypoints:  # the first step after a waypoint is filled from there
        seen = jax.jit(lambda p: world.decode_waypoints(p).obs.output)(points)
        np.testing.assert_allclose(seen, points.latent.obs[:, -tiny.OBS :], atol=1e-6)
    with pytest.raises(ValueError, match="must be multiples of 2"):
        world.imagine(stack, actions, key=jr.key(3), crossovers=(3,))
    # what comes before the first crossover is level 0's alone, and later actions change no past
    other = found(actions.at[8:].set(-actions[8:]))
    earlier = jax.tree.map(lambda leaf: leaf[:9], (path.latent, other.latent))
    chex.assert_trees_all_close(*earlier, atol=1e-6)
    assert not np.allclose(path.latent.obs[9:], other.latent.obs[9:])


def test_segments_filled_side_by_side_are_those_filled_one_by_one(world):
    window, key = tiny.window(steps=T), jr.key(4)
    found = jax.jit(
        lambda: follow(world, window, world.encode(window.obs), jr.split(jr.key(1), T + 1))
    )()
    together = jax.jit(lambda: fill(world, found.starts[0], 0, window.action, key=key))()
    ground = world.ground_at(found.starts[0])
    for n, own in enumerate(jr.split(key, T // STRIDE)):
        start = jax.tree.map(lambda leaf, n=n: leaf[n], ground)
        actions = window.action[n * STRIDE : (n + 1) * STRIDE]
        alone = world.base.imagine(start, actions, key=own).latent
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf: leaf[1:], alone),
            jax.tree.map(lambda leaf, n=n: leaf[n * STRIDE : (n + 1) * STRIDE], together),
            atol=1e-5,
        )


def test_an_upper_levels_view_needs_no_filling(world):
    stack = last(jax.jit(lambda: world.start(tiny.window(steps=T), key=jr.key(1)))())
    points = jax.jit(
        lambda: world.waypoints(stack, tiny.window(2, T).action, level=1, key=jr.key(2))
    )()
    assert list(points.steps) == list(range(0, T + 1, STRIDE))
    # it stands on what was seen
    np.testing.assert_allclose(points.latent.obs[0, -tiny.OBS :], stack.ground.obs, atol=1e-6)


def test_a_level_remembers_only_where_its_jump_ended(world):
    found = jax.jit(lambda: world.start(tiny.window(steps=T), key=jr.key(1)))()
    at = lambda t: jax.tree.map(lambda leaf: leaf[t], found)
    points = lambda t: world.waypoints(at(t), tiny.window(2, T).action, level=1, key=jr.key(2))
    assert np.any(points(STRIDE).latent.deter[0])
    assert not np.any(points(STRIDE + 1).latent.deter[0])


def test_a_level_stands_where_the_jump_from_there_begins(world):
    """What a manager chooses from is what it was taught from."""
    key, window = jr.key(2), tiny.window(steps=T)
    found = jax.jit(lambda: world.start(window, key=jr.key(1)))()
    at = lambda t: jax.tree.map(lambda leaf: leaf[t], found)
    go_on = lambda stack: turned(world, stack, key).above  # what a step from there makes of it
    begun = fresh(world, at(0), found.here[0], found.ground.obs[0], key).above
    for t, wanted in ((0, begun), (STRIDE, go_on(at(STRIDE))), (2 * STRIDE, go_on(at(2 * STRIDE)))):
        standing = world.standing(at(t), key)
        for level, jump in enumerate(world.jumps):
            if t % jump.stride == 0:
                chex.assert_trees_all_close(standing[level], wanted[level], atol=1e-6)
    if len(world.jumps) > 1:  # the memory from above
        assert np.any(world.standing(at(0), key)[0].deter)


# --- losses: what reaches what ----------------------------------------------------------------


@pytest.fixture(scope="module")
def slopes():
    """(batch, names of losses) -> the gradient of their sum, and all losses; of three levels."""
    chosen = config(3)
    world = make(chosen)

    def weighted(world, batch, weights, key):
        losses, _, _ = batch_losses(world, batch, chosen, update=jnp.int32(2), key=key)
        assert losses.keys() == scales(chosen).keys()
        return sum(weights[name] * loss.mean() for name, loss in losses.items()), losses

    compiled = jax.jit(jax.grad(weighted, has_aux=True))

    def run(batch, *wanted):
        weights = {name: jnp.float32(name in wanted) for name in scales(chosen)}
        key = jr.key(0, impl="unsafe_rbg")  # compiles in half the time
        return compiled(world, batch, weights, key)

    run.names = list(scales(chosen))
    return run


def still(tree) -> bool:
    return all(not np.any(leaf) for leaf in jax.tree.leaves(tree))


def test_no_loss_of_an_upper_level_reaches_the_lowest(slopes):
    for name in slopes.names:
        upper = name.startswith(("level", "fill")) or name == "arrive"
        gradient, losses = slopes(tiny.batch(steps=T), name)
        assert np.isfinite(losses[name]).all(), name
        if name.endswith("duration"):  # nothing ends in these windows
            assert still(gradient)
            continue
        assert still(gradient.base) == upper, name
        if name == "arrive":
            assert not still(gradient.arrive)
        elif name.startswith("level"):
            number = int(name[len("level")])
            for i, jump in enumerate(gradient.jumps):
                # a level learns from its own losses, and how to begin from those of the one below
                assert still((jump.level, jump.head)) == (i + 1 != number), (name, i)


def test_the_lowest_level_learns_as_if_it_were_alone(slopes):
    """Its own losses are those of a flat simulator, and reach nothing else."""
    own = [name for name in slopes.names if "level" not in name]
    own = [name for name in own if name != "arrive" and not name.startswith("fill")]
    batch, chosen = tiny.batch(steps=T), config(3)
    gradient, _ = slopes(batch, *own)
    assert still((gradient.jumps, gradient.see, gradient.arrive))
    alone = dataclasses.replace(chosen, levels=1)
    assert set(scales(alone)) == set(own)


def test_the_fill_teaches_anchors_and_bridges(slopes):
    gradient, _ = slopes(tiny.batch(steps=T), "fill/recon")
    assert not still(gradient.see) and not still(gradient.jumps[0].bridge)
    assert still((gradient.base, gradient.jumps[0].level, gradient.jumps[0].chunk))


@pytest.mark.parametrize("jump", [{"groups": 0}, {"own_losses": False, "reanchor": 1.0}])
def test_a_level_without_a_code_or_losses_of_its_own_learns_to_jump(jump):
    chosen = config(2, jump=dataclasses.replace(JUMP, **jump))

    def total(world, key):
        batch = tiny.batch(steps=T)
        losses, _, _ = batch_losses(world, batch, chosen, update=jnp.int32(2), key=key)
        assert losses.keys() == scales(chosen).keys()
        upper = [loss.mean() for name, loss in losses.items() if name.startswith(("level", "fill"))]
        return sum(upper)

    world = make(chosen)
    gradient = jax.jit(jax.grad(total))(world, jr.key(0, impl="unsafe_rbg"))
    assert still(gradient.base)
    for part in (gradient.jumps[0].level.cell, gradient.jumps[0].head, gradient.jumps[0].chunk):
        assert not still(part) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(part))
    stack = last(world.start(tiny.window(steps=2), key=jr.key(1)))
    actions = jnp.zeros((4, tiny.ACTION))
    path = world.imagine(stack, actions, key=jr.key(2), crossovers=(0,))
    assert np.isfinite(path.latent.features).all()


def test_padding_changes_no_loss_and_no_gradient(slopes):
    batch = tiny.batch(steps=T)
    mask = jnp.arange(T + 1) <= jnp.asarray([[5], [3]])
    zero = lambda x, mask: jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0)
    batch = dataclasses.replace(
        batch, obs=zero(batch.obs, mask), action=zero(batch.action, mask[:, 1:]),
        reward=zero(batch.reward, mask), mask=mask,
        is_terminal=batch.is_terminal.at[1, 3].set(True),
    )  # fmt: skip
    other = dataclasses.replace(
        batch,
        obs=jnp.where(mask[..., None], batch.obs, 7.0),
        reward=jnp.where(mask, batch.reward, 30.0),
        action=jnp.where(mask[:, 1:, None], batch.action, -1.0),
    )
    # what is taught about other windows' actions sees their padding, as actions like any
    names = [name for name in slopes.names if not name.endswith("distil")]
    found, losses = slopes(batch, *names)
    again, others = slopes(other, *names)
    for name in names:
        chex.assert_trees_all_equal(losses[name], others[name])
    assert np.any(losses["level1/duration"])
    chex.assert_trees_all_equal(found.base, again.base)


def test_what_happened_on_a_jump_is_summed_with_its_discounts():
    batch, horizon = tiny.batch(seed=3, steps=T), 10.0
    window = jax.tree.map(lambda leaf: leaf[0], batch)
    window = dataclasses.replace(
        window, is_terminal=window.is_terminal.at[7].set(True), mask=window.mask.at[8:].set(False)
    )
    found = Outcome.of(window, np.array([0, 4]), jnp.array([4, 4]), 4, horizon)
    discount = 1 - 1 / horizon
    reward = np.asarray(window.reward)
    np.testing.assert_allclose(found.reward[0], reward[1:5] @ discount ** np.arange(4), rtol=1e-5)
    np.testing.assert_allclose(found.reward[1], reward[5:8] @ discount ** np.arange(3), rtol=1e-5)
    np.testing.assert_allclose(found.continue_, [discount**4, 0.0], rtol=1e-5)
    assert found.anchored.tolist() == [True, False] and found.way.tolist() == [True, True]
    assert found.ended.tolist() == [False, True] and int(found.duration[1]) == 2


def test_a_jump_that_ends_early_knows_nothing_of_what_comes_after():
    batch, horizon = tiny.batch(seed=3, steps=T), 10.0
    window = jax.tree.map(lambda leaf: leaf[0], batch)
    window = dataclasses.replace(window, is_terminal=window.is_terminal.at[4].set(True))
    found = Outcome.of(window, np.array([0, 2]), jnp.array([3, 1]), 4, horizon)
    discount = 1 - 1 / horizon
    reward = np.asarray(window.reward)
    np.testing.assert_allclose(found.reward[0], reward[1:4] @ discount ** np.arange(3), rtol=1e-5)
    np.testing.assert_allclose(found.reward[1], reward[3], rtol=1e-5)
    np.testing.assert_allclose(found.continue_, [discount**3, discount], rtol=1e-5)
    assert found.anchored.tolist() == [True, True] and found.ended.tolist() == [False, False]


# --- beyond states ----------------------------------------------------------------------------


def test_anchors_of_images_see_two_frames():
    world = dataclasses.replace(
        WORLD, residual=False, learned_scale=False, selffed=0, selffed_paths=1
    )
    chosen = config(obs="pixels", size=16, world=world)
    model = make(chosen, tiny.PIXELS)
    window = jax.tree.map(lambda leaf: leaf[0], tiny.batch(0, 1, T, tiny.PIXELS))
    stack = jax.jit(lambda obs: model.start(dataclasses.replace(window, obs=obs), key=jr.key(0)))
    here = stack(window.obs).here
    changed = stack(window.obs.at[2].set(0)).here
    moved = [t for t in range(T + 1) if not np.allclose(here[t], changed[t])]
    assert moved == [2, 3]
    path = model.imagine(last(stack(window.obs)), window.action, key=jr.key(1), crossovers=(0,))
    assert isinstance(path.latent, Latent) and len(path.latent.deter) == T + 1
    assert model.decode(path.latent).obs.mean.shape == (T + 1, 16, 16, 3)


def test_what_belongs_to_upper_levels_leaves_out_the_lowest(world):
    upper = {id(leaf) for leaf in jax.tree.leaves(levels_of(world))}
    lower = {id(leaf) for leaf in jax.tree.leaves(world.base)}
    assert not upper & lower
    assert len(upper) + len(lower) == len(jax.tree.leaves(world))


@pytest.mark.parametrize("angles", [(), (1,)])
def test_whole_turns_of_an_angle_change_no_loss(angles):
    chosen = config(2, world=dataclasses.replace(WORLD, ensemble=2))
    world = make(chosen, dataclasses.replace(tiny.STATE, angles=angles))
    batch = tiny.batch(steps=T)
    turns = 2 * np.pi * jnp.asarray(np.random.default_rng(0).integers(-3, 4, (2, T + 1)))
    away = dataclasses.replace(batch, obs=batch.obs.at[..., 1].add(turns))
    key = jr.key(0, impl="unsafe_rbg")
    losses = jax.jit(lambda b: batch_losses(world, b, chosen, update=jnp.int32(2), key=key)[0])
    found = {name: np.asarray(loss) for name, loss in losses(away).items()}
    wanted = {name: np.asarray(loss) for name, loss in losses(batch).items()}
    alike = [np.allclose(found[name], wanted[name], rtol=1e-3, atol=1e-3) for name in wanted]
    assert all(alike) if angles else not all(alike)
