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
    trusted: Float[Array, " L"] | None = None  # nats along a level's path that are relied upon

    @property
    def cares(self) -> bool:
        """Whether doubt changes anything at all."""
        return bool(self.pessimism) or self.exploring is not None or self.trusted is not None

    def worth(self, reward: Float[Array, "*B"], doubt: Float[Array, "*B"]) -> Float[Array, "*B"]:
        """What a step is worth to a policy, beside what the task pays."""
        shunned = reward - self.pessimism * doubt if self.pessimism else reward
        return shunned if self.exploring is None else jnp.where(self.exploring, doubt, shunned)

    def relied(self, doubt: Float[Array, "*B"], level: int = 0) -> Bool[Array, "*B"]:
        """Whether what a level's path has come to is relied upon; `doubt` is that since it began.
        What is not relied upon once is not later."""
        return jnp.ones(doubt.shape, bool) if self.trusted is None else doubt <= self.trusted[level]

    def ended(
        self,
        doubt: Float[Array, "H *B"],
        lambda_: float,
        weight: Float[Array, "H *B"],
        level: int = 0,
    ) -> tuple[float | Float[Array, "H *B"], Float[Array, "H *B"]]:
        """The mixing of a lambda-return, and the weight of each step, where paths end at the last
        outcome that is relied upon: what comes before bootstraps there, and nothing is learned
        from the rest. `doubt` is that since a path began, time first."""
        if self.trusted is None:
            return lambda_, weight
        relied = self.relied(doubt, level)
        beyond = jnp.concatenate([relied[1:], jnp.ones_like(relied[:1])])
        return lambda_ * beyond, weight * relied

    def handed_over(self, doubt: Float[Array, "*B"], *, of: int, to: int) -> Float[Array, "*B"]:
        """The doubt that level `to` begins with where level `of` has come to with so much of its
        own: each has the same share left of what is relied upon."""
        if self.trusted is None:
            return jnp.zeros_like(doubt)
        share = doubt / jnp.maximum(self.trusted[of], jnp.finfo(jnp.float32).tiny)
        return share * self.trusted[to]

    def of_task(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
        """A loss on what the task paid, which teaches nothing while exploring."""
        return loss if self.exploring is None else jnp.where(self.exploring, 0.0, loss)


INDIFFERENT = Attitude()
