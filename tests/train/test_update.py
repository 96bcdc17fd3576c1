import dataclasses
import math

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.behaviour.actor_critic import Underway
from dreamer_h.behaviour.paths import Paths
from dreamer_h.config import BehaviourConfig, Config, OptimizerConfig
from dreamer_h.nn.statistics import ReturnScale
from dreamer_h.presets import preset
from dreamer_h.train import update as room
from dreamer_h.train.state import TrainState, init_agent, init_state, init_statistics
from dreamer_h.train.update import make_update, total_loss
from dreamer_h.types import Observed

FAST = OptimizerConfig(learning_rate=3e-3, warmup=1)
CONFIG = tiny.config(optimizer=FAST)
AVERAGED = dataclasses.replace(CONFIG, average=0.6)
LOSSES = [f"world/{name}" for name in ("recon", "reward", "continue", "dyn", "rep")]
LOSSES += [f"behaviour/{name}" for name in ("policy", "value", "replay_value")]


def fresh(config: Config = CONFIG, obs=tiny.STATE) -> TrainState:
    """A state with random parameters; building it compiles nothing."""
    state = tiny.weights(lambda: init_state(obs, tiny.ACTION, config), seed=config.seed)
    agent = state.agent
    agent = eqx.tree_at(lambda a: a.world.reward, agent, tiny.peaked(agent.world.reward))
    critic = tiny.peaked(agent.behaviour.critic)
    agent = eqx.tree_at(lambda a: a.behaviour.critic, agent, critic)
    average = agent if config.average else None
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    state = dataclasses.replace(
        zeros(state), agent=agent, average=average, slow_critics=(critic,),
        seed=jnp.uint32(config.seed),
    )  # fmt: skip
    # no leaf may be another one's buffer: the update donates them
    return jax.tree.map(jnp.copy, state)


class Traced:
    """The compiled update, and how often its loss was traced."""

    def __init__(self, config: Config):
        self.traces = 0
        self.config = config
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "total_loss", self._counted)
            self.update = make_update(config)
            # the name is looked up while tracing, that is, in the first call
            self.first = self.update(fresh(config), tiny.batch())

    def _counted(self, *args, **kwargs):
        self.traces += 1
        return total_loss(*args, **kwargs)


@pytest.fixture(scope="module")
def traced() -> Traced:
    return Traced(CONFIG)


@pytest.fixture(scope="module")
def averaged() -> Traced:
    return Traced(AVERAGED)


def run(traced: Traced, updates: int, batches=tiny.batch):
    state, metrics = fresh(traced.config), []
    for i in range(updates):
        state, found = traced.update(state, batches(i))
        metrics.append(found)
    return state, metrics


def parameters(state: TrainState):
    return jax.tree.map(np.asarray, (state.agent, state.slow_critics))


def test_the_update_is_traced_once_for_all_batches(traced):
    run(traced, 3)
    assert traced.traces == 1
    assert traced.update._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]


def test_the_same_seed_and_batches_give_the_same_state_bit_for_bit(traced):
    first, first_metrics = run(traced, 3)
    second, second_metrics = run(traced, 3)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal(first_metrics, second_metrics)
    assert int(first.update) == 3 and int(first.seed) == CONFIG.seed


def test_another_update_number_draws_other_numbers(traced):
    # the same state and batch, but for the clock
    losses = []
    for number in (0, 1):
        state = dataclasses.replace(fresh(), update=jnp.int32(number))
        losses.append(float(traced.update(state, tiny.batch())[1]["train/loss"]))
    assert losses[0] != losses[1]


def test_the_old_state_is_donated(traced):
    state = fresh()
    traced.update(state, tiny.batch())
    deleted = [leaf.is_deleted() for leaf in jax.tree.leaves(state.agent)]
    assert all(deleted)


def test_every_parameter_and_the_slow_critic_learn(traced):
    before, after = fresh(), run(traced, 3)[0]  # the first update's rate is 0
    paths = jax.tree_util.tree_leaves_with_path((before.agent, before.slow_critics))
    for (path, old), new in zip(
        paths, jax.tree.leaves((after.agent, after.slow_critics)), strict=True
    ):
        assert not np.array_equal(old, new), jax.tree_util.keystr(path)


