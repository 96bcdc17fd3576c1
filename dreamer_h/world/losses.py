"""What the simulator learns from: one dict of unreduced losses over a window."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.config import WorldConfig
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.world import World


def scales(config: WorldConfig) -> dict[str, float]:
    """The weight of each loss of a single level."""
    found = {
        name: getattr(config, f"{name}_scale")
        for name in ("recon", "reward", "continue", "dyn", "rep")
    }
    if config.ensemble:
        found["ensemble"] = 1.0
    if config.selffed:
        found["selffed/recon"] = config.selffed_scale * config.recon_scale
        found["selffed/reward"] = config.selffed_scale * config.reward_scale
    return found


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

    `selffed` adds the losses of own rollouts of so many agent steps, `paths` from each start, to
    those of the posteriors.
    """
    start_key, rollout_key = jr.split(key)
    latent = world.start(sequence, key=start_key)
    losses, metrics = posterior_losses(
        world, sequence, latent, horizon=horizon, free_nats=free_nats
    )
    if selffed:
        losses |= selffed_losses(world, sequence, latent, selffed, paths, key=rollout_key)
    return losses, latent, metrics


def posterior_losses(
    world: World, sequence: Sequence, latent: Latent, *, horizon: float, free_nats: float
) -> tuple[dict[str, Float[Array, " T1"]], dict[str, Float[Array, " T1"]]]:
    """Losses of the posteriors (T+1, ...) of one window, and entropies and KL for the log.

    `horizon` (agent steps) puts the discount 1 - 1/horizon into the continue target. The KL terms
    are summed over the groups and count only above `free_nats` a step. Padding costs nothing, and
    neither do reward, continue and KL at the window's first step, to which nothing led; nor does
    the reconstruction there, if the latents carry the observation. What the ensemble learns, if
    there is one, moves nothing else.
    """
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
    metrics = {
        "kl/0": kl,
        "prior_entropy": prior.entropy(),
        "posterior_entropy": posterior.entropy(),
    }
    if world.ensemble is not None:
        acted = (latent.features[:-1], sequence.action)
        code = world.level.code(stop(latent.logits[1:]))
        seen = None if before is None else before[1:]
        guessed = world.ensemble.loss(*acted, seen, code, sequence.obs[1:])
        known = (arrived & ~sequence.is_first)[1:]
        losses["ensemble"] = jnp.pad(jnp.where(known, guessed, 0.0), (1, 0))
        metrics["information"] = world.ensemble.information(*acted)
    return losses, metrics


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
    posteriors are constants: what is taught is to go on from them.
    """
    count = (len(sequence.mask) - 1) // length
    covered = count * length
    start = jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf[:covered:length]), latent)
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (paths, *leaf.shape)), start)
    begins = np.arange(0, covered, length)
    found, _ = rollout_losses(world, sequence, start, begins, length, key=key)
    pad = lambda loss: jnp.pad(loss.reshape(-1), (1, len(sequence.mask) - 1 - covered))
    return {f"selffed/{name}": pad(loss) for name, loss in found.items()}


def rollout_losses(
    world: World,
    sequence: Sequence,
    start: Latent,
    begins: np.ndarray | Int[Array, " N"],
    length: int,
    *,
    key: PRNGKeyArray,
) -> tuple[dict[str, Float[Array, "N K"]], Latent]:
    """Losses `recon` and `reward` of own rollouts of K steps from starts (paths, N, ...), and the
    paths (paths, N, K, ...).

    `begins` (N,) are the moments of the window that the starts stand for; the window's actions
    follow. Several paths of the same moment are judged together, by the CRPS of their observations,
    which is least when they spread as reality does; one alone is held to hit.
    """
    moments = begins[:, None] + np.arange(length)
    paths, count = len(start.deter), len(begins)

    def rollout(latent, action, key):
        path = world.imagine(latent, action, key=key).latent
        return jax.tree.map(lambda leaf: leaf[1:], path)

    side_by_side = jax.vmap(jax.vmap(rollout), in_axes=(0, None, 0))
    path = side_by_side(start, sequence.action[moments], jr.split(key, (paths, count)))
    prediction = world.decode(path)
    # a rollout that begins in the padding, or behind an end, foresees nothing
    seen = sequence.mask[moments + 1]
    obs = prediction.obs
    judge = obs.ensemble_loss if paths > 1 else lambda target: obs.loss(target[None])[0]
    reward = jnp.broadcast_to(sequence.reward[moments + 1], (paths, count, length))
    found = {
        "recon": judge(sequence.obs[moments + 1]),
        "reward": prediction.reward.loss(reward).mean(0),
    }
    return {name: jnp.where(seen, loss, 0.0) for name, loss in found.items()}, path
