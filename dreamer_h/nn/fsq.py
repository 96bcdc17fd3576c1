"""Finite scalar quantisation: a small discrete code without a codebook (Mentzer et al. 2023)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LEVELS = 5  # values of each dimension; odd


def quantised(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Each entry squashed and rounded to one of LEVELS values in [-1, 1]; straight-through."""
    half = LEVELS // 2
    squashed = half * jnp.tanh(x)
    return (squashed + jax.lax.stop_gradient(jnp.round(squashed) - squashed)) / half


def index(code: Float[Array, "*B D"]) -> Int[Array, "*B D"]:
    """The value of each entry as a number from 0 to LEVELS - 1."""
    half = LEVELS // 2
    return jnp.round(code * half).astype(jnp.int32) + half
