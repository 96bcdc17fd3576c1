"""Distributions as small modules: `mean`, `mode`, `sample`, and `loss` (a negative log-likelihood).

Those of observations have `ensemble_loss`, too: of several predictions of one target, side by side.

Everything is computed in float32: log-probabilities of many classes lose their tail in bfloat16.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from dreamer_h.nn.coordinates import Angles, coordinates, observation


def almost_fair_crps(
    samples: Float[Array, "M ..."], target: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E|x - y| - (1 - e) / 2 E|x - x'| of M >= 2 samples, with e = 0.05 / M, entry by entry.

    The fair CRPS (e = 0) is least for samples of the target's own distribution, whatever their
    number, but does not hold the last sample where the others hit (Lang et al. 2024, AIFS-CRPS).
    """
    count = len(samples)
    apart = jnp.abs(samples[:, None] - samples[None]).sum((0, 1)) / (count * (count - 1))
    return jnp.abs(samples - target).mean(0) - 0.5 * (1.0 - 0.05 / count) * apart


class OneHot(eqx.Module):
    """G independent categoricals of C classes, mixed with `unimix` of the uniform distribution."""

    log_probs: Float[Array, "*B G C"]

    @classmethod
    def from_logits(cls, logits: Float[Array, "*B G C"], unimix: float) -> "OneHot":
        logits = logits.astype(jnp.float32)
        if unimix == 0.0:  # the logarithm of a probability that is 0 would be no number
            return cls(jax.nn.log_softmax(logits, axis=-1))
        probs = jax.nn.softmax(logits, axis=-1)
        return cls(jnp.log((1.0 - unimix) * probs + unimix / logits.shape[-1]))

    @property
    def mode(self) -> Float[Array, "*B G C"]:
        return jax.nn.one_hot(jnp.argmax(self.log_probs, axis=-1), self.log_probs.shape[-1])

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*B G C"]:
        """One-hot draw with the straight-through gradient of the probabilities (Bengio 2013)."""
        # Inverse CDF: one uniform a group instead of one Gumbel a class; the draw is a quarter of
        # an update otherwise. The cumulative sum is a product with a triangle.
        probs = jnp.exp(self.log_probs)
        classes = probs.shape[-1]
        cumulative = probs @ jnp.triu(jnp.ones((classes, classes), jnp.float32))
        uniform = jr.uniform(key, probs.shape[:-1]) * cumulative[..., -1]
        index = jnp.sum(uniform[..., None] >= cumulative, axis=-1)
        draw = jax.nn.one_hot(jnp.minimum(index, classes - 1), classes)
        return jax.lax.stop_gradient(draw - probs) + probs

    def entropy(self) -> Float[Array, "*B"]:
        """Nats, summed over the groups."""
        return -jnp.sum(jnp.exp(self.log_probs) * self.log_probs, axis=(-2, -1))

    def kl(self, other: "OneHot") -> Float[Array, "*B"]:
        """KL(self || other) in nats, summed over the groups."""
        difference = self.log_probs - other.log_probs
        return jnp.sum(jnp.exp(self.log_probs) * difference, axis=(-2, -1))


