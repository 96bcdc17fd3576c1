"""The parts of a simulator with levels, and the anchors by which one hands over to another."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.nn.coordinates import Angles
from dreamer_h.nn.distributions import OneHot
from dreamer_h.types import Latent, Observed
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.jump import Jump
from dreamer_h.world.world import World


class Levels(eqx.Module):
    """The lowest level, which steps, and those above, which jump."""

    base: World  # level 0
    jumps: tuple[Jump, ...]  # levels 1, 2, …
    see: Head  # embedding(s) -> logits of an anchor's code
    arrive: Head  # features of level 0 -> the same, where nothing is seen

    def __init__(self, obs: Observed, action: int, config: Config, *, key: PRNGKeyArray):
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
                angles=self.angles,
                action=action,
                stride=stride,
                below=memories[i],
                bins=world.bins,
                unimix=world.unimix,
                members=world.ensemble,
                config=config.jump,
                key=keys[i],
            )
            for i, stride in enumerate(config.jumps)
        )

    @property
    def angles(self) -> Angles:
        """Entries of the observation that turn without end."""
        return self.base.angles

    @property
    def strides(self) -> tuple[int, ...]:
        """Agent steps of a jump of each level above the lowest."""
        return tuple(jump.stride for jump in self.jumps)

    @property
    def two_frames(self) -> bool:
        """Whether an anchor's code is told from two images: one has no velocity."""
        return self.see.mlp.blocks[0].linear.weight.shape[0] > self.base.encoder.width

    def code(self, logits: Float[Array, "*B G C"]) -> OneHot:
        """The distribution of an anchor's code, which is one of level 0's."""
        return self.base.level.code(logits)

    def drawn(self, logits: Float[Array, "G C"], key: PRNGKeyArray) -> Float[Array, "G C"]:
        """One anchor's code."""
        return self.code(logits).sample(key).astype(self.base.level.dtype)

    def seen_code(
        self, embedding: Float[Array, "*B E"], before: Float[Array, "*B E"] | None
    ) -> Float[Array, "*B G C"]:
        """Logits of the code of an anchor where this is seen, and that was seen just before.

        The encoder is level 0's, and learns nothing from it.
        """
        if self.two_frames:
            embedding = jnp.concatenate([embedding, cast(Array, before)], axis=-1)
        return self._shaped(self.see(jax.lax.stop_gradient(embedding)))

    def arrived(self, ground: Latent) -> Float[Array, "*B G C"]:
        """Logits of the code of an anchor where level 0 is, unseen. Level 0 learns nothing."""
        return self._shaped(self.arrive(jax.lax.stop_gradient(ground.features)))

    def ground_at(self, standing: Latent) -> Latent:
        """Level 0 where level 1 stands; leading axes are free."""
        level = self.base.level
        vector = cast(Array, standing.obs)
        size = level.groups * level.classes
        code = vector[..., :size].reshape(*vector.shape[:-1], level.groups, level.classes)
        deter = self.jumps[0].below(standing).astype(level.dtype)
        obs = vector[..., size:] if self.base.carried else None
        return Latent(deter, code.astype(level.dtype), code, obs)

    def _shaped(self, logits):
        return logits.reshape(*logits.shape[:-1], self.base.level.groups, -1)
