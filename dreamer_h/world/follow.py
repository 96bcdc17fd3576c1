"""A window of real experience as every level of a simulator sees it."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key, Shaped

from dreamer_h.types import Latent, Sequence
from dreamer_h.world.jump import anchor_vector
from dreamer_h.world.levels import Levels


class Followed(eqx.Module):
    """A window as every level saw it: T agent steps, M_i = T / stride_i jumps of level i.

    Index i of a tuple is level i + 1. What upper levels have of anchors carries no gradient.
    """

    embedding: Float[Array, "T1 E"]
    logits: Float[Array, "T1 G C"]  # of the anchors' codes, at every moment
    chunks: tuple[Float[Array, "_ _ _"], ...]  # after each action of a jump
    codes: tuple[Float[Array, "_ U"], ...]  # what the jumps knew of their actions
    starts: tuple[Latent, ...]  # (M_i, ...) standing where a jump begins
    arrivals: tuple[Latent, ...]  # (M_i, ...) posteriors where it ends
    ground_starts: Latent  # (M_1, ...) of level 0
    ground: Latent  # (T, ...) posteriors of level 0


def follow(
    levels: Levels,
    sequence: Sequence,
    keys: Key[Array, " T1"],
    blind: tuple[Shaped[Array, " _"], ...] | None = None,
) -> Followed:
    """A window whose T is a multiple of the longest stride, as every level sees it.

    `keys` are those of the moments. `blind` says of each jump of each level whether it knows the
    macro code of its actions only; without it none does.
    """
    base, stride = levels.base, levels.strides[0]
    embedding, seen = base.encode(sequence.obs), base.seen(sequence.obs)
    before = jnp.concatenate([jnp.zeros_like(embedding[:1]), embedding[:-1]])
    logits = levels.seen_code(embedding, before)
    # an anchor is drawn when the step after it is taken; the window's first one at once
    moment_keys, begin_keys = _halves(keys)
    begin_keys = jnp.concatenate([begin_keys, begin_keys[-1:]])
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

    ground_starts = Latent(
        cast(Array, memory).astype(code.dtype), code[:-1], logits[times][:-1],
        None if place is None else place[:-1],
    )  # fmt: skip
    segments = lambda leaf: leaf.reshape(-1, stride, *leaf.shape[1:])
    ground = jax.vmap(
        lambda start, action, embedding, seen, keys: base.level.follow(
            start, action, embedding, seen, keys=keys
        ),
        in_axes=(0, 0, 0, None if seen is None else 0, 0),
    )(
        ground_starts, segments(sequence.action), segments(embedding[1:]),
        None if seen is None else segments(seen[1:]), segments(moment_keys[1:]),
    )  # fmt: skip
    return Followed(
        embedding=embedding,
        logits=logits,
        chunks=tuple(chunks),
        codes=tuple(codes),
        starts=tuple(starts),
        arrivals=tuple(arrivals),
        ground_starts=ground_starts,
        ground=_flat(ground),
    )


def _jumped(jump, here, memory, known, keys, count: int) -> tuple[Latent, Latent]:
    """Where jumps between the anchors `here` (M+1, V) begin and end, (M, ...) both.

    Every `count` of them begin with what the level above remembers, or with nothing.
    """
    grouped = lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:])
    first = jax.vmap(jump.begin)(here[:-1:count], memory)
    follow = lambda first, known, anchor, keys: jump.level.follow(
        first, known, anchor.astype(jump.level.dtype), anchor, keys=keys
    )
    reached = jax.vmap(follow)(first, grouped(known), grouped(here[1:]), grouped(keys))
    began = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:, None], rest[:, :-1]], axis=1), first, reached
    )
    return _flat(began), _flat(reached)


def _flat(tree):
    """Two leading axes as one."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)


def _halves(keys):
    """Of each key the two that `jr.split` makes of it."""
    pairs = jax.vmap(jr.split)(keys)
    return pairs[:, 0], pairs[:, 1]
