"""Small predictors that read features: reward, continue, and (in behaviour/) actor and critic."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.nn.layers import MLP, Linear


class Head(eqx.Module):
    """An MLP with a linear output; `scale` 0 makes the output start at zero."""

    mlp: MLP
    output: Linear

    def __init__(
        self,
        features: int,
        outputs: int,
        units: int,
        layers: int,
        *,
        scale: float = 1.0,
        key: PRNGKeyArray,
    ):
        mlp_key, output_key = jr.split(key)
        self.mlp = MLP(features, units, layers, key=mlp_key)
        self.output = Linear(units, outputs, scale=scale, key=output_key)

    def __call__(self, features: Float[Array, "*B F"]) -> Float[Array, "*B outputs"]:
        return self.output(self.mlp(features)).astype(jnp.float32)
