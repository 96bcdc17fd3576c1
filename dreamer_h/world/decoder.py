"""Latents back to observations: a distribution whose mean is in physical units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.nn.convolution import Conv, upsample
from dreamer_h.nn.coordinates import Angles
from dreamer_h.nn.distributions import Pixels, Symlog
from dreamer_h.nn.layers import MLP, BlockLinear, Linear, RMSNorm
from dreamer_h.types import Latent, Observed, side_by_side
from dreamer_h.world.encoder import STAGES

LEAST_LOG_SCALE = -4.6
# Of what is added to a carried observation: an agent step changes it little, and the steps of
# learning must be small beside that change (docs/decisions/007-correlated-noise.md).
CHANGE = 0.1


class StateDecoder(eqx.Module):
    """With an observation in the latent the output is what is added to it."""

    mlp: MLP
    output: Linear
    log_scale: Float[Array, " X"] | None
    angles: Angles = eqx.field(static=True)

    def __init__(
        self,
        features: int,
        size: int,
        units: int,
        layers: int,
        *,
        angles: Angles = (),
        learned_scale: bool = False,
        key: PRNGKeyArray,
    ):
        mlp_key, output_key = jr.split(key)
        self.mlp = MLP(features, units, layers, key=mlp_key)
        width = size + len(angles)
        self.output = Linear(units, width, key=output_key)
        self.log_scale = jnp.zeros(width, jnp.float32) if learned_scale else None
        self.angles = angles

    def __call__(self, latent: Latent) -> Symlog:
        output = self.output(self.mlp(latent.features)).astype(jnp.float32)
        return self.around(output if latent.obs is None else latent.obs + CHANGE * output)

    def around(self, output: Float[Array, "*B X"]) -> Symlog:
        """The distribution around a mean in `nn.coordinates`."""
        scale = None if self.log_scale is None else floored(self.log_scale)
        return Symlog(output, scale, self.angles)


def floored(log_scale: Float[Array, " X"]) -> Float[Array, " X"]:
    """The logarithm of a learned deviation of each of `nn.coordinates`."""
    # below a hundredth nothing is won, and an entry that never moves would have no end
    return LEAST_LOG_SCALE + jax.nn.softplus(log_scale.astype(jnp.float32) - LEAST_LOG_SCALE)


class PixelDecoder(eqx.Module):
    """Memory and code each draw a coarse map; their sum grows by 5 x 5 convolutions."""

    from_deter: BlockLinear
    from_code: MLP
    code_output: Linear
    start_norm: RMSNorm
    convs: tuple[Conv, ...]
    norms: tuple[RMSNorm, ...]
    start: tuple[int, int, int] = eqx.field(static=True)  # height, width, channels of the map

    def __init__(
        self,
        deter: int,
        code: int,
        shape: tuple[int, ...],
        *,
        depth: int,
        units: int,
        blocks: int,
        key: PRNGKeyArray,
    ):
        deter_key, code_key, output_key, conv_key = jr.split(key, 4)
        channels = [depth * stage for stage in reversed(STAGES)]
        side = 1 << len(STAGES)
        self.start = (shape[0] // side, shape[1] // side, channels[0])
        size = self.start[0] * self.start[1] * self.start[2]
        self.from_deter = BlockLinear(deter, size, blocks, key=deter_key)
        self.from_code = MLP(code, 2 * units, 1, key=code_key)
        self.code_output = Linear(2 * units, size, key=output_key)
        self.start_norm = RMSNorm(channels[0])
        widths = [*channels, shape[-1]]
        keys = jr.split(conv_key, len(STAGES))
        self.convs = tuple(Conv(widths[i], widths[i + 1], key=keys[i]) for i in range(len(STAGES)))
        self.norms = tuple(RMSNorm(width) for width in widths[1:-1])

    def __call__(self, latent: Latent) -> Pixels:
        lead = latent.deter.shape[:-1]
        height, width, channels = self.start
        # (blocks height width c) -> (height width (blocks c)): a block of the memory draws its
        # own channels, at every place of the map
        blocks = self.from_deter.weight.shape[0]
        deter = self.from_deter(latent.deter)
        deter = deter.reshape(*lead, blocks, height, width, channels // blocks)
        deter_map = jnp.moveaxis(deter, -4, -2).reshape(*lead, *self.start)
        code = self.code_output(self.from_code(side_by_side(latent.code)))
        code_map = code.reshape(*lead, *self.start)
        x = jax.nn.silu(self.start_norm(deter_map + code_map))
        for i, conv in enumerate(self.convs):
            x = conv(upsample(x))
            if i < len(self.norms):
                x = jax.nn.silu(self.norms[i](x))
        return Pixels(x.astype(jnp.float32))


def make_decoder(
    obs: Observed,
    *,
    features: int,
    deter: int,
    code: int,
    units: int,
    layers: int,
    depth: int,
    blocks: int,
    learned_scale: bool,
    key: PRNGKeyArray,
) -> StateDecoder | PixelDecoder:
    """The decoder for observations of this shape and dtype; `make_encoder` has checked them."""
    if len(obs.shape) == 1:
        return StateDecoder(
            features,
            obs.shape[0],
            units,
            layers,
            angles=obs.angles,
            learned_scale=learned_scale,
            key=key,
        )
    return PixelDecoder(deter, code, obs.shape, depth=depth, units=units, blocks=blocks, key=key)
