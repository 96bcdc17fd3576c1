"""State observations as networks see them, and back: compressed, and angles as points on a circle.

An angle that is not wrapped grows with each turn, though the body is where it was: a network would
have to learn every turn anew.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Angles = tuple[int, ...]  # entries of an observation in radians, alike after each whole turn


def symlog(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """sign(x) log(1 + |x|): compresses both tails, identity around zero."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def coordinates(obs: Float[Array, "*B O"], angles: Angles = ()) -> Float[Array, "*B X"]:
    """Every entry in symlog space; of an angle the cosine in its place, and behind all entries the
    sine (X = O + angles); leading axes are free."""
    found = symlog(obs)
    if not angles:
        return found
    turned = obs[..., list(angles)]
    found = found.at[..., list(angles)].set(jnp.cos(turned))
    return jnp.concatenate([found, jnp.sin(turned)], axis=-1)


def observation(found: Float[Array, "*B X"], angles: Angles = ()) -> Float[Array, "*B O"]:
    """The inverse of `coordinates`, with angles from -pi to pi."""
    size = found.shape[-1] - len(angles)
    obs = symexp(found[..., :size])
    if not angles:
        return obs
    turned = jnp.arctan2(found[..., size:], found[..., list(angles)])
    return obs.at[..., list(angles)].set(turned)


def nearest(
    obs: Float[Array, "..."], other: Shaped[Array, "..."], angles: Angles
) -> Float[Array, "..."]:
    """Observations (*B, O) whose angles are as many whole turns on as brings them nearest to
    `other`. Without angles, as images are, they stay as they are."""
    if not angles:
        return obs
    chosen = list(angles)
    turns = jnp.round((other[..., chosen] - obs[..., chosen]) / (2 * jnp.pi))
    return obs.at[..., chosen].add(2 * jnp.pi * turns)


def going_on(
    obs: Float[Array, "T ..."], before: Shaped[Array, "..."], angles: Angles
) -> Float[Array, "T ..."]:
    """Observations (T, O) one after the other, whose angles count the turns on from the one
    `before`. Without angles they stay as they are."""

    def step(last, now):
        found = nearest(now, last, angles)
        return found, found

    return jax.lax.scan(step, before, obs)[1] if angles else obs
