"""Convolutions for pixels, channels last; leading axes are free."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.nn.layers import truncated_normal


class Conv(eqx.Module):
    """A `kernel` x `kernel` convolution with stride 1 and equal padding."""

    weight: Float[Array, "kernel kernel inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, kernel: int = 5, *, key: PRNGKeyArray):
        shape = (kernel, kernel, inputs, outputs)
        self.weight = truncated_normal(key, shape, kernel * kernel * inputs)
        self.bias = jnp.zeros(outputs, jnp.float32)

    def __call__(self, x: Float[Array, "*B height width inputs"]) -> Float[Array, "*B h w outputs"]:
        images = x.reshape(-1, *x.shape[-3:])
        y = jax.lax.conv_general_dilated(
            images, self.weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.reshape(*x.shape[:-3], *y.shape[1:]) + self.bias


def max_pool(x: Float[Array, "*B height width C"]) -> Float[Array, "*B height/2 width/2 C"]:
    """The maximum of each 2 x 2 square."""
    height, width, channels = x.shape[-3:]
    squares = x.reshape(*x.shape[:-3], height // 2, 2, width // 2, 2, channels)
    return squares.max(axis=(-4, -2))


def upsample(x: Float[Array, "*B height width C"]) -> Float[Array, "*B 2*height 2*width C"]:
    """Each pixel becomes a 2 x 2 square."""
    return x.repeat(2, axis=-3).repeat(2, axis=-2)
