"""What a simulator of any number of levels learns from, over a batch of windows."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.types import Latent, Sequence
from dreamer_h.world import losses
from dreamer_h.world.upper import hierarchy_losses
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy


def scales(config: Config) -> dict[str, float]:
    """The weight of each loss."""
    return losses.scales(config.world) | (
        hierarchy_losses.scales(config) if config.levels > 1 else {}
    )


def batch_losses(
    world: AnyWorld,
    batch: Sequence,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, "B ..."]], Latent, dict[str, Float[Array, "B ..."]]]:
    """The losses of every window of a batch, each with randomness of its own; the latents of level
    0 (B, T+1, ...), and what the log shows. `update` moves the curriculum of the upper levels."""
    keys = jr.split(key, len(batch.mask))
    if isinstance(world, Hierarchy):
        several = lambda sequence, other, key: hierarchy_losses.hierarchy_losses(
            world, sequence, other, config, update=update, key=key
        )
        return jax.vmap(several)(batch, jnp.roll(batch.action, 1, axis=0), keys)
    chosen = config.world
    one = lambda sequence, key: losses.world_losses(
        world,
        sequence,
        horizon=config.behaviour.horizon,
        free_nats=chosen.free_nats,
        selffed=chosen.selffed,
        paths=chosen.selffed_paths,
        key=key,
    )
    return jax.vmap(one)(batch, keys)
