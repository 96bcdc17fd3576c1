"""Imagined paths that go on from one gradient step to the next, as episodes do.

Short rollouts from replayed states alone show a policy where others have been; going on where they
ended shows it where it gets by itself.
"""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dreamer_h.types import either

T = TypeVar("T")


class Paths(eqx.Module):
    """Where P imagined paths stand."""

    state: Any  # (P, ...) of whatever the simulator goes on from
    over: Bool[Array, " P"]  # cannot go on
    length: Float[Array, ""]  # agent steps, in the mean, until one begins anew

    @classmethod
    def init(cls, like: Any, count: int, length: int) -> "Paths":
        """None has begun; `like` is a state of one."""
        nowhere = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), like)
        return cls(nowhere, jnp.ones(count, bool), jnp.float32(length))

    def begun(
        self, seen: T, real: Bool[Array, " N"], steps: int, *, key: PRNGKeyArray
    ) -> "Beginnings[T]":
        """Where they go on from, for `steps` agent steps.

        Those that are over, and as many of the others as their length asks for, begin anew at one
        of `seen` (N, ...) that is real, where there is any.
        """
        choose_key, anew_key = jr.split(key)
        count = len(self.over)
        chosen = jr.choice(choose_key, len(real), (count,), p=real / jnp.maximum(real.sum(), 1))
        anew = self.over | (jr.uniform(anew_key, (count,)) < steps / self.length)
        start = either(anew, jax.tree.map(lambda leaf: leaf[chosen], seen), self.state)
        return Beginnings(start, real[chosen] | ~anew, chosen, anew)

    def after(
        self,
        last: Any,
        discount: Float[Array, "H P"],
        real: Bool[Array, " P"],
        horizon: float,
        *,
        key: PRNGKeyArray,
    ) -> "Paths":
        """Where they stand now; ended as often as the simulator says, which counts the discount in.
        A state that is not finite is no place to go on from."""
        survived = jnp.prod(discount / (1.0 - 1.0 / horizon), axis=0)
        finite = [
            jnp.isfinite(leaf).reshape(len(real), -1).all(-1) for leaf in jax.tree.leaves(last)
        ]
        whole = jnp.stack(finite).all(0)
        over = ~real | ~whole | (jr.uniform(key, real.shape) >= survived)
        return jax.lax.stop_gradient(Paths(either(whole, last, self.state), over, self.length))


class Beginnings(eqx.Module, Generic[T]):
    """What P imagined paths begin at in one gradient step."""

    state: T  # (P, ...)
    real: Bool[Array, " P"]  # nothing is learned from the others
    chosen: Int[Array, " P"]  # of what was seen
    anew: Bool[Array, " P"]  # and whether they begin there

    @classmethod
    def all_of(cls, seen: T, real: Bool[Array, " N"]) -> "Beginnings[T]":
        """One path from each that was seen."""
        return cls(seen, real, jnp.arange(len(real)), jnp.ones_like(real))
