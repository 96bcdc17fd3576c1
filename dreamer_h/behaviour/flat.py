"""What an actor and a critic learn from a batch, where there are no levels."""

from typing import cast

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import (
    ActorCritic,
    Underway,
    imagination_losses,
    imagine,
    replay_value_loss,
)
from dreamer_h.behaviour.lesson import Lesson
from dreamer_h.behaviour.paths import Beginnings, Paths
from dreamer_h.config import BehaviourConfig
from dreamer_h.nn.statistics import Statistics
from dreamer_h.types import Latent
from dreamer_h.world.heads import Head
from dreamer_h.world.world import World


def scales(config: BehaviourConfig) -> dict[str, float]:
    """The weight of each loss."""
    return {"policy": 1.0, "value": 1.0, "replay_value": config.replay_value_scale}


def flat_losses(
    dream: World,
    behaviour: ActorCritic,
    slow_critics: tuple[Head],
    statistics: Statistics,
    paths: Paths | None,
    lesson: Lesson,
    config: BehaviourConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, "..."]], Statistics, Paths | None, dict[str, Float[Array, ""]]]:
    """Losses of a batch, the new statistics, where imagined paths stand, and what the log shows.

    The policy is followed in the `dream`: along `paths`, or anew from every posterior.
    """
    (slow_critic,), batch, dreamt = slow_critics, lesson.batch, cast(Latent, lesson.dreamt)
    size, times = batch.mask.shape
    begin_key, key, end_key = jr.split(key, 3)
    # Imagination starts at no posterior of a window's first step: its memory is still empty.
    start = jax.tree.map(
        lambda leaf: leaf[:, 1:].reshape(size * (times - 1), *leaf.shape[2:]), dreamt
    )
    # a start in the padding, or after an end, is no state: nothing is learned from it
    real = (batch.mask & ~batch.is_terminal)[:, 1:].reshape(-1)
    start = Underway.begun(start)
    begun = Beginnings.all_of(start, real)
    if paths is not None:
        begun = paths.begun(start, real, config.imagine_length, key=begin_key)
    real = begun.real
    rollout, last, discount = imagine(
        dream, behaviour, begun.state, config.imagine_length,
        gradient=config.gradient, lambda_=config.lambda_, attitude=lesson.attitude, key=key,
    )  # fmt: skip
    learned_from = real & (rollout.weight > 0)  # not what lies behind a trusted horizon
    returns = jax.lax.stop_gradient(rollout.returns)
    return_scale = statistics.return_scale.update(returns, learned_from)
    entropy_weight = statistics.entropy_weight
    imagined_losses, imagined = imagination_losses(
        behaviour, slow_critic, rollout, return_scale.scale, entropy_weight.weight, config
    )
    entropy = jax.lax.stop_gradient(imagined["entropy"]) / rollout.action.shape[-1]
    entropy_weight = entropy_weight.update(entropy, learned_from)
    losses = {name: jnp.where(real, loss, 0.0) for name, loss in imagined_losses.items()}

    if paths is None:
        bootstrap = rollout.returns[0].reshape(size, times - 1)
        bootstrap = jnp.concatenate([jnp.zeros_like(bootstrap[:, :1]), bootstrap], axis=1)
    else:  # few of them begin here
        bootstrap = behaviour.value(dreamt.features).mean
        relied = lesson.attitude.relied(last.doubt)
        paths = paths.after(last, discount, real & relied, config.horizon, key=end_key)
    paid = batch.reward[:, 1:]
    if lesson.attitude.pessimism:
        told = dream.information_of(dreamt.features[:, :-1], batch.action)
        paid = lesson.attitude.worth(paid, told)
    replayed = jax.vmap(
        lambda latent, sequence, paid, bootstrap: replay_value_loss(
            behaviour, slow_critic, latent, sequence, paid, bootstrap, config
        )
    )(lesson.latents, batch, jax.lax.stop_gradient(paid), jax.lax.stop_gradient(bootstrap))
    losses["replay_value"] = lesson.attitude.of_task(replayed)

    metrics = {name: value.mean() for name, value in imagined.items()}
    metrics["return_scale"] = return_scale.scale
    metrics["entropy_weight"] = entropy_weight.weight
    return losses, Statistics(return_scale, entropy_weight), paths, metrics
