"""Subgoals: anchors that a level above predicts, and that the level below is asked to reach."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dreamer_h.nn.coordinates import Angles
from dreamer_h.types import Latent
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.upper.jump import Outlook, anchor_vector


def subgoal(outlook: Outlook) -> Float[Array, "*B V"]:
    """The likeliest anchor of an outlook."""
    obs = None if outlook.obs is None else outlook.obs.output
    return anchor_vector(outlook.code.mode, obs)


def spread_of(
    obs: Float[Array, "N X"] | None, real: Bool[Array, " N"] | None = None
) -> Float[Array, " X"] | None:
    """The unit of distances between observations as latents carry them: the deviation of each
    entry, where all of them have some. Those that are not `real` are padding."""
    if obs is None:
        return None
    return _unit(jnp.var(obs, axis=0, where=None if real is None else real[:, None]))


def spread_over(episodes: Iterable[np.ndarray], angles: Angles) -> Float[Array, " X"]:
    """The same unit, of all observations (T, O) of several episodes, in physical units."""
    count, first, second = 0, 0.0, 0.0
    for obs in episodes:
        seen = _coordinates(obs.astype(np.float64), angles)
        count, first = count + len(seen), first + seen.sum(axis=0)
        second = second + np.square(seen).sum(axis=0)
    mean = first / count
    return _unit(jnp.asarray(second / count - np.square(mean), jnp.float32))


def _coordinates(obs: np.ndarray, angles: Angles) -> np.ndarray:
    """`nn.coordinates` in numpy, which compiles nothing for episodes of many lengths."""
    seen, turned = np.sign(obs) * np.log1p(np.abs(obs)), obs[:, list(angles)]
    seen[:, list(angles)] = np.cos(turned)
    return np.concatenate([seen, np.sin(turned)], axis=1)


def _unit(variance: Float[Array, " X"]) -> Float[Array, " X"]:
    return jnp.sqrt(variance + 0.01 * variance.mean() + 1e-8)


def distance(
    world: Hierarchy,
    ground: Latent,
    goal: Float[Array, "*B V"],
    spread: Float[Array, " X"] | None,
) -> Float[Array, "*B"]:
    """How far level 0, by its likeliest anchor, is from a subgoal, as `between`; leading axes are
    free."""
    likeliest = world.code(world.arrived(ground)).mode
    return between(world, anchor_vector(likeliest, ground.obs), goal, spread)


def between(
    world: Hierarchy,
    place: Float[Array, "*B V"],
    goal: Float[Array, "*B V"],
    spread: Float[Array, " X"] | None,
) -> Float[Array, "*B"]:
    """How far an anchor is from a subgoal; leading axes are free.

    For states the root mean square over the entries of the observation, in units of `spread`; for
    pixels the share of the code's categoricals that would be another one, from 0 to 1.
    """
    groups = world.base.level.groups
    size = groups * world.base.level.classes
    if spread is not None and place.shape[-1] > size:
        away = (place[..., size:] - goal[..., size:]) / spread
        return jnp.sqrt(jnp.square(away).mean(-1) + 1e-8)
    return 1.0 - (place[..., :size] * goal[..., :size]).sum(-1) / groups


def aimed(
    ground: Latent, goal: Float[Array, "*B V"], phase: Int[Array, "*B"], stride: int
) -> Float[Array, "*B F2"]:
    """What a worker reads: level 0's features, how much of the segment is over, and of the subgoal
    what distances are of: its observation and the way there, or, for pixels, its code."""
    dtype = ground.deter.dtype
    parts = [ground.features, jax.nn.one_hot(phase, stride, dtype=dtype)]
    if ground.obs is None:
        parts.append(goal.astype(dtype))
    else:
        seen = goal[..., -ground.obs.shape[-1] :]
        parts += [seen.astype(dtype), (seen - ground.obs).astype(dtype)]
    return jnp.concatenate(parts, axis=-1)


def aimed_size(world: Hierarchy) -> int:
    """F2 of `aimed`."""
    level = world.base.level
    subgoal = 2 * world.base.carried or level.groups * level.classes
    return world.features + world.strides[0] + subgoal
