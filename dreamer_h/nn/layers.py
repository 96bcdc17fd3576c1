"""Feed-forward bricks. Each acts on the last axis; leading axes are free.

Initialisation and normalisation follow the public DreamerV3 code (Hafner et al. 2025).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


def truncated_normal(
    key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int, scale: float = 1.0
) -> Float[Array, "..."]:
    """Variance-preserving start weights, cut at two standard deviations."""
    # 1.1368 restores the standard deviation that the cut takes away
    std = scale * 1.1368 / fan_in**0.5
    return std * jr.truncated_normal(key, -2.0, 2.0, shape, jnp.float32)


class Linear(eqx.Module):
    """y = x W + b. `scale` multiplies the start weights; 0 makes an output that starts at zero."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0, key: PRNGKeyArray):
        self.weight = truncated_normal(key, (inputs, outputs), inputs, scale)
        self.bias = jnp.zeros(outputs, jnp.float32)

    def __call__(self, x: Float[Array, "*B inputs"]) -> Float[Array, "*B outputs"]:
        return x @ self.weight + self.bias


class BlockLinear(eqx.Module):
    """A linear map that is block-diagonal: block g of the input reaches block g of the output.

    The start weights use the *full* input width as fan-in, as DreamerV3's do, so they are
    sqrt(blocks) smaller than each block alone would ask for. Raises if a size does not divide.
    """

    weight: Float[Array, "blocks inputs outputs"]  # sizes of one block
    bias: Float[Array, " width"]

    def __init__(self, inputs: int, outputs: int, blocks: int, *, key: PRNGKeyArray):
        assert inputs % blocks == 0 and outputs % blocks == 0, (inputs, outputs, blocks)
        shape = (blocks, inputs // blocks, outputs // blocks)
        self.weight = truncated_normal(key, shape, inputs)
        self.bias = jnp.zeros(outputs, jnp.float32)

    def by_block(self, x: Float[Array, "*B inputs"]) -> list[Float[Array, "*B outputs"]]:
        """The output of each block by itself."""
        # one plain product per block: a batched product would first transpose x on CPU (3x slower)
        blocks = self.weight.shape[0]
        parts, biases = jnp.split(x, blocks, axis=-1), jnp.split(self.bias, blocks)
        return [
            part @ weight + bias
            for part, weight, bias in zip(parts, self.weight, biases, strict=True)
        ]

    def __call__(self, x: Float[Array, "*B inputs"]) -> Float[Array, "*B outputs"]:
        return jnp.concatenate(self.by_block(x), axis=-1)


class RMSNorm(eqx.Module):
    """x / rms(x) with a learned scale, computed in float32 (Zhang & Sennrich 2019)."""

    scale: Float[Array, " width"]

    def __init__(self, width: int):
        self.scale = jnp.ones(width, jnp.float32)

    def __call__(self, x: Float[Array, "*B width"]) -> Float[Array, "*B width"]:
        wide = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(mean_square + 1e-4) * self.scale).astype(x.dtype)


class Block(eqx.Module):
    """Linear, RMSNorm, SiLU."""

    linear: Linear
    norm: RMSNorm

    def __init__(self, inputs: int, units: int, *, key: PRNGKeyArray):
        self.linear = Linear(inputs, units, key=key)
        self.norm = RMSNorm(units)

    def __call__(self, x: Float[Array, "*B inputs"]) -> Float[Array, "*B units"]:
        return jax.nn.silu(self.norm(self.linear(x)))


class JointBlock(eqx.Module):
    """A `Block` on the concatenation of several inputs whose shares are computed apart.

    A share that does not depend on a recurrence is computed once for a whole sequence:
    `block(block.share(0, state), block.share(1, embedding))`.
    """

    weights: tuple[Float[Array, "inputs units"], ...]
    bias: Float[Array, " units"]
    norm: RMSNorm

    def __init__(self, inputs: tuple[int, ...], units: int, *, key: PRNGKeyArray):
        self.weights = tuple(
            truncated_normal(share_key, (width, units), sum(inputs))
            for share_key, width in zip(jr.split(key, len(inputs)), inputs, strict=True)
        )
        self.bias = jnp.zeros(units, jnp.float32)
        self.norm = RMSNorm(units)

    def share(self, index: int, x: Float[Array, "*B inputs"]) -> Float[Array, "*B units"]:
        return x @ self.weights[index]

    def __call__(self, *shares: Float[Array, "*B units"]) -> Float[Array, "*B units"]:
        return jax.nn.silu(self.norm(sum(shares[1:], shares[0]) + self.bias))


class MLP(eqx.Module):
    """`layers` blocks of `units`; a head adds its own linear output."""

    blocks: tuple[Block, ...]

    def __init__(self, inputs: int, units: int, layers: int, *, key: PRNGKeyArray):
        widths = [inputs] + [units] * layers
        keys = jr.split(key, layers)
        self.blocks = tuple(
            Block(widths[i], widths[i + 1], key=layer_key) for i, layer_key in enumerate(keys)
        )

    def __call__(self, x: Float[Array, "*B inputs"]) -> Float[Array, "*B units"]:
        for block in self.blocks:
            x = block(x)
        return x
