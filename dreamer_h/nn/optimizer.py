"""LaProp with adaptive gradient clipping, as an optax chain."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

T = TypeVar("T")


def clip_per_tensor(clip: float, floor: float = 1e-3) -> optax.GradientTransformation:
    """Adaptive gradient clipping by whole-tensor norms (Brock et al. 2021, but not per unit).

    A gradient is scaled down to at most `clip` times the norm of its tensor, which counts as at
    least `floor`. optax's own version works per unit; DreamerV3's recipe is per tensor.
    """

    def update(updates, state, params=None):
        assert params is not None, "adaptive clipping needs the parameters"

        def clipped(gradient, param):
            limit = clip * jnp.maximum(floor, jnp.linalg.norm(param))
            return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient) / limit)

        return jax.tree.map(clipped, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def laprop(
    learning_rate: float,
    *,
    clip: float = 0.3,
    warmup: int = 1000,
    decay: float = 0.999,
    momentum: float = 0.9,
    eps: float = 1e-20,
) -> optax.GradientTransformation:
    """LaProp (Ziyin et al. 2020): divide by the root mean square first, then average.

    `warmup` updates of linear increase, no decay after it; both averages are bias-corrected.
    """
    # optax's schedule of no steps stays at its start, zero
    rate = optax.linear_schedule(0.0, learning_rate, warmup) if warmup else learning_rate
    return optax.chain(
        clip_per_tensor(clip),
        optax.scale_by_rms(decay, eps, eps_in_sqrt=False, bias_correction=True),
        optax.ema(momentum, debias=True),
        optax.scale_by_learning_rate(rate),
    )


def slowed(steps: T, where: Callable[[T], Any], rate: float) -> T:
    """Steps of an optimiser, of which a part is taken at its own rate."""
    smaller = lambda part: jax.tree.map(lambda leaf: rate * leaf, part)
    return eqx.tree_at(where, steps, replace_fn=smaller)
