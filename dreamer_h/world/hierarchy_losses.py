"""What a simulator with levels learns from: each level by itself, and how one begins another."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.follow import Followed, follow
from dreamer_h.world.jump_losses import Own, jump_losses, reanchors, spread, target
from dreamer_h.world.levels import Levels
from dreamer_h.world.losses import posterior_losses, rollout_losses
from dreamer_h.world.outcome import Losses


def scales(config: Config) -> dict[str, float]:
    """The weight of each loss of the upper levels, and of what they ask of those below them."""
    chosen, found = config.jump, {"arrive": 1.0}
    for level in range(1, config.levels):
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

    Those of level 0 are a single level's, in segments, and from where the level above would let it
    begin; each upper level adds its own. `other` are the actions of another window, for what a
    level can teach the one above about actions that were not taken. `update` moves the curriculum.
    """
    follow_key, blind_key, rollout_key, *keys = jr.split(key, 3 + len(world.jumps))
    steps = len(sequence.action)
    sequence = _stayed(sequence)
    blind = tuple(
        jr.bernoulli(jr.fold_in(blind_key, i), config.jump.macro, (steps // jump.stride,))
        for i, jump in enumerate(world.jumps)
    )
    found = follow(world, sequence, jr.split(follow_key, steps + 1), blind)
    latent = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:1], rest]), found.ground_starts, found.ground
    )
    losses, metrics = posterior_losses(
        world.base, sequence, latent,
        horizon=config.behaviour.horizon, free_nats=config.world.free_nats,
    )  # fmt: skip

    learns = update % config.jump.every == 0
    taught = lambda: _level_losses(world, sequence, other, found, config, update=update, keys=keys)
    # a jump covers many steps: what is above the lowest level needs fewer updates than that
    nothing = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(taught))
    own, lowest = jax.lax.cond(learns, taught, nothing)
    own = {name: config.jump.every * loss for name, loss in own.items()}  # as often as all others
    losses |= own | _ground_losses(world, sequence, found, lowest, learns, config, rollout_key)
    for i, jump in enumerate(world.jumps):
        prior = jump.level.code(jump.level.prior_logits(found.arrivals[i].deter))
        metrics[f"kl/{i + 1}"] = jump.level.code(found.arrivals[i].logits).kl(prior)
    return losses, latent, metrics


def _level_losses(
    world: Levels,
    sequence: Sequence,
    other: Float[Array, "T A"],
    found: Followed,
    config: Config,
    *,
    update: Int[Array, ""],
    keys: list[PRNGKeyArray],
) -> tuple[Losses, Own | None]:
    """Losses of all levels above the lowest, from the topmost down, and where the jumps of level 1
    led."""
    losses, above = {}, None
    for i in reversed(range(len(world.jumps))):
        one, above = jump_losses(
            world, i, sequence, other, found, above, config, update=update, key=keys[i]
        )
        losses |= {f"level{i + 1}/{name}": loss for name, loss in one.items()}
    return losses, above


def _stayed(sequence: Sequence) -> Sequence:
    """An episode that is over stays where it ended and does nothing; jumps reach beyond that."""
    wide = sequence.mask.reshape(-1, *[1] * (sequence.obs.ndim - 1))
    last = sequence.obs[jnp.maximum(sequence.mask.sum() - 1, 0)]
    return dataclasses.replace(
        sequence,
        obs=jnp.where(wide, sequence.obs, last),
        action=jnp.where(sequence.mask[1:, None], sequence.action, 0.0),
    )


def _ground_losses(
    world: Levels,
    sequence: Sequence,
    found: Followed,
    above: Own | None,
    learns: Bool[Array, ""],
    config: Config,
    key: PRNGKeyArray,
) -> Losses:
    """Own rollouts of level 0 from real anchors and from predicted ones, and where they arrive."""
    chosen, stride = config.world, world.strides[0]
    begins = np.arange(len(found.codes[0]))
    ends = jax.tree.map(lambda leaf: leaf[None, stride - 1 :: stride], found.ground)
    losses = {}
    if chosen.selffed:
        start_key, rollout_key = jr.split(key)
        starts = spread(found.ground_starts, chosen.selffed_paths)
        if above is not None:
            share = jnp.where(learns, config.jump.reanchor, 0.0)
            starts = _exchanged(world, starts, above, share, start_key)
        own, paths = rollout_losses(
            world.base, sequence, starts, begins * stride, stride, key=rollout_key
        )
        losses = {
            f"selffed/{name}": jnp.pad(loss.reshape(-1), (1, 0)) for name, loss in own.items()
        }
        ends = jax.tree.map(lambda leaf: leaf[:, :, -1], paths)
    moments = (begins + 1) * stride
    reached = world.code(world.arrived(ends))
    away = target(world, found.logits[moments]).kl(reached).mean(0)
    return losses | {"arrive": jnp.where(sequence.mask[moments], away, 0.0)}


def _exchanged(
    world: Levels, starts: Latent, above: Own, share: Float[Array, ""], key: PRNGKeyArray
) -> Latent:
    """Starts of level 0, (P, N, ...), a share of them where level 1 would let it begin."""
    paths = len(starts.deter)
    predicted = world.ground_at(above.latent)
    predicted = jax.tree.map(lambda leaf: leaf[np.arange(paths) % len(leaf)], predicted)
    chosen = jr.bernoulli(key, share, (len(above.places),))
    places = np.asarray(above.places)

    def exchanged(real, guess):
        mask = chosen.reshape(1, -1, *[1] * (real.ndim - 2))
        return real.at[:, places].set(jnp.where(mask, guess, real[:, places]))

    return jax.tree.map(exchanged, starts, predicted)
