"""Jumps of an upper level, and what lies inside them: all segments side by side."""

from typing import cast

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.types import Latent, merged
from dreamer_h.world.upper.levels import Levels


def leap(
    levels: Levels, standing: Latent, i: int, actions: Float[Array, "H A"], *, key: PRNGKeyArray
) -> Latent:
    """Waypoints (N+1, ...) of level i + 1 from where it stands, the first of them."""
    jump = levels.jumps[i]
    actions = actions.reshape(-1, jump.stride, actions.shape[-1])
    waits = jump.chunk.form == "anchored"
    known = actions
    if not waits:
        anchor = jnp.zeros_like(cast(Array, standing.obs))
        known = jax.vmap(jump.chunk.of, in_axes=(0, None))(actions, anchor)

    def step(latent, inputs):
        known, step_key = inputs
        if waits:
            known = jump.chunk.of(known, latent.obs)
        latent = jump.step(latent, known, key=step_key)
        return latent, latent

    _, reached = jax.lax.scan(step, standing, (known, jr.split(key, len(actions))))
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), standing, reached)


def fill(
    levels: Levels, starts: Latent, i: int, actions: Float[Array, "H A"], *, key: PRNGKeyArray
) -> Latent:
    """Latents of level 0 (H, ...) of segments that begin where level i + 1 stands, (N, ...)."""
    while i > 0:
        first, above, i = _begun_below(levels, starts, i), levels.jumps[i].stride, i - 1
        key, leap_key = jr.split(key)
        parts = actions.reshape(-1, above, actions.shape[-1])
        along = lambda standing, actions, key, i=i: leap(levels, standing, i, actions, key=key)
        points = jax.vmap(along)(first, parts, jr.split(leap_key, len(parts)))
        starts = merged(jax.tree.map(lambda leaf: leaf[:, :-1], points))
    parts = actions.reshape(-1, levels.strides[0], actions.shape[-1])
    path = jax.vmap(lambda latent, actions, key: levels.base.imagine(latent, actions, key=key))(
        levels.ground_at(starts), parts, jr.split(key, len(parts))
    )
    return merged(jax.tree.map(lambda leaf: leaf[:, 1:], path.latent))


def ground_of(levels: Levels, standing: Latent, i: int) -> Latent:
    """Level 0 (N, ...) where level i + 1 stands, (N, ...)."""
    for above in range(i, 0, -1):
        standing = _begun_below(levels, standing, above)
    return levels.ground_at(standing)


def _begun_below(levels: Levels, standing: Latent, i: int) -> Latent:
    """Level i where level i + 1 stands, (N, ...) both."""
    memory = levels.jumps[i].below(standing)
    return jax.vmap(levels.jumps[i - 1].begin)(cast(Array, standing.obs), memory)


def stretch(
    levels: Levels, standing: Latent, i: int, actions: Float[Array, "H A"], *, key: PRNGKeyArray
) -> tuple[Latent, Latent]:
    """Jumps of level i + 1 and everything below: latents of level 0 (H, ...), and waypoints."""
    steps = len(actions)
    # a last jump that is not needed to its end
    actions = jnp.pad(actions, [(0, -steps % levels.strides[i]), (0, 0)])
    leap_key, fill_key = jr.split(key)
    points = leap(levels, standing, i, actions, key=leap_key)
    starts = jax.tree.map(lambda leaf: leaf[:-1], points)
    filled = fill(levels, starts, i, actions, key=fill_key)
    return jax.tree.map(lambda leaf: leaf[:steps], filled), points
