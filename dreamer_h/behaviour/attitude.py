"""How policies take what their simulator does not know: shun it, seek it, or stop before it.

Doubt is in nats: what seeing the outcome of a step would tell about the simulator, see
`world.ensemble.Ensemble`.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Attitude(eqx.Module):
    """Of one gradient step; the default ignores all doubt."""

    pessimism: float = eqx.field(static=True, default=0.0)  # reward that a nat of doubt costs
    exploring: Bool[Array, ""] | None = None  # doubt is all that is wanted
    trusted: Float[Array, ""] | None = None  # doubt along a path up to which it is relied upon

    @property
    def cares(self) -> bool:
        """Whether doubt changes anything at all."""
        return bool(self.pessimism) or self.exploring is not None or self.trusted is not None

    def worth(self, reward: Float[Array, "*B"], doubt: Float[Array, "*B"]) -> Float[Array, "*B"]:
        """What a step is worth to a policy, beside what the task pays."""
        shunned = reward - self.pessimism * doubt if self.pessimism else reward
        return shunned if self.exploring is None else jnp.where(self.exploring, doubt, shunned)

    def relied(self, doubt: Float[Array, "H *B"]) -> Bool[Array, "H *B"]:
        """Whether the outcome of each step of a path is relied upon; `doubt` is that since the path
        began. Time comes first, and what is not relied upon once is not later."""
        return jnp.ones(doubt.shape, bool) if self.trusted is None else doubt <= self.trusted

    def of_task(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
        """A loss on what the task paid, which teaches nothing while exploring."""
        return loss if self.exploring is None else jnp.where(self.exploring, 0.0, loss)


INDIFFERENT = Attitude()
