"""What a simulator with levels learns from: each level by itself, and how one begins another."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.losses import rollout_losses, world_losses
from dreamer_h.world.upper.follow import Followed, follow
from dreamer_h.world.upper.jump_losses import PATHS, Own, jump_losses, reanchors, spread, target
from dreamer_h.world.upper.levels import Levels
from dreamer_h.world.upper.outcome import Losses
from dreamer_h.world.upper.single_jumps import single_losses


def scales(config: Config) -> dict[str, float]:
    """The weight of each loss of the upper levels, and of what they ask of those below them."""
    chosen, found = config.jump, {"arrive": 1.0}
    world = config.world
    found["fill/recon"] = world.selffed_scale * world.recon_scale
    found["fill/reward"] = world.selffed_scale * world.reward_scale
    for level in range(1, config.levels if chosen.own_losses else 1):
        weights = {
            name: 1.0 for name in ("obs", "code", "reward", "continue", "duration", "single")
        }
        weights |= {"dyn": chosen.dyn_scale, "rep": chosen.rep_scale}
        if chosen.selffed:
            weights["selffed"] = chosen.selffed_scale
        if reanchors(config) and level + 1 < config.levels:
            weights["reanchor"] = chosen.selffed_scale
        if chosen.distil_scale:
            weights["distil"] = chosen.distil_scale
        if world.ensemble:
            weights["ensemble"] = 1.0
        found |= {f"level{level}/{name}": weight for name, weight in weights.items()}
    return found


def hierarchy_losses(
    world: Levels,
    sequence: Sequence,
    other: Float[Array, "T A"],
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Losses, Latent, Losses]:
    """Losses of one window, level 0's latents (T+1, ...), and what the log shows.

    Those of level 0 are a single level's, whatever is above it. `other` are the actions of another
    window, for what a level can teach the one above about actions that were not taken. `update`
    moves the curriculum.
    """
    own_key, levels_key = jr.split(key)
    chosen = config.world
    losses, latent, metrics = world_losses(
        world.base, sequence,
        horizon=config.behaviour.horizon, free_nats=chosen.free_nats,
        selffed=chosen.selffed, paths=chosen.selffed_paths, key=own_key,
    )  # fmt: skip
    taught = lambda: _upper_losses(
        world, sequence, other, latent, config, update=update, key=levels_key
    )
    # a jump covers many steps: what is above the lowest level needs fewer updates than that
    nothing = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(taught))
    upper = jax.lax.cond(update % config.jump.every == 0, taught, nothing)
    losses |= {name: config.jump.every * loss for name, loss in upper.items()}  # as often as others
    return losses, latent, metrics


def _upper_losses(
    world: Levels,
    sequence: Sequence,
    other: Float[Array, "T A"],
    latent: Latent,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> Losses:
    """Losses of all levels above the lowest, from the topmost down, and of the fill.

    `latent` are the posteriors of level 0.
    """
    follow_key, blind_key, fill_key, *keys = jr.split(key, 3 + 2 * len(world.jumps))
    sequence = _stayed(sequence)
    steps = len(sequence.action)
    blind = tuple(
        jr.bernoulli(jr.fold_in(blind_key, i), config.jump.macro, (steps // jump.stride,))
        for i, jump in enumerate(world.jumps)
    )
    embedding = world.base.encode(sequence.obs)
    found = follow(world, sequence, embedding, jr.split(follow_key, steps + 1), blind)
    losses, above = {}, None
    for i in reversed(range(len(world.jumps))):
        one, above = jump_losses(
            world, i, sequence, found, above, config, update=update, key=keys[2 * i]
        )
        if not config.jump.own_losses:
            continue
        one |= single_losses(
            world, i, sequence, other, latent, found, config, update=update, key=keys[2 * i + 1]
        )
        losses |= {f"level{i + 1}/{name}": loss for name, loss in one.items()}
    return losses | _fill_losses(world, sequence, latent, found, above, config, fill_key)


def _stayed(sequence: Sequence) -> Sequence:
    """An episode that is over stays where it ended and does nothing; jumps reach beyond that."""
    wide = sequence.mask.reshape(-1, *[1] * (sequence.obs.ndim - 1))
    last = sequence.obs[jnp.maximum(sequence.mask.sum() - 1, 0)]
    return dataclasses.replace(
        sequence,
        obs=jnp.where(wide, sequence.obs, last),
        action=jnp.where(sequence.mask[1:, None], sequence.action, 0.0),
    )


def _fill_losses(
    world: Levels,
    sequence: Sequence,
    latent: Latent,
    found: Followed,
    above: Own | None,
    config: Config,
    key: PRNGKeyArray,
) -> Losses:
    """Rollouts of level 0 for half of the jumps, from real anchors and predicted ones, held to what
    really happened; and what is told of the anchors where they arrive. Level 0 is a constant here:
    what is taught is how to begin it."""
    stride, count = world.strides[0], len(found.codes[0])
    start_key, pick_key, rollout_key = jr.split(key, 3)
    starts = dataclasses.replace(world.ground_at(found.starts[0]), code=found.anchors)
    starts = spread(starts, PATHS)
    if above is not None:
        starts = _reanchored(world, starts, above, config.jump.reanchor, start_key)
    chosen = jr.permutation(pick_key, count)[: max(1, count // 2)]
    begins = chosen * stride
    starts = jax.tree.map(lambda leaf: leaf[:, chosen], starts)
    base = jax.lax.stop_gradient(world.base)
    told, paths = rollout_losses(base, sequence, starts, begins, stride, key=rollout_key)
    moments = begins + stride
    real = jax.tree.map(lambda leaf: leaf[None, moments], latent)
    ends = jax.tree.map(
        lambda own, real: jnp.concatenate([own[:, :, -1], real.astype(own.dtype)]), paths, real
    )
    reached = world.code(world.arrived(ends))
    away = target(world, found.logits[moments]).kl(reached).mean(0)
    return {
        "fill/recon": told["recon"],
        "fill/reward": told["reward"],
        "arrive": jnp.where(sequence.mask[moments], away, 0.0),
    }


def _reanchored(
    world: Levels, starts: Latent, above: Own, share: float, key: PRNGKeyArray
) -> Latent:
    """Starts of level 0, (P, N, ...), a share of them where own jumps of level 1 led."""
    paths, places = len(starts.deter), np.asarray(above.places)
    predicted = world.ground_at(above.latent)
    chosen = jr.bernoulli(key, share, (len(places),))

    def exchanged(real, own):
        own = own[np.arange(paths) % len(own)].astype(real.dtype)
        mask = chosen.reshape(1, -1, *[1] * (real.ndim - 2))
        return real.at[:, places].set(jnp.where(mask, own, real[:, places]))

    return jax.tree.map(exchanged, starts, predicted)
