"""The trusted horizon: up to where, at every step before it too, a simulator may be relied upon."""

import numpy as np
from scipy.stats import binom

from dreamer_h.horizon.statistics import Counts, mean, resamples

SHARE = 0.9  # of windows whose error stays inside the radius
LEVEL = 0.01  # of the test of the coverage, at all steps together
TOLERANCES = (0.1, 0.25, 0.5)  # training deviations


def conformal_radius(scores: np.ndarray, share: float = SHARE) -> np.ndarray:
    """(H,) radius that a new window's error stays under with probability `share`.

    Split conformal (Vovk et al. 2005) from calibration windows (N, H), one an episode; infinite
    where N is too small to say so.
    """
    rank = int(np.ceil((len(scores) + 1) * share))
    if rank > len(scores):
        return np.full(scores.shape[1], np.inf)
    return np.partition(scores, rank - 1, axis=0)[rank - 1]


def resampled_radii(scores: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """(R, H) radii of the resamples of calibration windows (N, H)."""
    drawn = resamples(episode)[1:].astype(int)
    return np.stack([conformal_radius(np.repeat(scores, counts, axis=0)) for counts in drawn])


def first_failure(holds: np.ndarray) -> int:
    """Agent steps up to which (H,) holds without a gap."""
    return int(len(holds) if holds.all() else holds.argmin())


def accurate(radius: np.ndarray, tolerance: float) -> np.ndarray:
    """(H,) where the calibrated error is within the tolerance."""
    return radius <= tolerance


def skilful(square: np.ndarray, yardsticks: dict[str, np.ndarray], counts: Counts) -> np.ndarray:
    """(H,) where the squared error (W, H) is below that of every yardstick, by its whole interval.

    Paired: the differences on the same windows are resampled, by episode.
    """
    holds = np.ones(square.shape[1], bool)
    for other in yardsticks.values():
        gain = np.where(np.isfinite(square), other - square, -np.inf)
        for t in np.flatnonzero(holds):
            found = mean(gain[:, t], counts)[1:]
            holds[t] = np.percentile(found, 2.5) > 0 if np.isfinite(found).all() else False
    return holds


def nominal(samples: int) -> float:
    """Coverage of the range of S samples that the truth is exchangeable with; 0.9 of 19."""
    return (samples - 1) / (samples + 1)


def calibrated(hits: np.ndarray, coverage: float) -> np.ndarray:
    """(H,) where (W, H) hits of one entry a window do not contradict the coverage.

    Exact binomial test, two-sided, one window an episode, at LEVEL / H (Bonferroni): with
    probability 1 - LEVEL what is calibrated passes at all steps.
    """
    count = hits.sum(axis=0)
    low = binom.cdf(count, len(hits), coverage)
    high = binom.sf(count - 1, len(hits), coverage)
    return 2 * np.minimum(low, high) >= LEVEL / hits.shape[1]
