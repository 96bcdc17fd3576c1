"""How far an imagined observation may be from the real one, as measured on episodes that no
simulator has learned from."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Real = Float[Array, "*B"]


class Calibration(eqx.Module):
    """With 90 % an imagined observation is within `radius` of the real one.

    Split conformal, for each number of agent steps since something was seen; where a simulator
    doubts, radii are multiples of the root of the doubt that a path has gathered, so that they
    differ from path to path. Root mean square over the entries, in training deviations.
    """

    multiple: Float[Array, " H"]  # of the unit, by agent steps since something was seen
    usual: Float[Array, ""]  # doubt of 99 % of such steps is below; infinite: nobody doubts
    scaled: bool = eqx.field(static=True)  # whether a unit is the root of the doubt, or a deviation

    def radius(self, steps: Int[Array, "*B"], doubt: Real) -> Real:
        """After so many agent steps that have gathered so much doubt (nats), both since something
        was seen. 0 where it is just seen; beyond what was measured that of the last step."""
        multiple = self.multiple[jnp.clip(steps - 1, 0, len(self.multiple) - 1)]
        return jnp.where(steps > 0, multiple * unit(doubt, self.scaled), 0.0)

    def outside(self, doubt: Real) -> Bool[Array, "*B"]:
        """Whether a step is doubted more than those that the radius was measured on."""
        return doubt > self.usual


def unit(doubt: Real, scaled: bool) -> Real:
    """What radii are multiples of. A doubt adds up as variances do."""
    return jnp.sqrt(doubt + LEAST) if scaled else jnp.ones_like(doubt)


LEAST = 1e-6  # nats: a path that nobody doubts has a radius all the same


def as_json(calibration: Calibration | None) -> dict[str, Any] | None:
    """For a manifest."""
    if calibration is None:
        return None
    finite = lambda value: float(value) if np.isfinite(value) else None  # JSON knows no infinity
    return {
        "multiple": [finite(value) for value in np.asarray(calibration.multiple)],
        "usual": finite(calibration.usual),
        "scaled": calibration.scaled,
    }


def from_json(found: dict[str, Any] | None) -> Calibration | None:
    """The inverse of `as_json`."""
    if found is None:
        return None
    number = lambda value: np.inf if value is None else value
    multiple = jnp.asarray([number(value) for value in found["multiple"]], jnp.float32)
    return Calibration(multiple, jnp.float32(number(found["usual"])), found["scaled"])
