"""Errors of forecasts: one number for each window and step, before anything is averaged over them.

Axes: S samples, W windows, H steps ahead, O observation entries, K those with a scale.
"""

from collections.abc import Iterator

import numpy as np

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.simulator import Forecast

Errors = dict[str, np.ndarray]  # name -> (W, H)

BLOCK = 16  # steps ahead that are worked on at a time, so that 19 samples fit in memory


def errors(forecast: Forecast, windows: Windows, scale: Scale) -> Errors:
    """Every per-window metric at every step; see docs/horizon.md for their definitions.

    nrmse, nrmse/<kind>   of the point forecast (the mean over samples), in training deviations
    path_nrmse            of the first sample alone: what one imagined path is worth
    crps                  fair CRPS (Ferro 2014), mean over entries, in training deviations
    energy                energy score over the K entries together, divided by sqrt(K)
    spread, width         variance of the samples about their centre, mean over entries; the
                          distance between the lowest and highest
    covered               share of entries between the lowest and highest sample
    hit                   1 where one entry is, another in each window
    reward, return        absolute error of the reward, and of the return summed up to the step
    finite                1 where every sample is finite; others do not enter and count as inf
    """
    rng = np.random.default_rng(0)  # for ties
    parts = [_block(*cut, scale, rng) for cut in _blocks(forecast, windows)]
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


def _block(
    samples: np.ndarray, truth: np.ndarray, scale: Scale, rng: np.random.Generator
) -> Errors:
    finite = np.asarray(np.isfinite(samples).all(axis=(0, 3)))
    samples = np.where(finite[None, :, :, None], samples, 0.0).astype(np.float64)
    centre, period = scale.centre(samples), periods(scale)
    square = scale.difference(centre, truth) ** 2
    away = scale.difference(samples, truth)  # (S, W, H, K)
    found: Errors = {
        "nrmse": np.sqrt(square.mean(axis=-1)),
        **{
            f"nrmse/{kind}": np.sqrt(square[..., places].mean(axis=-1))
            for kind, places in scale.groups().items()
        },
        "path_nrmse": np.sqrt((away[0] ** 2).mean(axis=-1)),
        "crps": crps(away, period).mean(axis=-1),
    }
    if len(samples) > 1:
        found["energy"] = energy_score(away, period) / np.sqrt(len(scale.kept))
        own = scale.difference(samples, centre)
        found["spread"] = own.var(axis=0, ddof=1).mean(axis=-1)
        found["width"] = np.ptp(own, axis=0).mean(axis=-1)
        # circles are cut opposite the centre of samples and truth: that favours none of them, where
        # a cut opposite the samples alone leaves out 14 % of what is spread over the whole circle
        everyone = np.concatenate([samples, truth[None]])
        everyone = scale.difference(everyone, scale.centre(everyone))
        inside = within(everyone[:-1], everyone[-1], rng)
        found["covered"] = inside.mean(axis=-1)
        # one entry a window, in turn: independent draws for the test of the coverage
        turn = np.arange(len(truth)) % len(scale.kept)
        found["hit"] = inside[np.arange(len(truth)), :, turn].astype(float)
    found = {name: np.where(finite, value, np.inf) for name, value in found.items()}
    found["finite"] = finite.astype(np.float64)
    return found


def periods(scale: Scale) -> np.ndarray:
    """(K,) circumference of circular entries in training deviations; 0 for those on a line."""
    return scale.circular * 2 * np.pi / scale.std


def short_way(gap: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Differences (..., K), those on a circle of circumference `period` (K,) the short way round.

    `period` is 0 for entries on a line.
    """
    round_ = period > 0
    if not round_.any():
        return gap
    gap, full = gap.copy(), period[round_]
    gap[..., round_] = (gap[..., round_] + full / 2) % full - full / 2
    return gap


def within(samples: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether (...) truths lie between the least and the largest of (S, ...) samples.

    Between equal values the order is drawn: a truth exchangeable with the samples is inside with
    probability (S - 1) / (S + 1), ties or not.
    """
    below, equal = (samples < truth).sum(axis=0), (samples == truth).sum(axis=0)
    rank = below + np.floor(rng.random(truth.shape) * (equal + 1))
    return np.asarray((rank > 0) & (rank < len(samples)))


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


def energy_score(away: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Fair energy score of S samples as differences from the truth (S, ..., K): (...).

    Distances between samples are taken the short way round, as in `short_way`; so must `away` be.
    """
    count = len(away)
    first = np.linalg.norm(away, axis=-1).mean(axis=0)
    pairs = np.zeros_like(first)
    for i in range(count):
        gap = short_way(away[i + 1 :] - away[i], period)
        pairs += np.linalg.norm(gap, axis=-1).sum(axis=0)
    return first - pairs / (count * (count - 1))