@pytest.mark.parametrize("part, other", [("actor", "critic"), ("critic", "actor")])
def test_actor_and_critic_move_at_their_shares_of_the_step(part, other):
    moved = []
    for rate in (1.0, 0.25):
        behaviour = dataclasses.replace(CONFIG.behaviour, **{f"{part}_rate": rate})
        config = dataclasses.replace(CONFIG, behaviour=behaviour)
        state, update = fresh(config), make_update(config)
        before = jax.tree.map(np.asarray, state.agent)
        # the first update's rate is 0
        state = dataclasses.replace(
            state, optimizer=update(fresh(config), tiny.batch())[0].optimizer
        )
        after, _ = update(state, tiny.batch(1))
        step = jax.tree.map(lambda a, b: np.asarray(a) - b, after.agent, before).behaviour
        moved.append(step)
    fast, slow = (getattr(tree, part) for tree in moved)
    # steps of 3e-3, on parameters of up to 20 in float32
    chex.assert_trees_all_close(jax.tree.map(lambda x: 0.25 * x, fast), slow, atol=1e-5)
    chex.assert_trees_all_close(getattr(moved[0], other), getattr(moved[1], other), atol=1e-5)


def test_the_slow_critic_follows_the_critic_at_its_rate(traced):
    state = run(traced, 2)[0]
    slow = jax.tree.map(np.asarray, state.slow_critics)
    state, _ = traced.update(state, tiny.batch(2))
    rate = CONFIG.behaviour.slow_rate
    wanted = jax.tree.map(
        lambda s, f: (1 - rate) * s + rate * np.asarray(f), slow, state.agent.behaviour.critics
    )
    chex.assert_trees_all_close(state.slow_critics, wanted, rtol=1e-6, atol=1e-7)


def test_without_an_average_the_agent_itself_acts(traced):
    state = run(traced, 1)[0]
    assert state.average is None and state.acting is state.agent


def test_the_average_is_first_the_plain_mean_of_the_agents_and_then_moves_at_its_rate(averaged):
    state, agents = fresh(AVERAGED), []
    for i in range(4):
        state, _ = averaged.update(state, tiny.batch(i))
        agents.append(jax.tree.map(np.asarray, state.agent))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *agents[:2])
    # 1/3 is below 0.4
    wanted = jax.tree.map(lambda m, c, d: 0.6 * (0.6 * m + 0.4 * c) + 0.4 * d, mean, *agents[2:])
    chex.assert_trees_all_close(state.acting, wanted, rtol=1e-5, atol=1e-6)


def test_the_average_is_still_where_an_update_is_skipped(averaged):
    state = run(averaged, 2)[0]
    before = jax.tree.map(np.asarray, state.average)
    bad = tiny.batch(2)
    state, _ = averaged.update(
        state, dataclasses.replace(bad, obs=bad.obs.at[0, 1, 0].set(jnp.nan))
    )
    assert int(state.skipped) == 1
    chex.assert_trees_all_equal(state.average, before)


def test_further_steps_of_the_behaviour_leave_the_simulator_as_it_is_and_move_paths_on():
    found = []
    for steps in (1, 3):
        behaviour = dataclasses.replace(
            CONFIG.behaviour, paths=4, gradient_steps=steps, replay_value_scale=0.0
        )
        config = dataclasses.replace(CONFIG, behaviour=behaviour)
        update, state = make_update(config), fresh(config)
        # paths begin anew, since none has begun
        state = dataclasses.replace(
            state, paths=Paths.init(Underway.begun(state.agent.world.initial()), 4, 6)
        )
        for i in range(2):
            state, metrics = update(state, tiny.batch(i))
            assert all(np.isfinite(value) and value.shape == () for value in metrics.values())
        assert state.paths is not None and np.isfinite(state.paths.state.latent.deter).all()
        found.append(jax.tree.map(np.asarray, state))
    once, thrice = found
    chex.assert_trees_all_equal(once.agent.world, thrice.agent.world)
    assert not np.array_equal(once.paths.state.latent.deter, thrice.paths.state.latent.deter)
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), once.agent.behaviour, thrice.agent.behaviour
    )
    assert all(jax.tree.leaves(changed))


def test_metrics_are_finite_float32_scalars_named_by_their_room(traced):
    _, metrics = run(traced, 2)
    for name, value in metrics[1].items():
        assert name.split("/")[0] in ("world", "behaviour", "train"), name
        assert value.shape == () and value.dtype == jnp.float32 and np.isfinite(value), name
    assert set(LOSSES) < metrics[1].keys()


def test_the_total_is_the_sum_of_the_losses_by_their_weights(traced):
    metrics = run(traced, 1)[1][0]
    scale = {"rep": CONFIG.world.rep_scale, "replay_value": CONFIG.behaviour.replay_value_scale}
    parts = {name.split("/")[-1]: float(metrics[name]) for name in LOSSES}
    wanted = sum(scale.get(name, 1.0) * value for name, value in parts.items())
    np.testing.assert_allclose(metrics["train/loss"], wanted, rtol=1e-5)


