"""A simulator with levels: upper ones jump, the lowest fills the jumps, all segments side by side.

The same six verbs as `World`, and one more: `waypoints`, the view of an upper level alone.
"""

import dataclasses
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dreamer_h.config import Config
from dreamer_h.nn.distributions import Bernoulli, TwoHot
from dreamer_h.types import Imagined, Latent, Observed, Sequence, Stack, Waypoints, either
from dreamer_h.world.upper.fill import ground_of, leap, stretch
from dreamer_h.world.upper.follow import follow
from dreamer_h.world.upper.jump import anchor_vector
from dreamer_h.world.upper.levels import Levels
from dreamer_h.world.upper.turn import fresh, gone_on, standing, turned
from dreamer_h.world.world import ActionOf, Prediction, World, chained


class Hierarchy(Levels):
    """The verbs, each for one sequence or one step; `vmap` them for more."""

    def __init__(self, obs: Observed, action: int, config: Config, *, key: PRNGKeyArray):
        super().__init__(obs, action, config, key=key)

    @property
    def features(self) -> int:
        """F of a latent."""
        return self.base.features

    def initial(self) -> Stack:
        """The state before anything was seen: zeros."""
        ground = self.base.initial()
        vector = anchor_vector(ground.code, ground.obs)
        pixels = self.base.encoder.width if self.two_frames else 0
        return Stack(
            ground=ground,
            here=jnp.zeros_like(ground.logits),
            above=tuple(jump.begin(vector) for jump in self.jumps),
            chunks=tuple(jump.chunk.begin(vector) for jump in self.jumps),
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
        pairs = jax.vmap(jr.split)(jr.split(key, times))
        embedding, seen = self.encode(sequence.obs), self.base.seen(sequence.obs)
        before = jnp.pad(sequence.action, [(1, 0), (0, 0)])
        ground = self.base.level.follow(
            self.base.initial(), jnp.where(sequence.is_first[:, None], 0.0, before), embedding,
            seen, sequence.is_first, keys=pairs[:, 0],
        )  # fmt: skip
        keys = jnp.concatenate([pairs[:, 1], jnp.repeat(pairs[-1:, 1], missing)])
        shown = jnp.pad(embedding, [(0, missing), (0, 0)])
        found = follow(self, padded, shown, keys)
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
            join(
                jump.chunk.begin(cast(Array, starts.obs)[0])[None],
                states.reshape(-1, states.shape[-1]),
            )
            for jump, starts, states in zip(self.jumps, found.starts, found.chunks, strict=True)
        )
        return Stack(
            ground=ground,
            here=found.logits[:times],
            above=above,
            chunks=chunks,
            steps=jnp.arange(1, times + 1, dtype=jnp.int32),
            embedding=embedding if self.two_frames else None,
        )

    def observe(
        self, stack: Stack, action: Float[Array, " A"], obs: Shaped[Array, "..."], *, key
    ) -> Stack:
        """The state after one agent step."""
        embedding, seen = self.encode(obs), self.base.seen(obs)
        moment_key, begin_key = jr.split(key)
        here = self.seen_code(embedding, stack.embedding)
        first = fresh(self, stack, here, seen, begin_key)
        going = gone_on(self, turned(self, stack, begin_key), action)
        stack = either(stack.steps == 0, first, going)
        return dataclasses.replace(
            stack,
            ground=self.base.level.observe(stack.ground, action, embedding, seen, key=moment_key),
            here=here,
            steps=stack.steps + 1,
            embedding=embedding if self.two_frames else None,
        )

    def step(self, stack: Stack, action: Float[Array, " A"], *, key: PRNGKeyArray) -> Stack:
        """The state after one agent step of level 0, unseen."""
        moment_key, begin_key = jr.split(key)
        stack = gone_on(self, turned(self, stack, begin_key), action)
        ground = self.base.step(stack.ground, action, key=moment_key)
        here, steps = self.arrived(ground), stack.steps + 1
        return dataclasses.replace(stack, ground=ground, here=here, steps=steps)

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
                standing = self.standing(here, begin_key)[i]
            else:  # a longer jump begins where the last of the shorter ones ended
                standing = self.jumps[i].begin(waypoints[-1].latent.obs[-1])
            filled, points = stretch(
                self, standing, i, actions[marks[i] : marks[i + 1]], key=jump_key
            )
            latents.append(filled)
            waypoints.append(Waypoints(points, i + 1, marks[i], self.strides[i]))
        latent = jax.tree.map(lambda *parts: jnp.concatenate(parts), *latents)
        return Imagined(latent, actions, tuple(waypoints))

    def waypoints(
        self, stack: Stack, actions: Float[Array, "H A"], *, level: int, key: PRNGKeyArray
    ) -> Waypoints:
        """An upper level's view alone, where it is after each of its jumps: nothing is filled in.

        H is a multiple of the level's stride.
        """
        begin_key, key = jr.split(key)
        standing = self.standing(stack, begin_key)[level - 1]
        points = leap(self, standing, level - 1, actions, key=key)
        return Waypoints(points, level, 0, self.strides[level - 1])

    def decode_waypoints(self, points: Waypoints) -> Prediction:
        """Observation, reward and continue where the jumps of a level led, as level 0 sees it."""
        return self.base.decode(ground_of(self, points.latent, points.level - 1))

    def decode(self, latent: Latent | Stack) -> Prediction:
        """Observation, reward and continue at a latent; leading axes are free."""
        return self.base.decode(latent.ground if isinstance(latent, Stack) else latent)

    def reward_of(self, features: Float[Array, "*B F"]) -> TwoHot:
        """The reward part of `decode` alone: imagination never draws observations."""
        return self.base.reward_of(features)

    def continue_of(self, features: Float[Array, "*B F"]) -> Bernoulli:
        """The continue part of `decode` alone."""
        return self.base.continue_of(features)

    def information_of(
        self, features: Float[Array, "*B F"], action: Float[Array, "*B A"]
    ) -> Float[Array, "*B"]:
        """The same as of a `World`: level 0 doubts."""
        return self.base.information_of(features, action)

    def redrawn(self, stack: Stack, *, key: PRNGKeyArray) -> Stack:
        """The same state with another draw of the code that the last observation left uncertain."""
        return dataclasses.replace(stack, ground=self.base.redrawn(stack.ground, key=key))

    def standing(self, stack: Stack, key: PRNGKeyArray) -> list[Latent]:
        """Each level on an anchor drawn here. One whose jump is full remembers; where the one above
        is full too, and at an episode's start, its memory is from there. Others are new."""
        return standing(self, stack, key)

    # --- parts ----------------------------------------------------------------------------------

    def _marks(self, crossovers: tuple[int | None, ...], length: int) -> list[int]:
        """Where each level begins, no earlier than the one below it, and the end."""
        marks = [length if mark is None else min(mark, length) for mark in crossovers]
        marks = [*marks, *[length] * len(self.jumps)][: len(self.jumps)]
        if any(mark % self.strides[0] for mark in marks if mark < length):
            raise ValueError(
                f"crossovers are {crossovers}; they must be multiples of {self.strides[0]}"
            )
        return [*(max(marks[: i + 1]) for i in range(len(marks))), length]


AnyWorld = World | Hierarchy


def levels_of(world: Any) -> Any:
    """All that belongs to the levels above the lowest."""
    return world.jumps, world.see, world.arrive


def make_world(obs: Observed, action: int, config: Config, *, key: PRNGKeyArray) -> AnyWorld:
    """The simulator of a config, for observations of this shape and `action` action dimensions."""
    if config.levels == 1:
        return World(obs, action, config.world, key=key)
    return Hierarchy(obs, action, config, key=key)


def on_top(fresh: Hierarchy, below: AnyWorld) -> Hierarchy:
    """A new simulator whose lower levels are those of another, which has one level less."""
    lower = lambda world, count: (world.base, world.jumps[:count], world.see, world.arrive)
    if isinstance(below, World):
        return eqx.tree_at(lambda world: world.base, fresh, below)
    count = len(below.jumps)
    return eqx.tree_at(lambda world: lower(world, count), fresh, lower(below, count))


def topmost_of(world: Any) -> Any:
    """All that belongs to the topmost level alone."""
    return levels_of(world) if len(world.jumps) == 1 else world.jumps[-1]
