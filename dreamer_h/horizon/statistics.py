"""Summaries over windows with intervals: the unit of resampling is the episode."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

DRAWS = 1000
INTERVAL = (2.5, 97.5)  # percent

# how often each window counts in each resample; the first row is the data itself
Counts = np.ndarray  # (R+1, W)
Statistic = Callable[[np.ndarray, Counts], np.ndarray]


def resamples(episode: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> Counts:
    """Cluster bootstrap: episodes are drawn with replacement, with all their windows (W,)."""
    names, place = np.unique(episode, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=draws
    )
    return np.concatenate([np.ones((1, len(episode))), drawn[:, place]])


def mean(values: np.ndarray, counts: Counts) -> np.ndarray:
    """(R+1,) of values (W,)."""
    used = np.where(counts > 0, values, 0.0)  # 0 x inf is not a number
    return (counts * used).sum(axis=1) / counts.sum(axis=1)


def rms(values: np.ndarray, counts: Counts) -> np.ndarray:
    return np.sqrt(mean(values**2, counts))


def quantile(share: float) -> Statistic:
    def statistic(values: np.ndarray, counts: Counts) -> np.ndarray:
        order = np.argsort(values, kind="stable")
        below = counts[:, order].cumsum(axis=1)
        place = (below >= share * below[:, -1:]).argmax(axis=1)
        return values[order][place]

    return statistic


def iqm(values: np.ndarray, counts: Counts) -> np.ndarray:
    """Interquartile mean: of the middle half."""
    order = np.argsort(values, kind="stable")
    above = counts[:, order].cumsum(axis=1)
    total = above[:, -1:]
    below = above - counts[:, order]
    middle = np.clip(np.minimum(above, 0.75 * total) - np.maximum(below, 0.25 * total), 0, None)
    return mean(values[order], middle)


STATISTICS: dict[str, Statistic] = {
    "rms": rms,
    "median": quantile(0.5),
    "iqm": iqm,
    "q90": quantile(0.9),
}


def interval(found: np.ndarray) -> dict[str, float]:
    """{"value", "lo", "hi"} of a statistic's (R+1,) values."""
    low, high = np.nanpercentile(found[1:], INTERVAL) if np.isfinite(found[0]) else found[[0, 0]]
    return {"value": float(found[0]), "lo": float(low), "hi": float(high)}


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Correlation of the ranks, equal values sharing theirs; 0 where one of the two is constant."""
    ranks = rankdata(left), rankdata(right)
    if min(np.ptp(r) for r in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