def test_a_batch_that_is_not_finite_is_skipped_and_the_next_one_learns(traced):
    state = run(traced, 2)[0]
    before = parameters(state)
    rest = jax.tree.map(np.asarray, (state.optimizer, state.statistics))
    bad = tiny.batch(2)
    bad = dataclasses.replace(bad, obs=bad.obs.at[1, 2, 0].set(jnp.nan))
    for count in (1, 2):
        state, metrics = traced.update(state, bad)
        chex.assert_trees_all_equal(parameters(state), before)
        chex.assert_trees_all_equal(
            jax.tree.map(np.asarray, (state.optimizer, state.statistics)), rest
        )
        assert int(state.skipped) == int(state.skipped_in_a_row) == count
        assert float(metrics["train/skipped"]) == count
    state, metrics = traced.update(state, tiny.batch(3))
    assert int(state.skipped) == 2 and int(state.skipped_in_a_row) == 0
    assert int(state.update) == 5
    assert np.isfinite(metrics["train/loss"])
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), parameters(state), before)
    assert all(jax.tree.leaves(changed))


def test_an_infinite_reward_is_skipped_or_clipped_but_never_learned_as_nan(traced):
    bad = tiny.batch()
    bad = dataclasses.replace(bad, reward=bad.reward.at[0, 2].set(jnp.inf))
    state, _ = traced.update(fresh(), bad)
    for leaf in jax.tree.leaves(state.agent):
        assert np.isfinite(leaf).all()


def test_one_batch_is_learned_by_heart(traced):
    state, batch, losses = fresh(), tiny.batch(), []
    for _ in range(150):
        state, metrics = traced.update(state, batch)
        losses.append(float(metrics["world/recon"] + metrics["world/reward"]))
    assert int(state.skipped) == 0
    # with the codes drawn anew each time; a factor of 10 was seen
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3]), (losses[:3], losses[-3:])


def test_a_pixel_world_learns_from_images_in_bfloat16_with_float32_parameters():
    # both in one, for the sake of the compiler: it takes longer than all the other tests
    config = tiny.config(obs="pixels", size=16, precision="bfloat16", optimizer=FAST)
    update, state = make_update(config), fresh(config, tiny.PIXELS)
    before = jax.tree.map(np.asarray, state.agent)
    for i in range(3):
        state, metrics = update(state, tiny.batch(i, obs=tiny.PIXELS))
        assert all(np.isfinite(value) for value in metrics.values())
    assert int(state.skipped) == 0
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.agent), strict=True):
        assert new.dtype == jnp.float32
        assert not np.array_equal(old, new)


# --- what reaches what: gradients of single losses, taken from the real total -----------------


@pytest.fixture(scope="module")
def slopes():
    """(weights by loss, batch, …) -> (gradients of agent and slow critic, scale, metrics)."""
    behaviour = dataclasses.replace(tiny.BEHAVIOUR, gradient="dynamics", entropy_rate=0.1)
    config = tiny.config(behaviour=behaviour)

    def weighted(moved, statistics, batch, weights, key):
        agent, slow_critics = moved
        at = dataclasses.replace(state, slow_critics=slow_critics, statistics=statistics)
        _, aux = total_loss(agent, at, batch, None, config, key=key)
        return sum(weights[name] * aux[-1][name] for name in weights), aux

    compiled = jax.jit(jax.grad(weighted, has_aux=True))
    state = dataclasses.replace(fresh(), paths=None)
    wide = dataclasses.replace(
        init_statistics(config),
        return_scale=ReturnScale(jnp.float32(-50.0), jnp.float32(50.0), 0.01),
    )

    def run(batch, *wanted, seed=0):
        weights = {name: jnp.float32(name in wanted) for name in LOSSES}
        return compiled((state.agent, state.slow_critics), wide, batch, weights, jr.key(seed))

    return run


def still(tree) -> bool:
    return all(not np.any(leaf) for leaf in jax.tree.leaves(tree))


def test_each_loss_moves_its_own_part_alone(slopes):
    for name in LOSSES:
        (agent, slow_critic), _ = slopes(tiny.batch(), name)
        world, actor, critic = agent.world, agent.behaviour.actor, agent.behaviour.critic
        assert still(slow_critic), name
        assert still(world) == (name in ("behaviour/policy", "behaviour/value")), name
        assert still(actor) == (name != "behaviour/policy"), name
        critic_learns = ("behaviour/value", "behaviour/replay_value")
        assert still(critic) == (name not in critic_learns), name
    assert not still(world.encoder) and not still(world.level.cell)  # by the replayed value


