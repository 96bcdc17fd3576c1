"""Running statistics: data, `init` and `update`; the new value is returned, never written."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class ReturnScale(eqx.Module):
    """Exponential average of the spread between the 5th and 95th percentile of returns.

    Not corrected for its start at zero, like DreamerV3's; `scale` never drops below 1, so that
    small returns are not blown up.
    """

    low: Float[Array, ""]
    high: Float[Array, ""]
    rate: float = eqx.field(static=True)

    @classmethod
    def init(cls, rate: float = 0.01) -> "ReturnScale":
        return cls(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), rate)

    def update(
        self, returns: Float[Array, "..."], real: Bool[Array, "..."] | None = None
    ) -> "ReturnScale":
        """Counts the returns where `real` (broadcast against them), or all of them."""
        if real is not None:
            returns = jnp.where(real, returns, jnp.nan)
        low, high = jnp.nanpercentile(returns, jnp.asarray([5.0, 95.0]))
        # none is real where all windows are a single, terminal step: keep what was known
        low = jnp.where(jnp.isnan(low), self.low, low)
        high = jnp.where(jnp.isnan(high), self.high, high)
        return ReturnScale(
            (1.0 - self.rate) * self.low + self.rate * low,
            (1.0 - self.rate) * self.high + self.rate * high,
            self.rate,
        )

    @property
    def scale(self) -> Float[Array, ""]:
        return jnp.maximum(1.0, self.high - self.low)


class EntropyWeight(eqx.Module):
    """A weight that rises while the entropy is below its target, and falls while it is above.

    The dual step of Haarnoja et al. (2018), on the weight's logarithm. Without a rate it stays.
    """

    log: Float[Array, ""]
    target: float = eqx.field(static=True)  # nats a dimension
    rate: float = eqx.field(static=True)

    @classmethod
    def init(cls, weight: float, target: float, rate: float) -> "EntropyWeight":
        return cls(jnp.log(jnp.float32(weight)), target, rate)

    def update(
        self, entropy: Float[Array, "..."], real: Bool[Array, "..."] | None = None
    ) -> "EntropyWeight":
        """After policies with so many nats a dimension; counts those that are `real`, or all."""
        mean = jnp.mean(entropy, where=real)
        # none is real: keep what was known
        error = jnp.where(jnp.isnan(mean), 0.0, self.target - mean)
        return EntropyWeight(self.log + self.rate * error, self.target, self.rate)

    @property
    def weight(self) -> Float[Array, ""]:
        return jnp.exp(self.log)


class RunningQuantile(eqx.Module):
    """Exponential average of a quantile; zero at first."""

    value: Float[Array, ""]
    share: float = eqx.field(static=True)  # of the values that are below
    rate: float = eqx.field(static=True)

    @classmethod
    def init(cls, share: float, rate: float = 0.01) -> "RunningQuantile":
        return cls(jnp.zeros((), jnp.float32), share, rate)

    def update(self, values: Float[Array, "..."], real: Bool[Array, "..."]) -> "RunningQuantile":
        """Counts the values that are `real`; where none is, keeps what was known."""
        found = jnp.nanquantile(jnp.where(real, values, jnp.nan), self.share)
        found = jnp.where(jnp.isnan(found), self.value, found)
        value = (1.0 - self.rate) * self.value + self.rate * found
        return RunningQuantile(value, self.share, self.rate)


class Statistics(eqx.Module):
    """What learning keeps an eye on beside its parameters."""

    return_scale: ReturnScale
    entropy_weight: EntropyWeight
