"""What the simulator learns from: one dict of unreduced losses over a window."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.config import WorldConfig
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.world import World


def scales(config: WorldConfig) -> dict[str, float]:
    """The weight of each loss."""
    found = {
        name: getattr(config, f"{name}_scale")
        for name in ("recon", "reward", "continue", "dyn", "rep")
    }
    if config.selffed:
        found["selffed/recon"] = config.selffed_scale * config.recon_scale
        found["selffed/reward"] = config.selffed_scale * config.reward_scale
    return found


def batch_losses(
    world: World,
    batch: Sequence,
    config: WorldConfig,
    *,
    horizon: float,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, "B T1"]], Latent, dict[str, Float[Array, "B T1"]]]:
    """`world_losses` of every window of a batch, each with randomness of its own."""
    losses = lambda sequence, key: world_losses(
        world,
        sequence,
        horizon=horizon,
        free_nats=config.free_nats,
        selffed=config.selffed,
        paths=config.selffed_paths,
        key=key,
    )
    return jax.vmap(losses)(batch, jr.split(key, len(batch.mask)))


def world_losses(
    world: World,
    sequence: Sequence,
    *,
    horizon: float,
    free_nats: float,
    selffed: int = 0,
    paths: int = 1,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, " T1"]], Latent, dict[str, Float[Array, " T1"]]]:
    """Losses of one window, its posteriors (T+1, ...), and entropies and KL for the log.

    `horizon` (agent steps) puts the discount 1 - 1/horizon into the continue target. The KL terms
    are summed over the groups and count only above `free_nats` a step. `selffed` adds the losses of
    own rollouts of so many agent steps, `paths` from each start. Padding costs nothing, and neither
    do reward, continue and KL at the window's first step, to which nothing led; nor does the
    reconstruction there, if the latents carry the observation.
    """
    start_key, rollout_key = jr.split(key)
    latent = world.start(sequence, key=start_key)
    before = None
    if latent.obs is not None:
        before = jnp.concatenate([latent.obs[:1], latent.obs[:-1]])
    expected = world.expect(latent, before)
    prior = world.level.code(world.level.prior_logits(latent.deter))
    posterior = world.level.code(latent.logits)
    kl = posterior.kl(prior)
    stop = jax.lax.stop_gradient
    dynamics = jnp.maximum(free_nats, stop(posterior).kl(prior))
    representation = jnp.maximum(free_nats, posterior.kl(stop(prior)))
    alive = 1.0 - sequence.is_terminal.astype(jnp.float32)

    seen = sequence.mask
    arrived = seen.at[0].set(False)
    # where the observation goes along, only its changes are to be learned
    told = seen if before is None else arrived & ~sequence.is_first
    losses = {
        "recon": jnp.where(told, expected.loss(sequence.obs), 0.0),
        "reward": jnp.where(arrived, world.reward_of(latent.features).loss(sequence.reward), 0.0),
        "continue": jnp.where(
            arrived,
            world.continue_of(latent.features).loss(alive * (1.0 - 1.0 / horizon)),
            0.0,
        ),
        "dyn": jnp.where(arrived, dynamics, 0.0),
        "rep": jnp.where(arrived, representation, 0.0),
    }
    if selffed:
        losses |= selffed_losses(world, sequence, latent, selffed, paths, key=rollout_key)
    metrics = {
        "kl/0": kl,
        "prior_entropy": prior.entropy(),
        "posterior_entropy": posterior.entropy(),
    }
    return losses, latent, metrics


def selffed_losses(
    world: World,
    sequence: Sequence,
    latent: Latent,
    length: int,
    paths: int,
    *,
    key: PRNGKeyArray,
) -> dict[str, Float[Array, " T1"]]:
    """Losses of the simulator's own rollouts, each at the step that it should have foreseen.

    From the posteriors 0, length, 2 length, ... of a window under its actions (Talvitie 2017). The
    posteriors are constants: what is taught is to go on from them. Several `paths` from the same
    posterior are judged together, by the CRPS of their observations, which is least when they
    spread as reality does; one alone is held to hit.
    """
    count = (len(sequence.mask) - 1) // length
    covered = count * length
    start = jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf[:covered:length]), latent)
    action = sequence.action[:covered].reshape(count, length, -1)

    def rollout(latent, action, key):
        path = world.imagine(latent, action, key=key).latent
        return jax.tree.map(lambda leaf: leaf[1:], path)

    side_by_side = jax.vmap(jax.vmap(rollout), in_axes=(None, None, 0))
    path = side_by_side(start, action, jr.split(key, (paths, count)))
    path = jax.tree.map(lambda leaf: leaf.reshape(paths, covered, *leaf.shape[3:]), path)
    prediction = world.decode(path)
    steps = slice(1, covered + 1)
    # a rollout that begins in the padding, or behind an end, foresees nothing
    seen = sequence.mask[steps]
    obs = prediction.obs
    judge = obs.ensemble_loss if paths > 1 else lambda target: obs.loss(target[None])[0]
    reward = jnp.broadcast_to(sequence.reward[steps], (paths, covered))
    found = {
        "selffed/recon": judge(sequence.obs[steps]),
        "selffed/reward": prediction.reward.loss(reward).mean(0),
    }
    pad = lambda loss: jnp.pad(jnp.where(seen, loss, 0.0), (1, len(sequence.mask) - 1 - covered))
    return {name: pad(loss) for name, loss in found.items()}
