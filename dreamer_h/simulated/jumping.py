"""Episodes of jumps: a step is a macro-action of an upper level, and nothing is filled in."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.behaviour.manager import choice_of, decided
from dreamer_h.simulated.episode import Simulated
from dreamer_h.types import Latent, Stack
from dreamer_h.world.upper.fill import ground_of
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.world import Prediction


class Jumping(Simulated):
    """As `Simulated`, whose latent is what level `level` stands on.

    An action (M,) names one of 5 values for each of M = 8 dimensions of the macro code. The reward
    is that of the whole jump, discounted inside it as level 1 learns it.
    """

    level: int = eqx.field(static=True)  # counted from 1

    @property
    def stride(self) -> int:
        """Agent steps of a jump."""
        return self.world.strides[self.level - 1]

    def begun(self, latent: Latent | Stack, key: PRNGKeyArray) -> Latent:
        """On an anchor that is drawn where the start is."""
        return self.world.standing(cast(Stack, latent), key)[self.level - 1]

    def led(
        self, latent: Latent | Stack, action: Int[Array, " M"], key: PRNGKeyArray
    ) -> tuple[Latent, Prediction, Float[Array, ""]]:
        """Where a macro-action leads: what level 0 would see there, what the jump paid, and the
        level's doubt in it."""
        world: Hierarchy = self.world
        jump, standing = world.jumps[self.level - 1], cast(Latent, latent)
        known = decided(jump, standing, choice_of(action))
        doubt = jump.information_of(standing, known)
        following, outlook = jump.foresee(standing, known, key=key)
        points = jax.tree.map(lambda leaf: leaf[None], following)
        ground = ground_of(world, points, self.level - 1)
        seen = world.base.decode(jax.tree.map(lambda leaf: leaf[0], ground))
        return following, Prediction(seen.obs, outlook.reward, outlook.continue_), doubt

    def watched(
        self, latent: Latent | Stack, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """0: nobody else has seen the jump, whose doubt is that of the step."""
        return jnp.float32(0.0), jnp.float32(0.0)
