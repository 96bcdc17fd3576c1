"""One gradient step on one batch: the world learns, the policy learns inside it."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import (
    imagination_losses,
    imagine,
    replay_value_loss,
)
from dreamer_h.config import Config
from dreamer_h.nn.optimizer import slowed
from dreamer_h.nn.statistics import Statistics
from dreamer_h.train.state import Agent, TrainState, optimizer
from dreamer_h.types import Sequence
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
            state.agent, state.average, state.slow_critic, state.statistics, batch, config,
            update=state.update, key=key,
        )  # fmt: skip
        params = cast(optax.Params, state.agent)  # optax's types do not know modules
        steps, opt_state = chain.update(gradient, state.optimizer, params)
        steps = cast(Agent, steps)
        steps = slowed(steps, lambda agent: agent.behaviour.actor, config.behaviour.actor_rate)
        if config.levels > 1:
            steps = slowed(steps, lambda agent: levels_of(agent.world), config.jump.rate)
        agent = jax.tree.map(jnp.add, state.agent, steps)
        slow_critic = moved(state.slow_critic, agent.behaviour.critic, config.behaviour.slow_rate)
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
            slow_critic=slow_critic,
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
    slow_critic: Head,
    statistics: Statistics,
    batch: Sequence,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], tuple[Statistics, Metrics]]:
    """The weighted sum of all losses of a batch, the new statistics, and the metrics.

    Imagination runs in the average's world, if there is an average.
    """
    dtype = jnp.dtype(config.precision)
    agent, average, slow_critic = in_precision((agent, average, slow_critic), dtype)
    world, behaviour, chosen = agent.world, agent.behaviour, config.behaviour
    posterior_key, average_key, imagine_key = jr.split(key, 3)
    size, times = batch.mask.shape

    losses, latents, seen = batch_losses(world, batch, config, update=update, key=posterior_key)

    dream, seen_in_dream = world if average is None else average.world, latents
    if average is not None or config.levels > 1:
        keys = jr.split(average_key, size)
        observe = lambda sequence, key: dream.start(sequence, key=key)
        seen_in_dream = jax.lax.stop_gradient(jax.vmap(observe)(batch, keys))
    # Imagination starts at every posterior but the first, whose memory is still empty.
    starts = jax.tree.map(
        lambda leaf: leaf[:, 1:].reshape(size * (times - 1), *leaf.shape[2:]), seen_in_dream
    )
    rollout = imagine(
        dream,
        behaviour,
        starts,
        chosen.imagine_length,
        gradient=chosen.gradient,
        lambda_=chosen.lambda_,
        key=imagine_key,
    )
    # a start in the padding, or after an end, is no state: nothing is learned from it
    real = (batch.mask & ~batch.is_terminal)[:, 1:].reshape(-1)
    return_scale = statistics.return_scale.update(jax.lax.stop_gradient(rollout.returns), real)
    entropy_weight = statistics.entropy_weight
    imagined_losses, imagined = imagination_losses(
        behaviour, slow_critic, rollout, return_scale.scale, entropy_weight.weight, chosen
    )
    entropy = jax.lax.stop_gradient(imagined["entropy"]) / rollout.action.shape[-1]
    entropy_weight = entropy_weight.update(entropy, real)
    losses |= {name: jnp.where(real, loss, 0.0) for name, loss in imagined_losses.items()}

    bootstrap = rollout.returns[0].reshape(size, times - 1)
    bootstrap = jnp.concatenate([jnp.zeros_like(bootstrap[:, :1]), bootstrap], axis=1)
    losses["replay_value"] = jax.vmap(
        lambda latent, sequence, bootstrap: replay_value_loss(
            behaviour, slow_critic, latent, sequence, bootstrap, chosen
        )
    )(latents, batch, jax.lax.stop_gradient(bootstrap))

    scales = world_scales(config) | {
        "policy": 1.0,
        "value": 1.0,
        "replay_value": chosen.replay_value_scale,
    }
    assert scales.keys() == losses.keys(), (scales.keys(), losses.keys())
    total = sum((scales[name] * loss.mean() for name, loss in losses.items()), jnp.float32(0.0))

    inside = ("policy", "value", "replay_value")
    metrics = {
        f"{'behaviour' if name in inside else 'world'}/{name}": loss.mean()
        for name, loss in losses.items()
    }
    metrics |= {f"world/{name}": value.mean() for name, value in seen.items()}
    metrics |= {f"behaviour/{name}": value.mean() for name, value in imagined.items()}
    metrics["behaviour/return_scale"] = return_scale.scale
    metrics["behaviour/entropy_weight"] = entropy_weight.weight
    return total, (Statistics(return_scale, entropy_weight), metrics)


def in_precision(tree: T, dtype: jnp.dtype) -> T:
    """A copy whose floats have this dtype; their gradients return in the original's."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