def test_policies_are_trained_in_the_world_of_the_average_which_learns_nothing_from_it():
    state, batch, key = fresh(AVERAGED), tiny.batch(), jr.key(0)
    other = jax.tree.map(lambda leaf: 1.1 * leaf, state.agent)
    names = ("behaviour/policy", "world/recon", "world/dyn")

    def losses(agent, average):
        at = dataclasses.replace(state, average=average)
        *_, metrics = total_loss(agent, at, batch, None, AVERAGED, key=key)[1]
        return jnp.stack([metrics[name] for name in names])

    compiled = jax.jit(losses)
    base = compiled(state.agent, state.agent)
    behaviour = eqx.tree_at(lambda a: a.behaviour, state.agent, other.behaviour)
    chex.assert_trees_all_equal(compiled(state.agent, behaviour), base)  # its policy is not asked
    moved = compiled(state.agent, other) - base
    assert moved[0] and not moved[1:].any()

    slopes = jax.jit(jax.grad(lambda *a: losses(*a)[0], argnums=(0, 1)))(state.agent, other)
    assert still(slopes[1]) and still(slopes[0].world) and not still(slopes[0].behaviour.actor)


def padded(seed=0):
    """The first window ends by a time limit, the second by a terminal step; then padding."""
    batch = tiny.batch(seed)
    steps = jnp.arange(5)
    mask = steps <= jnp.asarray([[2], [3]])
    zero = lambda x, where: jnp.where(where.reshape(*where.shape, *[1] * (x.ndim - 2)), x, 0)
    return dataclasses.replace(
        batch,
        obs=zero(batch.obs, mask),
        reward=zero(batch.reward, mask),
        action=zero(batch.action, mask[:, 1:]),
        is_terminal=batch.is_terminal.at[1, 3].set(True),
        mask=mask,
    )


def test_padding_changes_no_loss_no_gradient_and_no_statistic(slopes):
    batch = padded()
    other = dataclasses.replace(
        batch,
        obs=jnp.where(batch.mask[..., None], batch.obs, 7.0),
        reward=jnp.where(batch.mask, batch.reward, 30.0),
        action=jnp.where(batch.mask[:, 1:, None], batch.action, -1.0),
    )
    found, (statistics, _, _, metrics) = slopes(batch, *LOSSES)
    again, (other_statistics, _, _, other_metrics) = slopes(other, *LOSSES)
    chex.assert_trees_all_equal(statistics, other_statistics)
    for name in LOSSES:
        assert float(metrics[name]) == float(other_metrics[name]), name
    chex.assert_trees_all_equal(found, again)


def test_the_reward_of_the_first_observation_changes_no_loss(slopes):
    batch = tiny.batch()
    other = dataclasses.replace(batch, reward=batch.reward.at[:, 0].set(1e3))
    metrics, again = slopes(batch)[1][-1], slopes(other)[1][-1]
    for name in LOSSES:
        assert float(metrics[name]) == float(again[name]), name


# --- the presets ------------------------------------------------------------------------------

MILLIONS = {
    "size1m": (0.64, 0.69), "size12m": (9.74, 10.5), "size25m": (21.8, 23.5),
    "size50m": (38.6, 41.7), "size100m": (86.6, 93.5), "size200m": (154.0, 166.0),
    "size400m": (345.0, 373.0),
}  # fmt: skip


@pytest.mark.parametrize("name", MILLIONS)
def test_a_preset_has_the_published_number_of_parameters(name):
    walker = Observed((24,), jnp.float32), Observed((64, 64, 3), jnp.uint8)
    for obs, millions in zip(walker, MILLIONS[name], strict=True):
        agent = jax.eval_shape(lambda obs=obs: init_agent(obs, 6, preset(name)))
        found = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(agent)) / 1e6
        # the table has three digits
        assert found == pytest.approx(millions, rel=0.01)


def test_a_fresh_state_has_a_slow_critic_of_its_own_and_clocks_at_zero():
    config = tiny.config(behaviour=BehaviourConfig(units=8, layers=1, bins=41), seed=3)
    with jax.default_prng_impl("unsafe_rbg"):  # compiles ten times faster
        state = jax.jit(lambda: init_state(tiny.STATE, tiny.ACTION, config))()
    chex.assert_trees_all_equal(state.slow_critics, state.agent.behaviour.critics)
    for count in (state.update, state.skipped, state.skipped_in_a_row):
        assert int(count) == 0
    assert int(state.seed) == 3 and float(state.statistics.return_scale.scale) == 1.0
