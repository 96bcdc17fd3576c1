"""Slow observables: named physical quantities, averaged over a few steps.

Single states of a chaotic task cannot be predicted far; how fast and how upright a body goes on the
whole may be.
"""

from collections.abc import Callable

import numpy as np

from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.metrics import Errors
from dreamer_h.horizon.simulator import Forecast
from dreamer_h.replay.episode import Episode

MEANS = 8  # agent steps

Quantities = dict[str, Callable[[np.ndarray], np.ndarray]]  # (..., O) -> (...)


def slow_errors(
    forecast: Forecast, windows: Windows, quantities: Quantities, train: list[Episode]
) -> Errors:
    """`slow/<name>` (W, H): error of the mean over the last steps, in its training deviations.

    Before step MEANS the mean is over what there is.
    """
    found = {}
    for name, quantity in quantities.items():
        deviation = np.concatenate([running_mean(quantity(e.obs)) for e in train]).std()
        if deviation < 1e-9:
            continue
        guess = running_mean(quantity(forecast.obs).mean(axis=0))
        error = np.abs(guess - running_mean(quantity(windows.future_obs))) / deviation
        found[f"slow/{name}"] = np.where(np.isfinite(error), error, np.inf)
    return found


def running_mean(values: np.ndarray) -> np.ndarray:
    """(..., H) -> (..., H), over the last MEANS entries, fewer at the start."""
    sums = np.cumsum(values, axis=-1, dtype=np.float64)
    sums[..., MEANS:] = sums[..., MEANS:] - sums[..., :-MEANS]
    return sums / np.minimum(np.arange(1, values.shape[-1] + 1), MEANS)
