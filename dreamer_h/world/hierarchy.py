"""A simulator with levels: upper ones jump, the lowest fills the jumps, all segments side by side.

The same six verbs as `World`, and one more: `waypoints`, the view of an upper level alone.
"""

import dataclasses
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, Shaped

from dreamer_h.config import Config
from dreamer_h.nn.distributions import Bernoulli, OneHot, TwoHot
from dreamer_h.types import Imagined, Latent, Sequence, Stack
from dreamer_h.world.heads import Head
from dreamer_h.world.jump import Jump, anchor_vector
from dreamer_h.world.world import ActionOf, Prediction, World, chained


class Followed(eqx.Module):
    """A window as every level saw it: T agent steps, M_i = T / stride_i jumps of level i.

    Index i of a tuple is level i + 1. What upper levels have of anchors carries no gradient.
    """

    embedding: Float[Array, "T1 E"]
    logits: Float[Array, "T1 G C"]  # of the anchors' codes, at every moment
    anchors: tuple[Float[Array, "_ V"], ...]  # from the window's start to its end
    chunks: tuple[Float[Array, "_ _ _"], ...]  # after each action of a jump
    codes: tuple[Float[Array, "_ U"], ...]  # what the jumps knew of their actions
    starts: tuple[Latent, ...]  # (M_i, ...) standing where a jump begins
    arrivals: tuple[Latent, ...]  # (M_i, ...) posteriors where it ends
    ground_starts: Latent  # (M_1, ...) of level 0
    ground: Latent  # (T, ...) posteriors of level 0


