"""A forecast shrunk towards the mean: what mere blur would earn."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.simulator import Context, Forecast, Simulator


@dataclass(frozen=True)
class Damped:
    """`inner`, its samples drawn towards the training mean by a factor for each step ahead."""

    inner: Simulator
    scale: Scale
    factor: np.ndarray  # (H,) in [0, 1]

    @classmethod
    def fit(cls, inner: Simulator, windows: Windows, scale: Scale, *, samples: int) -> "Damped":
        """The factors with the least squared error on calibration windows."""
        context = Context(windows.context_obs, windows.context_action)
        found = inner.imagine(inner.start(context, seed=0), windows.action, samples, seed=0)
        guess = scale.deviations(scale.centre(np.asarray(found.obs, np.float64)))
        truth = scale.deviations(windows.future_obs)
        square = np.maximum((guess**2).sum(axis=(0, 2)), 1e-9)
        return cls(inner, scale, np.clip((guess * truth).sum(axis=(0, 2)) / square, 0.0, 1.0))

    def start(self, context: Context, *, seed: int) -> Any:
        return self.inner.start(context, seed=seed)

    def imagine(self, state: Any, action: np.ndarray, samples: int, *, seed: int) -> Forecast:
        """Raises ValueError beyond the horizon that the factors were fitted to."""
        if action.shape[1] > len(self.factor):
            raise ValueError(
                f"{action.shape[1]} steps are asked for; the damping was fitted to "
                f"{len(self.factor)}"
            )
        found = self.inner.imagine(state, action, samples, seed=seed)
        obs = np.asarray(found.obs, np.float64)
        shrunk = self.factor[: action.shape[1], None] * self.scale.deviations(obs)
        return Forecast(self.scale.physical(shrunk, obs), found.reward)

    def step(self, state: Any, action: np.ndarray, *, seed: int):
        """One step is damped by nothing: the factor is the horizon's, and a step has none."""
        return self.inner.step(state, action, seed=seed)
