"""What one level above the lowest learns from; nothing of it reaches the level below."""

import dataclasses
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.nn.distributions import OneHot, Symlog
from dreamer_h.nn.recurrent import frugal
from dreamer_h.types import Latent, Sequence, merged
from dreamer_h.world.upper.follow import Followed
from dreamer_h.world.upper.jump import Jump, Outlook
from dreamer_h.world.upper.levels import Levels
from dreamer_h.world.upper.outcome import Losses, Outcome, outlook_losses

PATHS = 2  # own jumps from one start, judged together: see losses.rollout_losses

stop = jax.lax.stop_gradient


class Own(eqx.Module):
    """Where own jumps of a level led: latents (P, N, ...) before jumps `places` of the window."""

    latent: Latent
    places: tuple[int, ...] = eqx.field(static=True)


def reanchors(config: Config) -> bool:
    """Whether levels are taught from where the one above would let them begin."""
    return bool(config.jump.selffed > 1 and config.jump.reanchor)


def jump_losses(
    world: Levels,
    i: int,
    sequence: Sequence,
    found: Followed,
    above: Own | None,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Losses, Own | None]:
    """Losses of level i + 1, one value a jump where it can be, and where its own jumps led.

    `above` is the latter of the level above it, if there is one.
    """
    jump, chosen = world.jumps[i], config.jump
    own_key, reanchor_key = jr.split(key)
    starts, arrivals = found.starts[i], found.arrivals[i]
    count = len(found.codes[i])
    ends = np.arange(1, count + 1) * jump.stride
    whole = jnp.full(count, jump.stride)
    outcome = Outcome.of(sequence, ends - jump.stride, whole, jump.stride, config.behaviour.horizon)

    outlook = jump.outlook(dataclasses.replace(arrivals, obs=starts.obs))
    prior = jump.level.code(jump.level.prior_logits(arrivals.deter))
    posterior = jump.level.code(arrivals.logits)
    losses = outlook_losses(outlook, outcome, sequence, target(world, found.logits[ends]), ends)
    # the anchors' codes are held near what can be told of them; that moves `see` alone
    held = jnp.maximum(chosen.free_nats, world.code(found.logits[ends]).kl(stop(outlook.code)))
    losses["code"] += chosen.rep_scale * jnp.where(outcome.anchored, held, 0.0)
    kls = {"dyn": stop(posterior).kl(prior), "rep": posterior.kl(stop(prior))}
    for name, kl in kls.items():
        losses[name] = jnp.where(outcome.anchored, jnp.maximum(chosen.free_nats, kl), 0.0)

    if jump.ensemble is not None:
        seen = world.base.seen(sequence.obs)
        before = None if seen is None else seen[ends - jump.stride]
        code = target(world, found.logits[ends])
        guessed = jump.ensemble.loss(
            starts.features, found.codes[i], before, code, sequence.obs[ends]
        )
        losses["ensemble"] = jnp.where(outcome.anchored, guessed, 0.0)
    own = None
    if chosen.selffed:
        length = min(chosen.selffed, count)
        begins = np.arange(count // length) * length
        first = spread(stop(jax.tree.map(lambda leaf: leaf[begins], starts)), PATHS)
        known = found.codes[i][begins[:, None] + np.arange(length)]
        moments = begins * jump.stride
        loss, path = own_jumps(
            world, i, sequence, found, first, known, moments, config, key=own_key
        )
        ramp = length * update / max(chosen.selffed_warmup, 1) - jnp.arange(length)
        losses["selffed"] = loss * jnp.clip(ramp, jnp.arange(length) == 0, 1)
        if reanchors(config):
            # the last of them leads to the end of its group, from where the next one is taught
            places = (begins[:, None] + np.arange(1, length)).reshape(-1)
            path = jax.vmap(merged)(jax.tree.map(lambda leaf: leaf[:, :, :-1], path))
            path = stop(path) if chosen.own_losses else path
            own = Own(path, tuple(places.tolist()))
    if above is not None:
        ratio = world.strides[i + 1] // jump.stride
        memory = world.jumps[i + 1].below(above.latent)
        first = jax.vmap(jax.vmap(jump.begin))(cast(Array, above.latent.obs), memory)
        places = np.asarray(above.places) * ratio
        known = found.codes[i][places[:, None] + np.arange(ratio)]
        losses["reanchor"], _ = own_jumps(
            world, i, sequence, found, first, known, places * jump.stride, config, key=reanchor_key
        )
    return losses, own


def own_jumps(
    world: Levels,
    i: int,
    sequence: Sequence,
    found: Followed,
    first: Latent,
    known: Float[Array, "N J U"],
    begins: np.ndarray,
    config: Config,
    *,
    key: PRNGKeyArray,
    steps: Int[Array, " N"] | None = None,
) -> tuple[Float[Array, "N J"], Latent]:
    """Losses of J jumps in a row on own predictions, from starts (P, N, ...), and the paths
    (P, N, J, ...). `begins` (N,) are the moments of the window that the starts stand at. Jumps that
    end before they are full, after `steps`, are one each."""
    jump, (count, length) = world.jumps[i], known.shape[:2]
    begins = begins[:, None] + jump.stride * np.arange(length)
    covered = jnp.full(begins.shape, jump.stride) if steps is None else steps[:, None]
    ends = begins + covered

    def along(latent, known, key):
        def step(latent, inputs):
            latent, outlook = jump.foresee(latent, inputs[0], key=inputs[1])
            return latent, (latent, outlook)

        return jax.lax.scan(frugal(step), latent, (known, jr.split(key, length)))[1]

    side_by_side = jax.vmap(jax.vmap(along), in_axes=(0, None, 0))
    keys = jr.split(key, (len(first.deter), count))
    path, outlook = side_by_side(first, known, keys)
    outcome = Outcome.of(sequence, begins, covered, jump.stride, config.behaviour.horizon)
    losses = outlook_losses(
        unstacked(outlook, jump), outcome, sequence, target(world, found.logits[ends]), ends
    )
    return sum(losses.values(), jnp.float32(0.0)), path


def unstacked(outlook: Outlook, jump: Jump) -> Outlook:
    """The deviations of a stack of outlooks are all the same: one stands for all."""
    if outlook.obs is None:
        return outlook
    return dataclasses.replace(outlook, obs=Symlog(outlook.obs.output, jump.scale, jump.angles))


def spread(latent: Latent, paths: int) -> Latent:
    """The same (N, ...) for several paths (P, N, ...)."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (paths, *leaf.shape)), latent)


def target(world: Levels, logits: Float[Array, "*B G C"]) -> OneHot:
    """The codes of anchors, as something to predict: nothing moves them."""
    return world.code(stop(logits))
