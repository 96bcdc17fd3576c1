"""What the levels of a simulator are worth, next to each other: as JSON."""

from dataclasses import replace
from typing import Any

import numpy as np

from dreamer_h.horizon.levels import crossover
from dreamer_h.horizon.levels.views import Views, codes, views
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.metrics import errors
from dreamer_h.horizon.scoring.speed import speeds
from dreamer_h.horizon.simulator import SAMPLES, Forecast
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.statistics import interval, mean, resamples, spearman
from dreamer_h.nn import fsq
from dreamer_h.world.upper.hierarchy import Hierarchy

SCHEMA = 1
STARTS = (1, 8, 64)  # windows whose imagination is timed


def level_report(
    world: Hierarchy, windows: Windows, scale: Scale, dt: float, *, samples: int = SAMPLES
) -> dict[str, Any]:
    """Errors are fair CRPS in training deviations, with 95 % intervals over episodes.

    matched    of each level alone, at its steps and number of applications, and of level 0 there
    crossover  from where on a level is better than the one below
    two_by_two at the ends of segments: level 0's steps or one jump, from true anchors or predicted
    jump_gain  share of the error of K steps that one jump saves, from true anchors
    phase      of the filled steps by their place in the segment: from true and predicted anchors
    consistency  distance between a waypoint and the filled step at its time, in deviations, and its
               rank correlation with the true error of the filled step, within a time
    macro      perplexity of each dimension of the code, of five; nats of the next observation where
               the actions, their code, or another window's code are known
    cost       sequential cells of the imagined steps, milliseconds a simulated second of all starts
    """
    seen = views(world, windows, samples)
    counts = resamples(windows.episode)
    stride, jumps = world.strides[0], seen.true_jumps.shape[2]
    ends = stride * np.arange(1, jumps + 1)
    last = jumps - 1  # the first segment begins at a true anchor
    parts = {
        "steps_from_true": _crps(seen.true_filled[:, :, ends - 1], ends, windows, scale),
        "jump_from_true": _crps(seen.true_jumps, ends, windows, scale),
        "steps_from_predicted": _crps(seen.filled[:, :, ends - 1], ends, windows, scale),
        "jump_from_predicted": _crps(seen.waypoints[0], ends, windows, scale),
    }
    steps, jump = (
        mean(parts[f"{name}_from_true"].mean(axis=1), counts) for name in ("steps", "jump")
    )
    return {
        "schema_version": SCHEMA,
        "strides": list(world.strides),
        "samples": samples,
        "windows": len(windows),
        "dt": dt,
        "matched": _matched(seen, world, windows, scale, counts),
        "crossover": crossover.as_json(crossover.measured(world, windows, scale, samples=samples)),
        "two_by_two": {
            name: interval(mean(found[:, 1:].mean(axis=1) if last else found[:, 0], counts))
            for name, found in parts.items()
        },
        "jump_gain": interval(1 - jump / steps),
        "phase": _phases(seen, stride, windows, scale, counts),
        "consistency": _consistency(seen, ends, windows, scale, counts),
        "macro": _macro(world, windows, counts),
        "cost": _cost(world, windows, dt),
    }


def _crps(obs: np.ndarray, steps: np.ndarray, windows: Windows, scale: Scale) -> np.ndarray:
    """(W, N) of samples (S, W, N, O) at agent steps (N,) behind the context."""
    return errors(Forecast(obs, None), _at(windows, steps), scale)["crps"]


def _at(windows: Windows, steps: np.ndarray) -> Windows:
    """The same windows, seen at some steps only."""
    return replace(
        windows,
        action=windows.action[:, steps - 1],
        future_obs=windows.future_obs[:, steps - 1],
        future_reward=windows.future_reward[:, steps - 1],
    )


def _matched(
    seen: Views, world: Hierarchy, windows: Windows, scale: Scale, counts: np.ndarray
) -> dict[str, Any]:
    found = {}
    for level, points in enumerate(seen.waypoints, 1):
        stride = world.strides[level - 1]
        steps = stride * np.arange(1, points.shape[2] + 1)
        own = _crps(points, steps, windows, scale)
        below = _crps(seen.steps[:, :, steps - 1], steps, windows, scale)
        found[f"level{level}"] = {
            "steps": steps.tolist(),
            "applications": (steps // stride).tolist(),
            "crps": [interval(mean(column, counts)) for column in own.T],
            "crps_of_level0": [interval(mean(column, counts)) for column in below.T],
        }
    every = np.arange(1, seen.steps.shape[2] + 1)
    crps = _crps(seen.steps, every, windows, scale).mean(axis=0)
    found["level0"] = {"steps": every.tolist(), "applications": every.tolist(),
                       "crps": crps.tolist()}  # fmt: skip
    return found


def _phases(
    seen: Views, stride: int, windows: Windows, scale: Scale, counts: np.ndarray
) -> dict[str, Any]:
    whole = seen.true_filled.shape[2]
    every = np.arange(1, whole + 1)
    found = {}
    for name, obs in (("true", seen.true_filled), ("predicted", seen.filled[:, :, :whole])):
        crps = _crps(obs, every, windows, scale).reshape(len(windows), -1, stride)
        crps = crps[:, 1:] if crps.shape[1] > 1 else crps
        found[name] = [interval(mean(crps[:, :, j].mean(axis=1), counts)) for j in range(stride)]
    return found


def _consistency(
    seen: Views, ends: np.ndarray, windows: Windows, scale: Scale, counts: np.ndarray
) -> dict[str, Any]:
    filled, truth = seen.filled[:, :, ends - 1], windows.future_obs[:, ends - 1]
    root = lambda away: np.sqrt((away**2).mean(axis=-1))  # (W, N)
    apart = root(scale.difference(scale.centre(seen.waypoints[0]), scale.centre(filled)))
    wrong = root(scale.difference(scale.centre(filled), truth))
    ranks = [spearman(apart[:, n], wrong[:, n]) for n in range(len(ends))]
    return {
        "distance": interval(mean(apart.mean(axis=1), counts)),
        "rank_correlation": float(np.nanmean(ranks)),
        "by_waypoint": [float(rank) for rank in ranks],
    }


def _macro(world: Hierarchy, windows: Windows, counts: np.ndarray) -> dict[str, Any]:
    found = codes(world, windows)
    share = [np.bincount(column, minlength=fsq.LEVELS) / len(column) for column in found.index.T]
    entropy = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in share]
    return {
        "perplexity": np.exp(entropy).round(3).tolist(),
        "distinct": len(np.unique(found.index, axis=0)),
        "jumps": len(found.index),
        "nats": {name: interval(mean(v.mean(axis=1), counts)) for name, v in found.nats.items()},
    }


def _cost(world: Hierarchy, windows: Windows, dt: float) -> dict[str, Any]:
    """Of imagining the windows' steps once: level 0 alone, and level 1 from the start."""
    steps, stride = windows.horizon, world.strides[0]
    simulators = {"steps": LatentSimulator(world), "jumps_filled": LatentSimulator(world, (0,))}
    counts = [count for count in STARTS if count <= len(windows)]
    cells = {
        "steps": steps,
        "jumps": -(-steps // stride),
        "jumps_filled": -(-steps // stride) + stride,
    }
    taken = speeds(simulators, windows, dt, counts)["starts"]
    return {"cells": cells} | {
        f"ms_per_second/{count}": {
            name: int(count) * found["median"] for name, found in row.items()
        }
        for count, row in taken.items()
    }
