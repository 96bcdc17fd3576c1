"""What manager and worker learn from a batch, all of it inside the simulator."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import imagination_losses, value_loss
from dreamer_h.behaviour.attitude import Attitude
from dreamer_h.behaviour.goals import practised, waypoints_of
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.lesson import Lesson
from dreamer_h.behaviour.manager import (
    Manager,
    Plan,
    manager_losses,
    misjudged,
    plan,
)
from dreamer_h.behaviour.paths import Beginnings, Paths
from dreamer_h.behaviour.replayed import Replayed, replay_value
from dreamer_h.behaviour.subgoal import between, spread_of
from dreamer_h.behaviour.worker import Attempt, Segment, attempt
from dreamer_h.config import BehaviourConfig
from dreamer_h.nn.statistics import EntropyWeight, ReturnScale, RunningQuantile, Statistics
from dreamer_h.types import Pursuits, Stack, merged
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.hierarchy import Hierarchy

stop = jax.lax.stop_gradient

Losses = dict[str, Float[Array, "..."]]
Metrics = dict[str, Float[Array, ""]]


PRECISE = 0.9  # share of segments that end within level 1's precision


class HierarchyStatistics(eqx.Module):
    """What manager and worker keep an eye on."""

    manager: Statistics  # its weight is that of the prior; what it holds is minus the nats away
    worker: Statistics
    precision: RunningQuantile  # of level 1's subgoals, in their distance

    @classmethod
    def init(cls, config: BehaviourConfig) -> "HierarchyStatistics":
        held = EntropyWeight.init(config.prior_weight, -config.prior_nats, config.prior_rate)
        own = EntropyWeight.init(config.entropy, config.entropy_target, config.entropy_rate)
        return cls(
            Statistics(ReturnScale.init(), held),
            Statistics(ReturnScale.init(), own),
            RunningQuantile.init(PRECISE),
        )


def scales(config: BehaviourConfig) -> dict[str, float]:
    """The weight of each loss of manager and worker."""
    found = dict.fromkeys(("manager/policy", "manager/value", "manager/prior"), 1.0)
    found |= dict.fromkeys(("manager/filled_value", "manager/reliability"), 1.0)
    found |= dict.fromkeys(("worker/policy", "worker/value"), 1.0)
    return found | {"manager/replay_value": config.replay_value_scale}


def hierarchical_losses(
    dream: Hierarchy,
    behaviour: ManagerWorker,
    slow_critics: tuple[Head, Head],
    statistics: HierarchyStatistics,
    paths: Paths | None,
    lesson: Lesson,
    config: BehaviourConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[Losses, HierarchyStatistics, Paths | None, Metrics]:
    """Losses of manager and worker, the new statistics, where imagined paths stand, and what the
    log shows. Nothing of it reaches the world.

    Manager and worker set out in the `dream` along `paths`, or anew from every replayed segment.
    Whether subgoals are reached is learned from these segments and from real pursuits.
    """
    batch, seen, attitude = lesson.batch, cast(Stack, lesson.dreamt), lesson.attitude
    manager, (slow_manager, slow_worker) = behaviour.manager, slow_critics
    begin_key, plan_key, goal_key, way_key, segment_key, end_key, known_key = jr.split(key, 7)
    replayed = Replayed.of(dream, batch, seen)
    begun = Beginnings.all_of(replayed.post, replayed.real)
    if paths is not None:
        begun = paths.begun(replayed.post, replayed.real, dream.strides[0], key=begin_key)
    dreamt = plan(
        dream, manager, begun.state.standing, config.manager_jumps,
        lambda_=config.lambda_, reliant=config.reliant, attitude=attitude,
        doubt=attitude.handed_over(begun.state.doubt, of=0, to=1), key=plan_key,
    )  # fmt: skip
    losses, of_manager, metrics = _managed(
        manager, slow_manager, statistics.manager, replayed, dreamt, begun.real, config
    )
    promised = dreamt.returns[0]
    if paths is not None:  # few of them begin here
        promised = stop(manager.value(replayed.post.standing.features).mean)
    losses["replay_value"] = attitude.of_task(
        replay_value(dream, manager, slow_manager, replayed, batch, promised, attitude, config)
    )

    reached, known = replayed.reached[begun.chosen], replayed.known[begun.chosen] & begun.anew
    goal, own = practised(dreamt.goal[0], reached, known, config, key=goal_key)
    way, relied = waypoints_of(
        dream, dreamt, config.worker_waypoints, config.horizon, attitude, key=way_key
    )
    segment = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]),
        Segment(begun.state, goal, dreamt.told[0]),
        way,
    )
    real = jnp.concatenate([begun.real, relied])
    own = jnp.concatenate([own, jnp.ones_like(relied)])
    obs = seen.ground.obs
    spread = None if obs is None else spread_of(merged(obs), merged(batch.mask))
    off = misjudged(
        dream, replayed.post.standing, replayed.did, replayed.reached, spread, key=known_key
    )
    precision = statistics.precision.update(stop(off), replayed.known)
    within = jnp.maximum(config.attained, precision.value)
    metrics["within"] = within
    worked, of_worker, shown, tried = _worked(
        dream, behaviour, slow_worker, statistics.worker, segment, real, spread, within,
        attitude, config, segment_key,
    )  # fmt: skip
    # what the manager's own subgoals came to, with level 0's rewards
    features = segment.post.standing.features
    filled = value_loss(manager.value(features), slow_manager, features, tried.worth, config)
    losses["filled_value"] = jnp.where(real & own & tried.relied, filled, 0.0)
    if paths is not None:
        count = len(begun.real)
        last = jax.tree.map(lambda leaf: leaf[:count], tried.post)
        discount, whole = tried.discount[:, :count], begun.real & tried.relied[:count]
        paths = paths.after(last, discount, whole, config.horizon, key=end_key)

    losses["reliability"], wrong, often = _reliability(
        dream, manager, segment, tried, real & tried.relied, lesson.pursuits, spread, within
    )
    metrics |= wrong
    shown |= often
    shown["progress"] = (tried.before - tried.after).mean()
    both = lambda first, second: (
        {f"manager/{k}": v for k, v in first.items()}
        | {f"worker/{k}": v for k, v in second.items()}
    )
    learned = HierarchyStatistics(of_manager, of_worker, precision)
    return both(losses, worked), learned, paths, both(metrics, shown)


def _managed(
    manager: Manager,
    slow_critic: Head,
    statistics: Statistics,
    replayed: Replayed,
    dreamt: Plan,
    real: Bool[Array, " B"],
    config: BehaviourConfig,
) -> tuple[Losses, Statistics, Metrics]:
    """The manager on its own jumps, and its prior on what replayed segments did."""
    scale, held = statistics.return_scale, statistics.entropy_weight
    learned_from = real & (dreamt.weight > 0)  # not what lies behind a trusted horizon
    scale = scale.update(dreamt.returns, learned_from)
    losses, shown = manager_losses(manager, slow_critic, dreamt, scale.scale, held.weight, config)
    losses = {name: jnp.where(real, loss, 0.0) for name, loss in losses.items()}
    held = held.update(-stop(shown["prior_nats"]), learned_from)
    usual = manager.usual(cast(Array, replayed.post.standing.obs))
    nats = -(usual.log_probs * replayed.did).sum((-2, -1))
    losses["prior"] = jnp.where(replayed.known, nats, 0.0)
    metrics = {name: value.mean() for name, value in shown.items()}
    metrics["prior_weight"], metrics["return_scale"] = held.weight, scale.scale
    metrics["macro_perplexity"] = _perplexity(dreamt.choice)
    return losses, Statistics(scale, held), metrics


def _worked(
    dream: Hierarchy,
    behaviour: ManagerWorker,
    slow_critic: Head,
    statistics: Statistics,
    segment: Segment,
    real: Bool[Array, " B"],
    spread: Float[Array, " X"] | None,
    within: Float[Array, ""],
    attitude: Attitude,
    config: BehaviourConfig,
    key: PRNGKeyArray,
) -> tuple[Losses, Statistics, Metrics, Attempt]:
    """The worker on one segment from every start."""
    scale, weight = statistics.return_scale, statistics.entropy_weight
    rollout, tried = attempt(
        dream, behaviour.worker, behaviour.manager, segment, spread,
        goal_weight=config.goal_scale * scale.scale, within=within, gradient=config.gradient,
        lambda_=config.lambda_, attitude=attitude, key=key,
    )  # fmt: skip
    learned_from = real & (rollout.weight > 0)
    scale = scale.update(stop(rollout.returns), learned_from)
    losses, shown = imagination_losses(
        behaviour.worker, slow_critic, rollout, scale.scale, weight.weight, config
    )
    weight = weight.update(stop(shown["entropy"]) / rollout.action.shape[-1], learned_from)
    losses = {name: jnp.where(real, loss, 0.0) for name, loss in losses.items()}
    metrics = {name: value.mean() for name, value in shown.items()}
    metrics["entropy_weight"], metrics["return_scale"] = weight.weight, scale.scale
    return losses, Statistics(scale, weight), metrics, tried


def _reliability(
    dream: Hierarchy,
    manager: Manager,
    segment: Segment,
    tried: Attempt,
    real: Bool[Array, " B"],
    pursuits: Pursuits | None,
    spread: Float[Array, " X"] | None,
    within: Float[Array, ""],
) -> tuple[Float[Array, " B_P"], Metrics, Metrics]:
    """What is told of subgoals, held to whether they were reached, `within` which distance: in the
    simulator and, of `pursuits`, in reality; how wrong it is, and how often they were."""
    attained = (tried.after < within).astype(jnp.float32)
    told = manager.reliability(cast(Array, segment.post.standing.obs), segment.goal)
    loss = jnp.where(real, told.loss(attained), 0.0)
    wrong = {"brier": jnp.square(told.mean - attained).mean()}
    often = {"attained": attained.mean()}
    if pursuits is None:
        return loss, wrong, often
    away = between(dream, pursuits.reached, pursuits.goal, spread)
    attained = (away < within).astype(jnp.float32)
    told = manager.reliability(pursuits.start, pursuits.goal)
    some = jnp.maximum(pursuits.real.sum(), 1)
    of_real = lambda values: jnp.where(pursuits.real, values, 0.0)
    wrong["brier_real"] = of_real(jnp.square(told.mean - attained)).sum() / some
    often["attained_real"] = of_real(attained).sum() / some
    return jnp.concatenate([loss, of_real(told.loss(attained))]), wrong, often


def _perplexity(choice: Float[Array, "N B M C"]) -> Float[Array, ""]:
    """How many values of each dimension of the macro code are in use, as a mean of exp(entropy)."""
    share = choice.mean((0, 1))
    return jnp.exp(-(share * jnp.log(share + 1e-8)).sum(-1)).mean()
