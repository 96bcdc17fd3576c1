"""One jump from each moment of a window: under the actions taken there, and under others.

Recorded jumps are few, since they overlap. Two things make more of them: half of all end anywhere
on the way, so that it is learned how a jump gets where it leads; and the level below, which needs
less data for its shorter steps, shows where actions lead that were not taken.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.nn.coordinates import observation
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.upper.fill import stretch
from dreamer_h.world.upper.follow import Followed
from dreamer_h.world.upper.jump import Jump, anchor_vector
from dreamer_h.world.upper.jump_losses import PATHS, own_jumps, spread, stop, target, unstacked
from dreamer_h.world.upper.levels import Levels
from dreamer_h.world.upper.outcome import Losses


def single_losses(
    world: Levels,
    i: int,
    sequence: Sequence,
    other: Float[Array, "T A"],
    latent: Latent,
    found: Followed,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> Losses:
    """Losses of level i + 1, one value a jump, from wherever the level below may stand.

    `latent` are level 0's posteriors (T+1, ...), `other` the actions that were not taken here. The
    jumps begin without a memory; every other one is under `other`, if that is to be taught.
    """
    jump, total = world.jumps[i], len(sequence.action)
    begins = np.arange(0, total - jump.stride + 1, _apart(world, i))
    own_key, distil_key = jr.split(key)
    if not config.jump.distil_scale:
        return {"single": _taken(world, i, sequence, found, config, begins, own_key)}
    away = _taught(world, i, sequence, other, latent, found, begins[1::2], distil_key)
    moved = update >= config.jump.distil_warmup
    return {
        "single": _taken(world, i, sequence, found, config, begins[::2], own_key),
        "distil": jnp.where(moved & sequence.mask[begins[1::2]], away, 0.0),
    }


def _apart(world: Levels, i: int) -> int:
    """Agent steps between the moments at which the level below may stand."""
    return world.strides[i - 1] if i else 1


def _taken(
    world: Levels,
    i: int,
    sequence: Sequence,
    found: Followed,
    config: Config,
    begins: np.ndarray,
    key: PRNGKeyArray,
) -> Float[Array, " N"]:
    """Losses of jumps under the actions that were taken, against what happened."""
    draw_key, own_key = jr.split(key)
    anchor, steps = _drawn(world, i, sequence, found, begins, draw_key)
    jump = world.jumps[i]
    known = _known(jump, anchor, sequence.action, begins, steps)[:, None]
    first = spread(jax.vmap(jump.begin)(anchor), PATHS)
    losses, _ = own_jumps(
        world, i, sequence, found, first, known, begins, config, key=own_key, steps=steps
    )
    return losses[:, 0]


def _taught(
    world: Levels,
    i: int,
    sequence: Sequence,
    other: Float[Array, "T A"],
    latent: Latent,
    found: Followed,
    begins: np.ndarray,
    key: PRNGKeyArray,
) -> Float[Array, " N"]:
    """Nats of jumps under other actions, against where the level below gets by them."""
    jump, count = world.jumps[i], len(begins)
    draw_key, teacher_key, *keys = jr.split(key, 2 + PATHS)
    anchor, steps = _drawn(world, i, sequence, found, begins, draw_key)
    here = jax.tree.map(lambda leaf: leaf[begins], latent)
    actions = other[_moments(begins, jump.stride)]
    led = _below(world, i, here, anchor, actions, teacher_key)
    end = stop(jax.tree.map(lambda leaf: leaf[np.arange(count), steps - 1], led))
    code = target(world, world.arrived(end))
    known = _known(jump, anchor, other, begins, steps)
    leap = lambda anchor, known, key: jump.foresee(jump.begin(anchor), known, key=key)[1]
    paths = jax.vmap(jax.vmap(leap), in_axes=(None, None, 0))
    several = paths(anchor, known, jnp.stack([jr.split(path, count) for path in keys]))
    outlook = unstacked(several, jump)
    loss = code.kl(outlook.code).mean(0)
    if outlook.obs is not None and end.obs is not None:
        loss += outlook.obs.ensemble_loss(observation(end.obs, jump.angles))
    return loss


def _drawn(
    world: Levels, i: int, sequence: Sequence, found: Followed, begins: np.ndarray, key
) -> tuple[Float[Array, "N V"], Int[Array, " N"]]:
    """Anchors at some moments, and how many steps the jumps from there cover."""
    code_key, part_key, steps_key = jr.split(key, 3)
    count, stride, apart = len(begins), world.jumps[i].stride, _apart(world, i)
    code = jax.vmap(world.drawn)(found.logits[begins], jr.split(code_key, count))
    seen = world.base.seen(sequence.obs)
    anchor = stop(anchor_vector(code, None if seen is None else seen[begins]))
    steps = apart * jr.randint(steps_key, (count,), 1, stride // apart + 1)
    return anchor, jnp.where(jr.bernoulli(part_key, 0.5, (count,)), steps, stride)


def _known(
    jump: Jump, anchor: Float[Array, "N V"], action: Float[Array, "T A"], begins, steps
) -> Float[Array, "N U"]:
    """What the jumps know of the actions that they cover."""
    states = jax.vmap(jump.chunk.read)(action[_moments(begins, jump.stride)], anchor)
    return jax.vmap(jump.chunk.code)(states[np.arange(len(begins)), steps - 1])


def _below(
    world: Levels,
    i: int,
    here: Latent,
    anchor: Float[Array, "N V"],
    actions: Float[Array, "N K A"],
    key: PRNGKeyArray,
) -> Latent:
    """Latents of level 0 (N, K, ...) where the level below goes on from its own state."""
    keys = jr.split(key, len(actions))
    if i == 0:
        ahead = lambda latent, actions, key: world.base.imagine(latent, actions, key=key).latent
        return jax.tree.map(lambda leaf: leaf[:, 1:], jax.vmap(ahead)(here, actions, keys))
    standing = jax.vmap(world.jumps[i - 1].begin)(anchor)
    ahead = lambda latent, actions, key: stretch(world, latent, i - 1, actions, key=key)[0]
    return jax.vmap(ahead)(standing, actions, keys)


def _moments(begins: np.ndarray, stride: int) -> np.ndarray:
    """Of the actions of jumps (N, K)."""
    return begins[:, None] + np.arange(stride)
