"""One gradient step on one batch: the world learns, the policy learns inside it."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.behaviour import flat, hierarchical_losses
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.inside import Behaviour
from dreamer_h.config import BehaviourConfig, Config
from dreamer_h.nn.optimizer import slowed
from dreamer_h.train.state import Agent, TrainState, optimizer
from dreamer_h.types import Latent, Sequence, Stack
from dreamer_h.world.heads import Head
from dreamer_h.world.hierarchy import levels_of
from dreamer_h.world.objective import batch_losses
from dreamer_h.world.objective import scales as world_scales

T = TypeVar("T")
Metrics = dict[str, Float[Array, ""]]


def make_update(config: Config) -> Callable[[TrainState, Sequence], tuple[TrainState, Metrics]]:
    """The jitted update `(state, batch) -> (state, metrics)`; the old state is donated."""
    chain = optimizer(config)

    def update(state: TrainState, batch: Sequence) -> tuple[TrainState, Metrics]:
        # unsafe_rbg compiles in half the time of threefry and draws faster; equality between
        # batched and single draws is not needed inside an update
        key = jr.fold_in(jr.key(state.seed, impl="unsafe_rbg"), state.update)
        loss = jax.value_and_grad(total_loss, has_aux=True)
        (total, (statistics, metrics)), gradient = loss(
            state.agent, state.average, state.slow_critics, state.statistics, batch, config,
            update=state.update, key=key,
        )  # fmt: skip
        params = cast(optax.Params, state.agent)  # optax's types do not know modules
        steps, opt_state = chain.update(gradient, state.optimizer, params)
        steps = cast(Agent, steps)
        steps = slowed(steps, lambda agent: agent.behaviour.actors, config.behaviour.actor_rate)
        if config.levels > 1:
            steps = slowed(steps, lambda agent: levels_of(agent.world), config.jump.rate)
        agent = jax.tree.map(jnp.add, state.agent, steps)
        rate = config.behaviour.slow_rate
        slow_critics = moved(state.slow_critics, agent.behaviour.critics, rate)
        average = state.average
        if average is not None:
            # at first a plain mean, which forgets the untrained agent at once
            rate = jnp.maximum(1.0 - config.average, 1.0 / (state.update + 1.0))
            average = moved(average, agent, rate)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)))
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        learned = dataclasses.replace(
            state,
            agent=agent,
            average=average,
            slow_critics=slow_critics,
            statistics=statistics,
            optimizer=opt_state,
        )
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), learned, state)
        failed = (~finite).astype(jnp.int32)
        state = dataclasses.replace(
            state,
            update=state.update + 1,
            skipped=state.skipped + failed,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * failed,
        )
        metrics |= {
            "train/loss": total,
            "train/gradient_norm": norm,
            "train/skipped": state.skipped.astype(jnp.float32),
            "train/skipped_in_a_row": state.skipped_in_a_row.astype(jnp.float32),
        }
        return state, metrics

    return jax.jit(update, donate_argnums=0)


def moved(average: T, towards: T, rate: float | Float[Array, ""]) -> T:
    """A moving average after one more value."""
    return jax.tree.map(lambda old, new: (1.0 - rate) * old + rate * new, average, towards)


def total_loss(
    agent: Agent,
    average: Agent | None,
    slow_critics: tuple[Head, ...],
    statistics: Any,
    batch: Sequence,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
    """The weighted sum of all losses of a batch, the new statistics, and the metrics.

    Imagination runs in the average's world, if there is an average.
    """
    dtype = jnp.dtype(config.precision)
    agent, average, slow_critics = in_precision((agent, average, slow_critics), dtype)
    world, behaviour = agent.world, agent.behaviour
    posterior_key, average_key, imagine_key = jr.split(key, 3)

    losses, latents, seen = batch_losses(world, batch, config, update=update, key=posterior_key)
    scales = world_scales(config)
    metrics = {f"world/{name}": loss.mean() for name, loss in losses.items()}
    metrics |= {f"world/{name}": value.mean() for name, value in seen.items()}

    dream, dreamt = world if average is None else average.world, latents
    if average is not None or config.levels > 1:
        keys = jr.split(average_key, len(batch.mask))
        observe = lambda sequence, key: dream.start(sequence, key=key)
        dreamt = jax.lax.stop_gradient(jax.vmap(observe)(batch, keys))
    found, statistics, shown = behaviour_losses(
        dream, behaviour, slow_critics, statistics, batch, latents, dreamt, config.behaviour,
        key=imagine_key,
    )  # fmt: skip
    losses |= found
    scales |= (hierarchical_losses if config.levels > 1 else flat).scales(config.behaviour)
    assert scales.keys() == losses.keys(), (scales.keys(), losses.keys())
    total = sum((scales[name] * loss.mean() for name, loss in losses.items()), jnp.float32(0.0))
    metrics |= {f"behaviour/{name}": loss.mean() for name, loss in found.items()}
    metrics |= {f"behaviour/{name}": value for name, value in shown.items()}
    return total, (statistics, metrics)


def behaviour_losses(
    dream: Any,
    behaviour: Behaviour,
    slow_critics: tuple[Head, ...],
    statistics: Any,
    batch: Sequence,
    latents: Latent,
    dreamt: Latent | Stack,
    config: BehaviourConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, "..."]], Any, Metrics]:
    """Losses of whichever kind of behaviour it is, the new statistics, and what the log shows.

    `latents` are the posteriors of the world that learns, `dreamt` those of the `dream`.
    """
    if isinstance(behaviour, ManagerWorker):
        assert isinstance(dreamt, Stack)
        of_manager, of_worker = slow_critics
        return hierarchical_losses.hierarchical_losses(
            dream, behaviour, (of_manager, of_worker), statistics, batch, dreamt, config, key=key
        )
    (slow_critic,) = slow_critics
    return flat.flat_losses(
        dream, behaviour, slow_critic, statistics, batch, latents, cast(Latent, dreamt), config,
        key=key,
    )  # fmt: skip


def in_precision(tree: T, dtype: jnp.dtype) -> T:
    """A copy whose floats have this dtype; their gradients return in the original's."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
