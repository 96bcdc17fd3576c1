"""A window of real experience as the levels above the lowest see it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key, Shaped

from dreamer_h.types import Latent, Sequence, merged
from dreamer_h.world.upper.jump import anchor_vector
from dreamer_h.world.upper.levels import Levels


class Followed(eqx.Module):
    """A window as upper levels saw it: T agent steps, M_i = T / stride_i jumps of level i.

    Index i of a tuple is level i + 1. What upper levels have of anchors carries no gradient.
    """

    logits: Float[Array, "T1 G C"]  # of the anchors' codes, at every moment
    anchors: Float[Array, "M1 G C"]  # codes where level 1 begins; their gradient reaches `see`
    chunks: tuple[Float[Array, "_ _ _"], ...]  # after each action of a jump
    codes: tuple[Float[Array, "_ U"], ...]  # what the jumps knew of their actions
    starts: tuple[Latent, ...]  # (M_i, ...) standing where a jump begins
    arrivals: tuple[Latent, ...]  # (M_i, ...) posteriors where it ends


def follow(
    levels: Levels,
    sequence: Sequence,
    embedding: Float[Array, "T1 E"],
    keys: Key[Array, " T1"],
    blind: tuple[Shaped[Array, " _"], ...] | None = None,
) -> Followed:
    """A window whose T is a multiple of the longest stride, as the levels above the lowest see it.

    `keys` are those of the moments, for what begins there. `blind` says of each jump of each level
    whether it knows the macro code of its actions only; without it none does.
    """
    stride, seen = levels.strides[0], levels.base.seen(sequence.obs)
    shown = jnp.concatenate([jnp.zeros_like(embedding[:1]), embedding[:-1]])
    logits = levels.seen_code(embedding, shown)
    # an anchor is drawn when the step after it is taken; the window's first one at once
    begin_keys = jnp.concatenate([keys, keys[-1:]])
    times = jnp.arange(0, len(sequence.mask), stride)
    begin_keys = begin_keys[jnp.where(times > 0, times + 1, 0)]
    level_keys = jax.vmap(lambda key: jr.split(key, 1 + len(levels.jumps)))(begin_keys)
    code = jax.vmap(levels.drawn)(logits[times], level_keys[:, 0])
    place = None if seen is None else seen[times]
    anchor = jax.lax.stop_gradient(anchor_vector(code, place))

    chunks, codes, starts, arrivals = [], [], [], []
    memory = None
    for i in reversed(range(len(levels.jumps))):
        jump = levels.jumps[i]
        ratio = jump.stride // stride
        here = anchor[::ratio]
        action = sequence.action.reshape(-1, jump.stride, sequence.action.shape[-1])
        states = jax.vmap(jump.chunk.read)(action, here[:-1])
        known = jax.vmap(jump.chunk.code)(states[:, -1])
        if blind is not None:
            told = jump.macro.decode(jump.macro.encode(known, here[:-1]), here[:-1])
            known = jnp.where(blind[i][:, None], told, known)
        # groups of jumps: one of all for the topmost level, else those inside a longer jump
        count = len(here) - 1 if memory is None else levels.strides[i + 1] // jump.stride
        began, reached = _jumped(jump, here, memory, known, level_keys[ratio::ratio, 1 + i], count)
        memory = jump.below(began)
        for kept, value in zip(
            (chunks, codes, starts, arrivals), (states, known, began, reached), strict=True
        ):
            kept.insert(0, value)

    return Followed(
        logits=logits,
        anchors=code[:-1],
        chunks=tuple(chunks),
        codes=tuple(codes),
        starts=tuple(starts),
        arrivals=tuple(arrivals),
    )


def _jumped(jump, here, memory, known, keys, count: int) -> tuple[Latent, Latent]:
    """Where jumps between the anchors `here` (M+1, V) begin and end, (M, ...) both.

    Every `count` of them begin with what the level above remembers, or with nothing.
    """
    grouped = lambda leaf: leaf.reshape(len(leaf) // count, count, *leaf.shape[1:])
    first = jax.vmap(jump.begin)(here[:-1:count], memory)
    follow = lambda first, known, anchor, keys: jump.level.follow(
        first, known, anchor.astype(jump.level.dtype), anchor, keys=keys
    )
    reached = jax.vmap(follow)(first, grouped(known), grouped(here[1:]), grouped(keys))
    began = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:, None], rest[:, :-1]], axis=1), first, reached
    )
    return merged(began), merged(reached)
