"""Would a choice between policies, made inside the simulator, be right in reality?"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dreamer_h.horizon.parallel import Progress, spread
from dreamer_h.horizon.policies.closed_loop import closed_loop
from dreamer_h.horizon.scoring.score import Benchmark
from dreamer_h.horizon.simulator import Simulator
from dreamer_h.horizon.statistics import Counts, interval, mean, resamples, spearman
from dreamer_h.types import Physics, Policy

LEAST = 3  # policies that a rank correlation needs
Tools = tuple[Simulator, Physics, Benchmark]


def judge(
    tools: Callable[[], Tools],
    policies: dict[str, Callable[[], Policy]],
    episode: np.ndarray,
    *,
    jobs: int = 1,
    progress: Progress = iter,
) -> dict[str, Any]:
    """Each policy from the far windows on, which are of these episodes ("closed_loop"), and their
    ranking ("decisions"). In `jobs` processes, each with tools of its own (`parallel.spread`)."""
    each = spread(tools, _loop, list(policies.values()), jobs, progress)
    found = dict(zip(policies, each, strict=True))
    if len(found) < LEAST:
        return {"closed_loop": found}
    of = lambda name: np.array([one["windows"].get(name, 0.0) for one in found.values()])
    promised, paid, doubt = map(of, ("return_imagined", "return_real", "doubt"))
    return {"closed_loop": found, "decisions": decisions(promised, paid, episode, doubt)}


def _loop(tools: Tools, make_policy: Callable[[], Policy]) -> dict[str, Any]:
    simulator, physics, bench = tools
    return closed_loop(simulator, make_policy, physics, bench.far, bench.scale, bench.horizons)


def decisions(
    promised: np.ndarray, paid: np.ndarray, episode: np.ndarray, doubt: np.ndarray | None = None
) -> dict[str, Any]:
    """Of P policies in W windows, their returns imagined and real (P, W); `episode` (W,).

    rank_correlation  Spearman's, of the policies' mean returns
    regret            what the best policy is paid, minus what the one is paid that the simulator
                      holds for the best (regret@1); the mean of equally good ones
    regret_share      the same as a share of what lies between the best and the worst
    error             mean absolute error of a policy's mean return
    error_told        Spearman's of these errors with the `doubt` (P, W) that the simulator has of
                      each policy's paths, where it has any

    Each with an interval: a bootstrap over episodes and over policies. Raises ValueError for fewer
    than LEAST policies.
    """
    if len(promised) < LEAST:
        raise ValueError(f"{len(promised)} policies cannot be ranked; at least {LEAST} are needed")
    counts, size = resamples(episode), len(promised)
    drawn = np.random.default_rng(1).integers(size, size=(size, len(counts)))
    drawn[:, 0] = np.arange(size)  # the first are the policies themselves
    of = lambda returns: np.take_along_axis(means(returns, counts), drawn, axis=0)  # (P, R+1)
    guess, truth = of(promised), of(paid)
    best, worst = truth.max(axis=0), truth.min(axis=0)
    chosen = guess == guess.max(axis=0)
    regret = best - (truth * chosen).sum(axis=0) / chosen.sum(axis=0)
    ranked = lambda left, right: np.array([spearman(*p) for p in zip(left.T, right.T, strict=True)])
    error = np.abs(guess - truth)
    found = {
        "rank_correlation": ranked(guess, truth),
        "regret": regret,
        "regret_share": regret / np.maximum(best - worst, 1e-12),
        "error": error.mean(axis=0),
    }
    if doubt is not None and doubt.any():
        found["error_told"] = ranked(error, of(doubt))
    return {name: interval(values) for name, values in found.items()}


def means(returns: np.ndarray, counts: Counts) -> np.ndarray:
    """(P, R+1) mean returns of (P, W)."""
    return np.stack([mean(values, counts) for values in returns])
