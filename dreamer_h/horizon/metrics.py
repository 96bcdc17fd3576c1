"""Errors of forecasts: one number for each window and step, before anything is averaged over them.

Axes: S samples, W windows, H steps ahead, O observation entries, K those with a scale.
"""

from collections.abc import Iterator

import numpy as np

from dreamer_h.horizon.scale import Scale
from dreamer_h.horizon.simulator import Forecast
from dreamer_h.horizon.windows import Windows

Errors = dict[str, np.ndarray]  # name -> (W, H)

BLOCK = 16  # steps ahead that are worked on at a time, so that 19 samples fit in memory


def errors(forecast: Forecast, windows: Windows, scale: Scale) -> Errors:
    """Every per-window metric at every step; see docs/horizon.md for their definitions.

    nrmse, nrmse/<kind>   of the point forecast (the mean over samples), in training deviations
    path_nrmse            of the first sample alone: what one imagined path is worth
    crps                  fair CRPS (Ferro 2014), mean over entries, in training deviations
    energy                energy score over the K entries together, divided by sqrt(K)
    spread                variance of the samples, mean over entries
    covered, width        share of entries between the lowest and highest sample; their distance
    reward, return        absolute error of the reward, and of the return summed up to the step
    finite                1 where every sample is finite; others do not enter and count as inf
    """
    parts = [_block(*cut, scale) for cut in _blocks(forecast, windows)]
    found = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    if forecast.reward is not None:
        reward = forecast.reward.mean(axis=0) - windows.future_reward
        found["reward"] = np.abs(reward)
        found["return"] = np.abs(np.cumsum(reward, axis=1))
    return found


def _blocks(forecast: Forecast, windows: Windows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, windows.horizon, BLOCK):
        steps = slice(start, start + BLOCK)
        yield forecast.obs[:, :, steps], windows.future_obs[:, steps]


def _block(samples: np.ndarray, truth: np.ndarray, scale: Scale) -> Errors:
    finite = np.asarray(np.isfinite(samples).all(axis=(0, 3)))
    samples = np.where(finite[None, :, :, None], samples, 0.0).astype(np.float64)
    square = scale.difference(scale.centre(samples), truth) ** 2
    away = scale.difference(samples, truth)  # (S, W, H, K)
    found: Errors = {
        "nrmse": np.sqrt(square.mean(axis=-1)),
        **{
            f"nrmse/{kind}": np.sqrt(square[..., places].mean(axis=-1))
            for kind, places in scale.groups().items()
        },
        "path_nrmse": np.sqrt((away[0] ** 2).mean(axis=-1)),
        "crps": crps(away, scale.circular * 2 * np.pi / scale.std).mean(axis=-1),
    }
    if len(samples) > 1:
        found["energy"] = energy_score(away) / np.sqrt(len(scale.kept))
        found["spread"] = away.var(axis=0, ddof=1).mean(axis=-1)
        low, high = away.min(axis=0), away.max(axis=0)
        inside = np.asarray((low <= 0) & (high >= 0))
        found["covered"] = inside.mean(axis=-1)
        # one entry a window, in turn: independent draws for the test of the coverage
        turn = np.arange(len(truth)) % len(scale.kept)
        found["hit"] = inside[np.arange(len(truth)), :, turn].astype(float)
        found["width"] = (high - low).mean(axis=-1)
    found = {name: np.where(finite, value, np.inf) for name, value in found.items()}
    found["finite"] = finite.astype(np.float64)
    return found


def crps(away: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Fair CRPS of S samples given as differences from the truth (S, ..., K): (..., K).

    E|x - y| - E|x - x'| / 2 over pairs of different samples (Ferro 2014); of one sample its
    absolute error. `period` (K,) is 0 for entries on a line; else distances are taken on a circle
    of this circumference (Grimit et al. 2006).
    """
    count = len(away)
    first = np.abs(away).mean(axis=0)
    if count == 1:
        return first
    # sum over pairs of |x_i - x_j| = sum_i (2 i - S + 1) x_(i) for sorted x
    ranked = np.sort(away, axis=0)
    weight = (2.0 * np.arange(count) - count + 1).reshape(-1, *[1] * (away.ndim - 1))
    pairs = (weight * ranked).sum(axis=0)
    for k in np.flatnonzero(period):
        gaps = np.abs(away[:, None, ..., k] - away[None, ..., k])
        pairs[..., k] = np.minimum(gaps, period[k] - gaps).sum(axis=(0, 1)) / 2
    return first - pairs / (count * (count - 1))


def energy_score(away: np.ndarray) -> np.ndarray:
    """Fair energy score of S samples as differences from the truth (S, ..., K): (...)."""
    count = len(away)
    first = np.linalg.norm(away, axis=-1).mean(axis=0)
    pairs = np.zeros_like(first)
    for i in range(count):
        pairs += np.linalg.norm(away[i + 1 :] - away[i], axis=-1).sum(axis=0)
    return first - pairs / (count * (count - 1))


def energy_distance(left: np.ndarray, right: np.ndarray, pairs: int = 20_000) -> float:
    """Between two clouds (N, K) and (M, K), from random pairs: 2 E|x-y| - E|x-x'| - E|y-y'|.

    Szekely & Rizzo (2013). Divided by sqrt(K), so that it has the units of one entry.
    """
    rng = np.random.default_rng(0)

    def mean_distance(a, b, same):
        i, j = rng.integers(len(a), size=pairs), rng.integers(len(b), size=pairs)
        differ = i != j if same else np.ones(pairs, bool)
        return np.linalg.norm(a[i[differ]] - b[j[differ]], axis=-1).mean()

    between = mean_distance(left, right, False)
    within = mean_distance(left, left, True) + mean_distance(right, right, True)
    return float((2 * between - within) / np.sqrt(left.shape[-1]))
