"""Observations to embeddings: states by an MLP on their coordinates, pixels by convolutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from dreamer_h.nn.convolution import Conv, max_pool
from dreamer_h.nn.coordinates import Angles, coordinates
from dreamer_h.nn.layers import MLP, RMSNorm
from dreamer_h.types import Observed

STAGES = (2, 3, 4, 4)  # channels of each stage, in multiples of `depth`; each halves the image


class StateEncoder(eqx.Module):
    mlp: MLP
    width: int = eqx.field(static=True)  # of the embedding
    angles: Angles = eqx.field(static=True)

    def __init__(self, size: int, units: int, layers: int, angles: Angles, *, key: PRNGKeyArray):
        self.mlp = MLP(size + len(angles), units, layers, key=key)
        self.width, self.angles = units, angles

    def __call__(self, obs: Float[Array, "*B O"]) -> Float[Array, "*B E"]:
        dtype = self.mlp.blocks[0].linear.weight.dtype
        return self.mlp(coordinates(obs, self.angles).astype(dtype))


class PixelEncoder(eqx.Module):
    """Four stages of 5 x 5 convolution and 2 x 2 maximum, as in DreamerV3."""

    convs: tuple[Conv, ...]
    norms: tuple[RMSNorm, ...]
    width: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], depth: int, *, key: PRNGKeyArray):
        channels = [shape[-1]] + [depth * stage for stage in STAGES]
        keys = jr.split(key, len(STAGES))
        self.convs = tuple(
            Conv(channels[i], channels[i + 1], key=keys[i]) for i in range(len(STAGES))
        )
        self.norms = tuple(RMSNorm(width) for width in channels[1:])
        self.width = (shape[0] >> len(STAGES)) * (shape[1] >> len(STAGES)) * channels[-1]

    def __call__(self, obs: UInt8[Array, "*B height width C"]) -> Float[Array, "*B E"]:
        x = (obs.astype(jnp.float32) / 255.0 - 0.5).astype(self.convs[0].weight.dtype)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = jax.nn.silu(norm(max_pool(conv(x))))
        return x.reshape(*x.shape[:-3], -1)


def make_encoder(
    obs: Observed,
    *,
    units: int,
    layers: int,
    depth: int,
    key: PRNGKeyArray,
) -> StateEncoder | PixelEncoder:
    """The encoder for observations of this shape and dtype.

    Raises ValueError for an observation that is neither a float vector nor a uint8 image whose
    sides are multiples of 16.
    """
    if len(obs.shape) == 1 and jnp.issubdtype(obs.dtype, jnp.floating):
        return StateEncoder(obs.shape[0], units, layers, obs.angles, key=key)
    factor = 1 << len(STAGES)
    if len(obs.shape) == 3 and obs.dtype == jnp.uint8:
        if obs.shape[0] % factor == 0 and obs.shape[1] % factor == 0:
            return PixelEncoder(obs.shape, depth, key=key)
        raise ValueError(
            f"images of {obs.shape[0]}x{obs.shape[1]} are not multiples of {factor}; "
            f"set --size to {max(factor, obs.shape[0] // factor * factor)}"
        )
    raise ValueError(
        f"observations of shape {obs.shape} and dtype {jnp.dtype(obs.dtype)} have no encoder; "
        "needed is a float vector (O,) or a uint8 image (height, width, channels)"
    )
