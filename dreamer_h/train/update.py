"""One update on one batch: the world learns, the policy learns inside it."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.behaviour import flat, hierarchical_losses
from dreamer_h.behaviour.attitude import Attitude
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.inside import Behaviour
from dreamer_h.behaviour.lesson import Lesson
from dreamer_h.behaviour.paths import Paths
from dreamer_h.config import BehaviourConfig, Config
from dreamer_h.nn.optimizer import slowed
from dreamer_h.train.state import Agent, TrainState, in_precision, optimizer
from dreamer_h.types import Pursuits, Sequence
from dreamer_h.world.objective import batch_losses
from dreamer_h.world.objective import scales as world_scales
from dreamer_h.world.upper.hierarchy import Hierarchy, levels_of
from dreamer_h.world.world import World

T = TypeVar("T")
Metrics = dict[str, Float[Array, ""]]


def make_update(config: Config) -> Callable[..., tuple[TrainState, Metrics]]:
    """The jitted update `(state, batch, pursuits=None) -> (state, metrics)`; the old state is
    donated. `pursuits` are what subgoals came to in reality, where a manager sets any."""

    def update(
        state: TrainState, batch: Sequence, pursuits: Pursuits | None = None
    ) -> tuple[TrainState, Metrics]:
        # unsafe_rbg compiles in half the time of threefry and draws faster; equality between
        # batched and single draws is not needed inside an update
        key = jr.fold_in(jr.key(state.seed, impl="unsafe_rbg"), state.update)
        together_key, alone_key = jr.split(key)
        learned, lesson, metrics = _together(state, batch, pursuits, config, key=together_key)
        sound = jnp.isfinite(metrics["train/loss"]) & jnp.isfinite(metrics["train/gradient_norm"])
        if config.behaviour.gradient_steps > 1:
            alone = lambda state, key: behaviour_step(state, lesson, config, key=key)
            keys = jr.split(alone_key, config.behaviour.gradient_steps - 1)
            learned, (totals, shown) = jax.lax.scan(alone, learned, keys)
            sound &= jnp.isfinite(totals).all()
            metrics |= {name: values.mean() for name, values in shown.items()}
        average = state.average
        if average is not None:
            # at first a plain mean, which forgets the untrained agent at once
            rate = jnp.maximum(1.0 - config.average, 1.0 / (state.update + 1.0))
            average = moved(average, learned.agent, rate)
        learned = dataclasses.replace(learned, average=average)
        state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), learned, state)
        failed = (~sound).astype(jnp.int32)
        state = dataclasses.replace(
            state,
            update=state.update + 1,
            skipped=state.skipped + failed,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * failed,
        )
        metrics |= {
            "train/skipped": state.skipped.astype(jnp.float32),
            "train/skipped_in_a_row": state.skipped_in_a_row.astype(jnp.float32),
        }
        return state, metrics

    return jax.jit(update, donate_argnums=0)


def _together(
    state: TrainState,
    batch: Sequence,
    pursuits: Pursuits | None,
    config: Config,
    *,
    key: PRNGKeyArray,
) -> tuple[TrainState, Lesson, Metrics]:
    """One gradient step of simulator and behaviour, and what further steps may learn from."""
    loss = jax.value_and_grad(total_loss, has_aux=True)
    (total, (statistics, paths, lesson, metrics)), gradient = loss(
        state.agent, state, batch, pursuits, config, key=key
    )
    metrics |= {"train/loss": total, "train/gradient_norm": optax.tree.norm(cast(Any, gradient))}
    world, of_world = _moved_by(gradient.world, state.optimizer[0], state.agent.world, config)
    learned = _with_better_behaviour(state, gradient.behaviour, statistics, paths, config)
    learned = dataclasses.replace(
        learned,
        agent=Agent(world, learned.agent.behaviour),
        optimizer=(of_world, learned.optimizer[1]),
    )
    return learned, lesson, metrics


def behaviour_step(
    state: TrainState, lesson: Lesson, config: Config, *, key: PRNGKeyArray
) -> tuple[TrainState, tuple[Float[Array, ""], Metrics]]:
    """A gradient step of the behaviour alone, in the simulator as it is; its
    loss plus its gradient's norm, which is finite if both are, and what the log shows."""
    world = state.acting.world

    def loss(behaviour: Behaviour):
        dream, chosen, slow_critics = in_precision(
            (world, behaviour, state.slow_critics), jnp.dtype(config.precision)
        )
        found, statistics, paths, shown = behaviour_losses(
            dream, chosen, slow_critics, state.statistics, state.paths, lesson, config.behaviour,
            key=key,
        )  # fmt: skip
        scales = _behaviour_scales(config)
        return _total(found, scales), (statistics, paths, _named("behaviour", found, shown))

    (total, (statistics, paths, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(
        state.agent.behaviour
    )
    learned = _with_better_behaviour(state, gradient, statistics, paths, config)
    return learned, (total + optax.tree.norm(cast(Any, gradient)), metrics)


def _with_better_behaviour(
    state: TrainState, gradient: Behaviour, statistics: Any, paths: Paths | None, config: Config
) -> TrainState:
    """After a gradient step of the behaviour; the simulator is as it was."""
    of_world, of_behaviour = state.optimizer
    behaviour, of_behaviour = _moved_by(gradient, of_behaviour, state.agent.behaviour, config)
    return dataclasses.replace(
        state,
        agent=Agent(state.agent.world, behaviour),
        slow_critics=moved(state.slow_critics, behaviour.critics, config.behaviour.slow_rate),
        statistics=statistics,
        paths=paths,
        optimizer=(of_world, of_behaviour),
    )


def _moved_by(
    gradient: T, opt_state: optax.OptState, part: T, config: Config
) -> tuple[T, optax.OptState]:
    """A world or a behaviour after a gradient, and its optimiser."""
    # optax's types do not know modules
    chain: Any = optimizer(config)
    steps, opt_state = chain.update(gradient, opt_state, part)
    if isinstance(part, Hierarchy):
        steps = slowed(steps, levels_of, config.jump.rate)
    elif not isinstance(part, World):
        steps = slowed(steps, lambda behaviour: behaviour.actors, config.behaviour.actor_rate)
        steps = slowed(steps, lambda behaviour: behaviour.critics, config.behaviour.critic_rate)
    return jax.tree.map(jnp.add, part, steps), opt_state


def moved(average: T, towards: T, rate: float | Float[Array, ""]) -> T:
    """A moving average after one more value."""
    return jax.tree.map(lambda old, new: (1.0 - rate) * old + rate * new, average, towards)


def total_loss(
    agent: Agent,
    state: TrainState,
    batch: Sequence,
    pursuits: Pursuits | None,
    config: Config,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], tuple[Any, Paths | None, Lesson, Metrics]]:
    """The weighted sum of all losses of a batch, the new statistics and paths, what further steps
    may learn from, and the metrics.

    `agent` is the one that learns, the rest stands in `state`. Imagination runs in the average's
    world, if there is an average.
    """
    agent, average, slow_critics = in_precision(
        (agent, state.average, state.slow_critics), jnp.dtype(config.precision)
    )
    world, behaviour = agent.world, agent.behaviour
    posterior_key, average_key, imagine_key = jr.split(key, 3)

    losses, latents, seen = batch_losses(
        world, batch, config, update=state.update, key=posterior_key
    )
    metrics = _named("world", losses, seen)
    dream, dreamt = world if average is None else average.world, latents
    if average is not None or config.levels > 1:
        keys = jr.split(average_key, len(batch.mask))
        observe = lambda sequence, key: dream.start(sequence, key=key)
        dreamt = jax.lax.stop_gradient(jax.vmap(observe)(batch, keys))
    lesson = Lesson(batch, latents, dreamt, pursuits, attitude_of(state, config))
    found, statistics, paths, shown = behaviour_losses(
        dream, behaviour, slow_critics, state.statistics, state.paths, lesson, config.behaviour,
        key=imagine_key,
    )  # fmt: skip
    total = _total(losses | found, world_scales(config) | _behaviour_scales(config))
    metrics |= _named("behaviour", found, shown)
    return total, (statistics, paths, jax.lax.stop_gradient(lesson), metrics)


def attitude_of(state: TrainState, config: Config) -> Attitude:
    """How the policies of this update take doubt."""
    exploring = None
    if config.explore_steps:
        steps = config.explore_steps // config.action_repeat - config.prefill
        exploring = state.update < config.updates_due(steps)
    trusted = state.trusted if config.behaviour.trust_horizon else None
    return Attitude(config.behaviour.pessimism, exploring, trusted)


def _behaviour_scales(config: Config) -> dict[str, float]:
    return (hierarchical_losses if config.levels > 1 else flat).scales(config.behaviour)


def _total(losses: dict[str, Float[Array, "..."]], scales: dict[str, float]) -> Float[Array, ""]:
    assert scales.keys() == losses.keys(), (scales.keys(), losses.keys())
    return sum((scales[name] * loss.mean() for name, loss in losses.items()), jnp.float32(0.0))


def _named(room: str, *found: dict[str, Float[Array, "..."]]) -> Metrics:
    return {f"{room}/{name}": value.mean() for part in found for name, value in part.items()}


def behaviour_losses(
    dream: Any,
    behaviour: Behaviour,
    slow_critics: Any,
    statistics: Any,
    paths: Paths | None,
    lesson: Lesson,
    config: BehaviourConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, "..."]], Any, Paths | None, Metrics]:
    """Losses of whichever kind of behaviour it is, the new statistics, where its paths stand, and
    what the log shows."""
    if isinstance(behaviour, ManagerWorker):
        return hierarchical_losses.hierarchical_losses(
            dream, behaviour, slow_critics, statistics, paths, lesson, config, key=key
        )
    return flat.flat_losses(
        dream, behaviour, slow_critics, statistics, paths, lesson, config, key=key
    )