class Hierarchy(eqx.Module):
    """The verbs, each for one sequence or one step; `vmap` them for more."""

    base: World  # level 0
    jumps: tuple[Jump, ...]  # levels 1, 2, …
    see: Head  # embedding(s) -> logits of an anchor's code
    arrive: Head  # features of level 0 -> the same, where nothing is seen

    def __init__(
        self, obs: jax.ShapeDtypeStruct, action: int, config: Config, *, key: PRNGKeyArray
    ):
        base_key, see_key, arrive_key, *keys = jr.split(key, 3 + len(config.jumps))
        world = config.world
        self.base = World(obs, action, world, key=base_key)
        seen = self.base.encoder.width * (1 if len(obs.shape) == 1 else 2)
        code = world.groups * world.classes
        self.see = Head(seen, code, world.units, 1, key=see_key)
        self.arrive = Head(self.base.features, code, world.units, 1, key=arrive_key)
        memories = [world.deter] + [config.jump.deter] * len(config.jumps)
        self.jumps = tuple(
            Jump(
                groups=world.groups,
                classes=world.classes,
                carried=self.base.carried,
                action=action,
                stride=stride,
                below=memories[i],
                bins=world.bins,
                unimix=world.unimix,
                config=config.jump,
                key=keys[i],
            )
            for i, stride in enumerate(config.jumps)
        )

    @property
    def features(self) -> int:
        """F of a latent."""
        return self.base.features

    @property
    def strides(self) -> tuple[int, ...]:
        """Agent steps of a jump of each level above the lowest."""
        return tuple(jump.stride for jump in self.jumps)

    def initial(self) -> Stack:
        """The state before anything was seen: zeros."""
        ground = self.base.initial()
        pixels = self.base.encoder.width if self._two_frames else 0
        return Stack(
            ground=ground,
            here=jnp.zeros_like(ground.logits),
            above=tuple(jump.begin(anchor_vector(ground.code, ground.obs)) for jump in self.jumps),
            chunks=tuple(jump.chunk.begin() for jump in self.jumps),
            steps=jnp.int32(0),
            embedding=jnp.zeros(pixels, ground.deter.dtype) if pixels else None,
        )

    def encode(self, obs: Shaped[Array, "..."]) -> Float[Array, "*B E"]:
        """Embedding of raw observations; leading axes are free."""
        return self.base.encode(obs)

    def start(self, sequence: Sequence, *, key: PRNGKeyArray) -> Stack:
        """States (T1, ...) along a context; the last one is where imagination begins.

        Segments are counted from the window's first observation.
        """
        longest, times = self.strides[-1], len(sequence.mask)
        missing = max(1, -(-(times - 1) // longest)) * longest - (times - 1)
        padded = jax.tree.map(
            lambda leaf: jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)), sequence
        )
        keys = jr.split(key, times)
        keys = jnp.concatenate([keys, jnp.repeat(keys[-1:], missing)])
        found = self.follow(padded, keys)
        join = lambda first, rest: jax.tree.map(
            lambda a, b: jnp.concatenate([a[:1], b])[:times], first, rest
        )

        # every moment has the start of the jump that it lies in
        held = lambda tree, stride: jax.tree.map(
            lambda leaf: jnp.repeat(leaf, stride, axis=0), tree
        )
        above = tuple(
            join(starts, held(starts, stride))
            for starts, stride in zip(found.starts, self.strides, strict=True)
        )
        chunks = tuple(
            join(jnp.zeros_like(states[0]), states.reshape(-1, states.shape[-1]))
            for states in found.chunks
        )
        return Stack(
            ground=join(found.ground_starts, found.ground),
            here=found.logits[:times],
            above=above,
            chunks=chunks,
            steps=jnp.arange(1, times + 1, dtype=jnp.int32),
            embedding=found.embedding[:times] if self._two_frames else None,
        )

    def follow(
        self,
        sequence: Sequence,
        keys: Key[Array, " T1"],
        blind: tuple[Shaped[Array, " _"], ...] | None = None,
    ) -> Followed:
        """A window whose T is a multiple of the longest stride, as every level sees it.

        `keys` are those of the moments. `blind` says of each jump of each level whether it knows
        the macro code of its actions only; without it none does.
        """
        stop = jax.lax.stop_gradient
        embedding, seen = self.encode(sequence.obs), self.base.seen(sequence.obs)
        before = jnp.concatenate([jnp.zeros_like(embedding[:1]), embedding[:-1]])
        logits = self.seen_code(embedding, before)
        # an anchor is drawn when the step after it is taken; the window's first one at once
        moment_keys, begin_keys = _halves(keys)
        begin_keys = jnp.concatenate([begin_keys, begin_keys[-1:]])
        times = jnp.arange(0, len(sequence.mask), self.strides[0])
        begin_keys = begin_keys[jnp.where(times > 0, times + 1, 0)]
        level_keys = jax.vmap(lambda key: jr.split(key, 1 + len(self.jumps)))(begin_keys)
        code = jax.vmap(lambda logits, key: self._code(logits).sample(key))(
            logits[times], level_keys[:, 0]
        )
        code = code.astype(self.base.level.dtype)
        place = None if seen is None else seen[times]
        anchor = stop(anchor_vector(code, place))

        anchors, chunks, codes, starts, arrivals = [], [], [], [], []
        memory = None
        for i in reversed(range(len(self.jumps))):
            jump = self.jumps[i]
            ratio = jump.stride // self.strides[0]
            here = anchor[::ratio]
            action = sequence.action.reshape(-1, jump.stride, sequence.action.shape[-1])
            states = jax.vmap(jump.chunk.read)(action, here[:-1])
            known = jax.vmap(jump.chunk.code)(states[:, -1])
            if blind is not None:
                told = jump.macro.decode(jump.macro.encode(known, here[:-1]), here[:-1])
                known = jnp.where(blind[i][:, None], told, known)
            # groups of jumps: one of all for the topmost level, else those inside a longer jump
            count = len(here) - 1 if memory is None else self.strides[i + 1] // jump.stride
            grouped = lambda leaf, count=count: leaf.reshape(-1, count, *leaf.shape[1:])
            first = jax.vmap(jump.begin)(here[:-1:count], memory)
            inputs = (grouped(known), grouped(here[1:]), grouped(level_keys[ratio::ratio, 1 + i]))

            def along(first, inputs, jump=jump):
                def step(latent, now):
                    reached = jump.observe(latent, now[0], now[1], key=now[2])
                    return reached, (latent, reached)

                return jax.lax.scan(step, first, inputs)[1]

            pair = jax.vmap(along)(first, inputs)
            began, reached = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), pair)
            memory = jump.below(began)
            for kept, value in zip(
                (anchors, chunks, codes, starts, arrivals),
                (here, states, known, began, reached),
                strict=True,
            ):
                kept.insert(0, value)

        ground_starts = Latent(
            cast(Array, memory).astype(code.dtype), code[:-1], logits[times][:-1],
            None if place is None else place[:-1],
        )  # fmt: skip
        segments = lambda leaf: leaf.reshape(-1, self.strides[0], *leaf.shape[1:])
        ground = jax.vmap(
            lambda start, action, embedding, seen, keys: self.base.level.follow(
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
            anchors=tuple(anchors),
            chunks=tuple(chunks),
            codes=tuple(codes),
            starts=tuple(starts),
            arrivals=tuple(arrivals),
            ground_starts=ground_starts,
            ground=jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ground),
        )

    def observe(
        self, stack: Stack, action: Float[Array, " A"], obs: Shaped[Array, "..."], *, key
    ) -> Stack:
        """The state after one agent step."""
        embedding, seen = self.encode(obs), self.base.seen(obs)
        moment_key, begin_key = jr.split(key)
        here = self.seen_code(embedding, stack.embedding)
        first = self._fresh(here, seen, begin_key)
        stack = self._turned(stack, begin_key)
        ground = self.base.level.observe(stack.ground, action, embedding, seen, key=moment_key)
        going = self._gone_on(stack, action, ground, here)
        stack = _where(stack.steps == 0, first, going)
        return dataclasses.replace(
            stack, steps=stack.steps + 1, embedding=embedding if self._two_frames else None
        )

    def step(self, stack: Stack, action: Float[Array, " A"], *, key: PRNGKeyArray) -> Stack:
        """The state after one agent step of level 0, unseen."""
        moment_key, begin_key = jr.split(key)
        stack = self._turned(stack, begin_key)
        ground = self.base.step(stack.ground, action, key=moment_key)
        stack = self._gone_on(stack, action, ground, self.arrived(ground))
        return dataclasses.replace(stack, steps=stack.steps + 1)

    def imagine(
        self,
        stack: Stack,
        actions: Float[Array, "H A"] | ActionOf,
        length: int | None = None,
        *,
        key: PRNGKeyArray,
        crossovers: tuple[int | None, ...] = (),
    ) -> Imagined:
        """H agent steps under given actions or under a policy `(stack, key) -> action`.

        Level 0 goes on by itself up to the first of `crossovers`, level 1 jumps from there on,
        level 2 from the second one on, and so forth; segments between waypoints are filled side by
        side. None is never; without crossovers, and for a policy, level 0 does it all. Raises
        ValueError for crossovers (agent steps) that are no multiples of the shortest stride.
        """
        if callable(actions):
            return chained(self.step, stack, actions, length, key=key)
        length = len(actions)
        marks = self._marks(crossovers, length)
        chain_key, *keys = jr.split(key, 1 + len(self.jumps))
        path = chained(self.step, stack, actions[: marks[0]], key=chain_key)
        latents, waypoints = [cast(Stack, path.latent).ground], []
        here = jax.tree.map(lambda leaf: leaf[-1], path.latent)
        for i, jump_key in enumerate(keys):
            if marks[i + 1] <= marks[i]:
                continue
            begin_key, jump_key = jr.split(jump_key)
            if not waypoints:
                standing = self._standing(here, begin_key)[i]
            else:  # a longer jump begins where the last of the shorter ones ended
                last = jax.tree.map(lambda leaf: leaf[-1], waypoints[-1])
                standing = self.jumps[i].begin(last.obs)
            filled, points = self._stretch(standing, i, actions[marks[i] : marks[i + 1]], jump_key)
            latents.append(filled)
            waypoints.append(points)
        latent = jax.tree.map(lambda *parts: jnp.concatenate(parts), *latents)
        return Imagined(latent, actions, tuple(waypoints))

    def waypoints(
        self, stack: Stack, actions: Float[Array, "H A"], *, level: int, key: PRNGKeyArray
    ) -> Latent:
        """An upper level's view alone (N+1, ...): where it is after each of its jumps.

        H is a multiple of the level's stride. Nothing is filled in; `obs` of the latents are the
        anchors (see `anchor_vector`).
        """
        begin_key, key = jr.split(key)
        standing = self._standing(stack, begin_key)[level - 1]
        return self._leapt(standing, level - 1, actions, key)

    def decode(self, latent: Latent | Stack) -> Prediction:
        """Observation, reward and continue at a latent; leading axes are free."""
        return self.base.decode(latent.ground if isinstance(latent, Stack) else latent)

    def reward_of(self, features: Float[Array, "*B F"]) -> TwoHot:
        """The reward part of `decode` alone: imagination never draws observations."""
        return self.base.reward_of(features)

    def continue_of(self, features: Float[Array, "*B F"]) -> Bernoulli:
        """The continue part of `decode` alone."""
        return self.base.continue_of(features)

    def redrawn(self, stack: Stack, *, key: PRNGKeyArray) -> Stack:
        """The same state with another draw of the code that the last observation left uncertain."""
        return dataclasses.replace(stack, ground=self.base.redrawn(stack.ground, key=key))

    # --- parts ----------------------------------------------------------------------------------

    @property
    def _two_frames(self) -> bool:
        return self.see.mlp.blocks[0].linear.weight.shape[0] > self.base.encoder.width

    def _marks(self, crossovers: tuple[int | None, ...], length: int) -> list[int]:
        """Where each level begins, no earlier than the one below it, and the end."""
        marks = [length if mark is None else min(mark, length) for mark in crossovers]
        marks = [*marks, *[length] * len(self.jumps)][: len(self.jumps)]
        if any(mark % self.strides[0] for mark in marks if mark < length):
            raise ValueError(
                f"crossovers are {crossovers}; they must be multiples of {self.strides[0]}"
            )
        return [*(max(marks[: i + 1]) for i in range(len(marks))), length]

    def _code(self, logits) -> OneHot:
        return self.base.level.code(logits)

    def seen_code(self, embedding, before):
        """Logits of the code of an anchor where this is seen, and that was seen just before."""
        if self._two_frames:
            embedding = jnp.concatenate([embedding, before], axis=-1)
        return self._shaped(self.see(embedding))

    def arrived(self, ground: Latent):
        """Logits of the code of an anchor where level 0 is, unseen. Level 0 learns nothing."""
        return self._shaped(self.arrive(jax.lax.stop_gradient(ground.features)))

    def _shaped(self, logits):
        return logits.reshape(*logits.shape[:-1], self.base.level.groups, -1)

    def _drawn(self, here, key) -> Float[Array, "G C"]:
        return self._code(here).sample(key).astype(self.base.level.dtype)

    def _fresh(self, here, obs, key: PRNGKeyArray) -> Stack:
        """At an episode's first observation; `steps` is still 0."""
        anchor_key = jr.split(key, 1 + len(self.jumps))[0]
        code = self._drawn(here, anchor_key)
        vector = jax.lax.stop_gradient(anchor_vector(code, obs))
        return self._put(vector, code, here, obs, [jump.begin(vector) for jump in self.jumps], None)

    def _turned(self, stack: Stack, key: PRNGKeyArray) -> Stack:
        """Ends the segments that are full, and begins new ones where they end."""
        anchor_key, *keys = jr.split(key, 1 + len(self.jumps))
        code = self._drawn(stack.here, anchor_key)
        vector = jax.lax.stop_gradient(anchor_vector(code, stack.ground.obs))
        full = [self._full(stack.steps, stride) for stride in self.strides]
        above = self._closed(stack, vector, keys)
        above = [_where(f, new, old) for f, new, old in zip(full, above, stack.above, strict=True)]
        begun = self._put(vector, code, stack.here, stack.ground.obs, above, full)
        chunks = tuple(
            jnp.where(f, new, old)
            for f, new, old in zip(full, begun.chunks, stack.chunks, strict=True)
        )
        turned = dataclasses.replace(stack, ground=begun.ground, above=begun.above, chunks=chunks)
        return _where(full[0], turned, stack)

    @staticmethod
    def _full(steps: Int[Array, ""], stride: int):
        """Whether a jump of this stride ends at a moment."""
        return (steps > 1) & ((steps - 1) % stride == 0)

    def _closed(self, stack: Stack, vector, keys) -> list[Latent]:
        """What each level makes of its jump if that ends here."""
        return [
            jump.observe(latent, jump.chunk.code(chunk), vector, key=key)
            for jump, latent, chunk, key in zip(
                self.jumps, stack.above, stack.chunks, keys, strict=True
            )
        ]

    def _put(self, vector, code, here, obs, above: list[Latent], full) -> Stack:
        """All levels standing on an anchor. A level below a full jump begins with its memory."""
        for i in reversed(range(len(self.jumps) - 1)):
            begun = self.jumps[i].begin(vector, self.jumps[i + 1].below(above[i + 1]))
            above[i] = begun if full is None else _where(full[i + 1], begun, above[i])
        deter = self.jumps[0].below(above[0]).astype(code.dtype)
        return Stack(
            ground=Latent(deter, code, here, obs),
            here=here,
            above=tuple(above),
            chunks=tuple(jump.chunk.begin() for jump in self.jumps),
            steps=jnp.int32(0),
            embedding=None if not self._two_frames else jnp.zeros(
                self.base.encoder.width, code.dtype
            ),
        )  # fmt: skip

    def _gone_on(self, stack: Stack, action, ground: Latent, here) -> Stack:
        """The levels above take note of an action."""
        chunks = tuple(
            jump.chunk.step(chunk, action, cast(Array, latent.obs), (stack.steps - 1) % jump.stride)
            for jump, chunk, latent in zip(self.jumps, stack.chunks, stack.above, strict=True)
        )
        return dataclasses.replace(stack, ground=ground, here=here, chunks=chunks)

    def _standing(self, stack: Stack, key: PRNGKeyArray) -> list[Latent]:
        """Each level on an anchor drawn here. One whose jump is full remembers; others are new."""
        anchor_key, *keys = jr.split(key, 1 + len(self.jumps))
        vector = anchor_vector(self._drawn(stack.here, anchor_key), stack.ground.obs)
        closed = self._closed(stack, vector, keys)
        return [
            _where(self._full(stack.steps, jump.stride), after, jump.begin(vector))
            for jump, after in zip(self.jumps, closed, strict=True)
        ]

    def _leapt(self, standing: Latent, i: int, actions, key) -> Latent:
        """Waypoints (N+1, ...) of a level from where it stands."""
        jump = self.jumps[i]
        actions = actions.reshape(-1, jump.stride, actions.shape[-1])
        waits = jump.chunk.form == "anchored"
        known = actions
        if not waits:
            anchor = jnp.zeros_like(cast(Array, standing.obs))
            known = jax.vmap(jump.chunk.of, in_axes=(0, None))(actions, anchor)

        def step(latent, inputs):
            known, step_key = inputs
            if waits:
                known = jump.chunk.of(known, latent.obs)
            latent = jump.step(latent, known, key=step_key)
            return latent, latent

        _, reached = jax.lax.scan(step, standing, (known, jr.split(key, len(actions))))
        return jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]), standing, reached
        )

    def _stretch(self, standing: Latent, i: int, actions, key) -> tuple[Latent, Latent]:
        """Jumps of a level and everything below them: latents of level 0 (H, ...), waypoints."""
        jump, steps = self.jumps[i], len(actions)
        missing = -steps % jump.stride  # a last jump that is not needed to its end
        actions = jnp.pad(actions, [(0, missing), (0, 0)])
        leap_key, fill_key = jr.split(key)
        points = self._leapt(standing, i, actions, leap_key)
        starts = jax.tree.map(lambda leaf: leaf[:-1], points)
        filled = self.fill(starts, i, actions, fill_key)
        return jax.tree.map(lambda leaf: leaf[:steps], filled), points

    def fill(self, starts: Latent, i: int, actions: Float[Array, "H A"], key) -> Latent:
        """Latents of level 0 (H, ...) of segments that begin where level i + 1 stands, (N, ...)."""
        while i > 0:
            memory, above, i = self.jumps[i].below(starts), self.jumps[i].stride, i - 1
            first = jax.vmap(self.jumps[i].begin)(cast(Array, starts.obs), memory)
            key, leap_key = jr.split(key)
            parts = actions.reshape(-1, above, actions.shape[-1])
            leap = lambda standing, actions, key, i=i: self._leapt(standing, i, actions, key)
            points = jax.vmap(leap)(first, parts, jr.split(leap_key, len(parts)))
            starts = jax.tree.map(lambda leaf: leaf[:, :-1].reshape(-1, *leaf.shape[2:]), points)
        ground = self.ground_at(starts)
        parts = actions.reshape(-1, self.strides[0], actions.shape[-1])
        path = jax.vmap(lambda latent, actions, key: self.base.imagine(latent, actions, key=key))(
            ground, parts, jr.split(key, len(parts))
        )
        return jax.tree.map(lambda leaf: leaf[:, 1:].reshape(-1, *leaf.shape[2:]), path.latent)

    def ground_at(self, standing: Latent) -> Latent:
        """Level 0 where level 1 stands; leading axes are free."""
        level = self.base.level
        vector = cast(Array, standing.obs)
        size = level.groups * level.classes
        code = vector[..., :size].reshape(*vector.shape[:-1], level.groups, level.classes)
        deter = self.jumps[0].below(standing).astype(level.dtype)
        obs = vector[..., size:] if self.base.carried else None
        return Latent(deter, code.astype(level.dtype), code, obs)


AnyWorld = World | Hierarchy


def levels_of(world: Any) -> Any:
    """All that belongs to the levels above the lowest."""
    return world.jumps, world.see, world.arrive


def make_world(
    obs: jax.ShapeDtypeStruct, action: int, config: Config, *, key: PRNGKeyArray
) -> AnyWorld:
    """The simulator of a config, for observations of this shape and `action` action dimensions."""
    if config.levels == 1:
        return World(obs, action, config.world, key=key)
    return Hierarchy(obs, action, config, key=key)


def _halves(keys):
    """Of each key the two that `jr.split` makes of it."""
    pairs = jax.vmap(jr.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _where(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