class TwoHot(eqx.Module):
    """A categorical over exponentially spaced values; its mean is the prediction.

    A target lies between two bins and is encoded by two weights that average to it exactly
    (Hafner et al. 2025, section "Critic learning"). Targets beyond the outer bins are clipped.
    """

    logits: Float[Array, "*B bins"]

    @property
    def bins(self) -> Float[np.ndarray, " bins"]:
        """symexp of a regular grid on [-20, 20]; exactly antisymmetric. Their number is odd."""
        half = np.linspace(-20.0, 0.0, self.logits.shape[-1] // 2 + 1)
        low = -np.expm1(-half).astype(np.float32)
        return np.concatenate([low[:-1], -low[::-1]])

    @property
    def mean(self) -> Float[Array, "*B"]:
        probs = jax.nn.softmax(self.logits.astype(jnp.float32), axis=-1)
        # Pair each bin with its mirror first: the outer bins are about 5e8, and only so does a
        # uniform distribution give exactly zero.
        middle = self.logits.shape[-1] // 2
        mirrored = probs[..., middle:] - probs[..., middle::-1]
        return mirrored @ jnp.asarray(self.bins[middle:])

    mode = mean

    def encode(self, target: Float[Array, "*B"]) -> Float[Array, "*B bins"]:
        """The two-hot weights of a target; no gradient flows through them."""
        bins = self.bins
        target = jax.lax.stop_gradient(jnp.clip(target, bins[0], bins[-1]))[..., None]
        # the weight of a bin: a triangle that is 1 on the bin and 0 on its neighbours
        left = np.concatenate([[bins[0] - 1e9], bins[:-1]]).astype(np.float32)
        right = np.concatenate([bins[1:], [bins[-1] + 1e9]]).astype(np.float32)
        rising = (target - left) / (bins - left)
        falling = (right - target) / (right - bins)
        return jnp.clip(jnp.minimum(rising, falling), 0.0, 1.0)

    def cross_entropy(self, weights: Float[Array, "*B bins"]) -> Float[Array, "*B"]:
        """Cross-entropy in nats to the weights of one or several targets, added up."""
        log_probs = jax.nn.log_softmax(self.logits.astype(jnp.float32), axis=-1)
        return -jnp.sum(weights * log_probs, axis=-1)

    def loss(self, target: Float[Array, "*B"]) -> Float[Array, "*B"]:
        """Cross-entropy to the two-hot target, in nats."""
        return self.cross_entropy(self.encode(target))


class Symlog(eqx.Module):
    """An observation predicted by its mean in `nn.coordinates`; `mean` is in physical units.

    `log_scale` is the logarithm of each entry's deviation there; None is the plain squared error.
    """

    output: Float[Array, "*B X"]
    log_scale: Float[Array, " X"] | None = None
    angles: Angles = eqx.field(static=True, default=())

    @property
    def mean(self) -> Float[Array, "*B O"]:
        return observation(self.output, self.angles)

    mode = mean

    def loss(self, target: Float[Array, "*B O"]) -> Float[Array, "*B"]:
        """Squared error of the coordinates, or Gaussian nats (without their constant), summed."""
        error = self.output - coordinates(target, self.angles)
        if self.log_scale is None:
            return jnp.sum(jnp.square(error), axis=-1)
        scaled = jnp.square(error * jnp.exp(-self.log_scale))
        return jnp.sum(0.5 * scaled + self.log_scale, axis=-1)

    def ensemble_loss(self, target: Float[Array, "*B O"]) -> Float[Array, "*B"]:
        """CRPS of M predictions (M, *B, X) of the coordinates, summed; in learned deviations."""
        crps = almost_fair_crps(self.output, coordinates(target, self.angles))
        if self.log_scale is None:
            return jnp.sum(crps, axis=-1)
        return jnp.sum(crps * jnp.exp(-self.log_scale) + self.log_scale, axis=-1)


class Pixels(eqx.Module):
    """An image predicted by its mean in [0, 1]; `mean` is in [0, 255]."""

    output: Float[Array, "*B height width channels"]  # before the sigmoid

    @property
    def mean(self) -> Float[Array, "*B height width channels"]:
        return 255.0 * jax.nn.sigmoid(self.output)

    mode = mean

    def loss(self, target: UInt8[Array, "*B height width channels"]) -> Float[Array, "*B"]:
        """Squared error of values in [0, 1], summed over the image."""
        error = jax.nn.sigmoid(self.output) - target.astype(jnp.float32) / 255.0
        return jnp.sum(jnp.square(error), axis=(-3, -2, -1))

    def ensemble_loss(self, target: UInt8[Array, "*B height width channels"]) -> Float[Array, "*B"]:
        """CRPS of the M predictions (M, *B, ...), in values in [0, 1], summed over the image."""
        crps = almost_fair_crps(jax.nn.sigmoid(self.output), target.astype(jnp.float32) / 255.0)
        return jnp.sum(crps, axis=(-3, -2, -1))


class Bernoulli(eqx.Module):
    """A probability, given by its logit. Targets may lie between 0 and 1."""

    logit: Float[Array, "*B"]

    @property
    def mean(self) -> Float[Array, "*B"]:
        return jax.nn.sigmoid(self.logit)

    @property
    def mode(self) -> Float[Array, "*B"]:
        return jnp.round(self.mean)

    def loss(self, target: Float[Array, "*B"]) -> Float[Array, "*B"]:
        log_yes, log_no = jax.nn.log_sigmoid(self.logit), jax.nn.log_sigmoid(-self.logit)
        return -(target * log_yes + (1.0 - target) * log_no)


class BoundedNormal(eqx.Module):
    """A normal with mean in (-1, 1) and standard deviation in (0.1, 1); draws are not squashed."""

    location: Float[Array, "*B A"]
    scale: Float[Array, "*B A"]

    @classmethod
    def from_outputs(cls, outputs: Float[Array, "*B outputs"]) -> "BoundedNormal":
        location, scale = jnp.split(outputs.astype(jnp.float32), 2, axis=-1)
        return cls(jnp.tanh(location), 0.9 * jax.nn.sigmoid(scale + 2.0) + 0.1)

    @property
    def mode(self) -> Float[Array, "*B A"]:
        return self.location

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*B A"]:
        """A reparameterised draw: gradients reach location and scale."""
        return self.draw(jr.normal(key, self.location.shape))

    def draw(self, noise: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
        """The draw that standard normal `noise` makes."""
        return self.location + self.scale * noise

    def log_prob(self, action: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over the action."""
        z = (action - self.location) / self.scale
        log_density = -0.5 * jnp.square(z) - jnp.log(self.scale) - 0.5 * np.log(2.0 * np.pi)
        return jnp.sum(log_density, axis=-1)

    def entropy(self) -> Float[Array, "*B"]:
        """Nats, summed over the action."""
        return jnp.sum(jnp.log(self.scale) + 0.5 * np.log(2.0 * np.pi * np.e), axis=-1)
