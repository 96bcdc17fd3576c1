"""What a level does not know of its next step: where several guesses, taught alike, differ."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dreamer_h.nn.coordinates import Angles, coordinates
from dreamer_h.nn.distributions import OneHot, Symlog
from dreamer_h.nn.layers import MLP
from dreamer_h.world.decoder import floored
from dreamer_h.world.heads import Head


class Ensemble(eqx.Module):
    """M heads on a shared trunk; each guesses what a level will see next.

    They agree where much was seen, and elsewhere differ by how they began. A level learns nothing
    from them: what they are taught with carries no gradient. A guess is that of an observation in
    `nn.coordinates`, as what is added to the one before, where levels carry it; else that of a
    code.
    """

    trunk: MLP
    heads: Head  # leaves (M, ...)
    log_scale: Float[Array, " X"] | None  # of what no guess can know
    classes: int = eqx.field(static=True)  # of each categorical of a code
    change: float = eqx.field(static=True)  # unit of what is added
    angles: Angles = eqx.field(static=True)  # entries of the observation

    def __init__(
        self,
        features: int,
        given: int,
        *,
        carried: int,
        groups: int,
        classes: int,
        change: float,
        members: int,
        units: int,
        angles: Angles = (),
        key: PRNGKeyArray,
    ):
        trunk_key, *keys = jr.split(key, 1 + members)
        outputs = carried or groups * classes
        make = lambda key: Head(units, outputs, units, 1, key=key)
        self.trunk = MLP(features + given, units, 1, key=trunk_key)
        self.heads = eqx.filter_vmap(make)(jnp.stack(keys))
        self.log_scale = jnp.zeros(carried, jnp.float32) if carried else None
        self.classes, self.change, self.angles = classes, change, angles

    def loss(
        self,
        features: Float[Array, "*B F"],
        given: Float[Array, "*B G"],
        before: Float[Array, "*B X"] | None,
        code: OneHot,
        after: Shaped[Array, "..."],
    ) -> Float[Array, "*B"]:
        """Nats of the guesses, their mean, of what followed a level's `features` and what it was
        `given`, an action or the code of a chunk: the code, or the observation `after`
        (physical units) the one `before` (`nn.coordinates`)."""
        guesses = self._guesses(*jax.lax.stop_gradient((features, given)))
        if self.log_scale is None or before is None:
            return jax.vmap(lambda guess: code.kl(self._code(guess)))(guesses).mean(0)
        scale = floored(self.log_scale)
        of = lambda guess: Symlog(before + self.change * guess, scale, self.angles).loss(after)
        return jax.vmap(of)(guesses).mean(0)

    def surprise(
        self,
        features: Float[Array, "*B F"],
        given: Float[Array, "*B G"],
        before: Float[Array, "*B X"] | None,
        code: OneHot,
        after: Shaped[Array, "..."],
    ) -> Float[Array, "*B"]:
        """Nats of what followed, as `loss`, under all guesses together: their mixture, for an
        observation as one normal of the same mean and variance."""
        guesses = self._guesses(features, given)
        if self.log_scale is None or before is None:
            return code.kl(self._mixture(guesses))
        variance = jnp.square(self.change) * guesses.var(0) + jnp.exp(2 * floored(self.log_scale))
        away = before + self.change * guesses.mean(0) - coordinates(after, self.angles)
        return 0.5 * (jnp.square(away) / variance + jnp.log(variance)).sum(-1)

    def information(
        self, features: Float[Array, "*B F"], given: Float[Array, "*B G"]
    ) -> Float[Array, "*B"]:
        """Nats that seeing what follows would tell of which guess is right.

        Of an observation as of normal guesses, each entry by itself: half the logarithm of how
        much their variance adds to what none can know. Of a code, the mean distance (KL) of the
        guesses from their mixture. Never negative.
        """
        guesses = self._guesses(features, given)
        if self.log_scale is not None:
            apart = jnp.square(self.change * jnp.exp(-floored(self.log_scale))) * guesses.var(0)
            return 0.5 * jnp.log1p(apart).sum(-1)
        mixture, log_probs = self._mixture(guesses), self._code(guesses).log_probs
        return jax.vmap(lambda one: OneHot(one).kl(mixture))(log_probs).mean(0)

    def _guesses(
        self, features: Float[Array, "*B F"], given: Float[Array, "*B G"]
    ) -> Float[Array, "M *B _"]:
        inputs = jnp.concatenate([features, given.astype(features.dtype)], axis=-1)
        hidden = self.trunk(inputs)
        return jax.vmap(lambda head: head(hidden))(self.heads)

    def _mixture(self, guesses: Float[Array, "M *B _"]) -> OneHot:
        return OneHot(jnp.log(jnp.exp(self._code(guesses).log_probs).mean(0)))

    def _code(self, guess: Float[Array, "*B _"]) -> OneHot:
        logits = guess.reshape(*guess.shape[:-1], -1, self.classes)
        return OneHot.from_logits(logits, UNIMIX)


UNIMIX = 0.01  # of the uniform distribution in a guessed code
