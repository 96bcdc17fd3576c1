"""Energy distance between where the imagined states lie and where the real ones do."""

import numpy as np

from dreamer_h.horizon.scoring.metrics import short_way
from dreamer_h.horizon.statistics import Counts


def energy_distance(
    samples: np.ndarray, truth: np.ndarray, period: np.ndarray, counts: Counts
) -> np.ndarray:
    """2 E|x-y| - E|x-x'| - E|y-y'| (Szekely & Rizzo 2013) of each resample: (R+1,).

    Samples (S, W, K), truths (W, K), distances the short way round as in `short_way`. Over pairs of
    different windows: about 0 for equal distributions, a little below as often as above. Divided by
    sqrt(K), so that it has the units of one entry; infinite where a sample is not finite.
    """
    if not np.isfinite(samples).all():
        return np.full(len(counts), np.inf)
    others = np.roll(samples, 1, axis=0)  # another draw of the other window
    between = np.mean([distances(own, truth, period) for own in samples], axis=0)
    imagined = np.mean(
        [distances(*pair, period) for pair in zip(samples, others, strict=True)], axis=0
    )
    real = distances(truth, truth, period)
    matrix = (2 * between - imagined - real) / np.sqrt(truth.shape[-1])
    np.fill_diagonal(matrix, 0.0)
    pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
    return ((counts @ matrix) * counts).sum(axis=1) / np.maximum(pairs, 1)


def distances(left: np.ndarray, right: np.ndarray, period: np.ndarray) -> np.ndarray:
    """(W, V) between the points (W, K) and (V, K)."""
    return np.linalg.norm(short_way(left[:, None] - right[None], period), axis=-1)
