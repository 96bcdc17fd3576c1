"""What the simulator learns from: one dict of unreduced losses over a window."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.types import Latent, Sequence
from dreamer_h.world.world import World


def batch_losses(
    world: World, batch: Sequence, *, horizon: float, free_nats: float, key: PRNGKeyArray
) -> tuple[dict[str, Float[Array, "B T1"]], Latent, dict[str, Float[Array, "B T1"]]]:
    """`world_losses` of every window of a batch, each with randomness of its own."""
    losses = lambda sequence, key: world_losses(
        world, sequence, horizon=horizon, free_nats=free_nats, key=key
    )
    return jax.vmap(losses)(batch, jr.split(key, len(batch.mask)))


def world_losses(
    world: World,
    sequence: Sequence,
    *,
    horizon: float,
    free_nats: float,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, " T1"]], Latent, dict[str, Float[Array, " T1"]]]:
    """Losses of one window, its posteriors (T+1, ...), and entropies and KL for the log.

    `horizon` (agent steps) puts the discount 1 - 1/horizon into the continue target. The KL terms
    are summed over the groups and count only above `free_nats` a step. Padding costs nothing, and
    neither do reward, continue and KL at the window's first step, to which nothing led.
    """
    latent = world.start(sequence, key=key)
    prediction = world.decode(latent)
    prior = world.level.code(world.level.prior_logits(latent.deter))
    posterior = world.level.code(latent.logits)
    kl = posterior.kl(prior)
    stop = jax.lax.stop_gradient
    dynamics = jnp.maximum(free_nats, stop(posterior).kl(prior))
    representation = jnp.maximum(free_nats, posterior.kl(stop(prior)))
    alive = 1.0 - sequence.is_terminal.astype(jnp.float32)

    seen = sequence.mask
    arrived = seen.at[0].set(False)
    losses = {
        "recon": jnp.where(seen, prediction.obs.loss(sequence.obs), 0.0),
        "reward": jnp.where(arrived, prediction.reward.loss(sequence.reward), 0.0),
        "continue": jnp.where(
            arrived, prediction.continue_.loss(alive * (1.0 - 1.0 / horizon)), 0.0
        ),
        "dyn": jnp.where(arrived, dynamics, 0.0),
        "rep": jnp.where(arrived, representation, 0.0),
    }
    metrics = {
        "kl/0": kl,
        "prior_entropy": prior.entropy(),
        "posterior_entropy": posterior.entropy(),
    }
    return losses, latent, metrics
