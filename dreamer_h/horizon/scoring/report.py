"""What is said of a simulator: every metric at every horizon with its interval, as JSON."""

import warnings
from typing import Any

import numpy as np

from dreamer_h.horizon.scoring import trust
from dreamer_h.horizon.scoring.floor import saturation
from dreamer_h.horizon.scoring.score import Benchmark, Scored
from dreamer_h.horizon.statistics import (
    INTERVAL,
    STATISTICS,
    Statistic,
    interval,
    mean,
    resamples,
)

SCHEMA = 1
REFERENCES = ("mean", "persistence", "linear")  # point forecasts that a skilful model must beat
ROOTED = ("nrmse", "path_nrmse")  # summarised by more than their mean


def report(
    name: str, scored: Scored, yardsticks: dict[str, Scored], bench: Benchmark
) -> dict[str, Any]:
    """Everything as JSON: {"metrics": {metric: {horizon: {value, lo, hi, n}}}, "trusted": …}."""
    recording, horizons = bench.recording, bench.horizons
    metrics: dict[str, Any] = {}
    for metric in scored.far:
        if metric.split("/")[0] in ROOTED:
            for statistic, function in STATISTICS.items():
                kind, slash, group = metric.partition("/")
                summary = f"{kind}_{statistic}{slash}{group}"
                metrics[summary] = _curve(scored, metric, function, bench)
        else:
            metrics[metric] = _curve(scored, metric, mean, bench)
    if scored.samples > 1:
        metrics["spread_skill"] = _spread_skill(scored, bench)
    metrics["crps_skill"], metrics["control"] = {}, {}
    for h in horizons:
        values, episodes = scored.at("crps", h, bench)
        climate, _ = yardsticks["climatology"].at("crps", h, bench)
        counts = resamples(episodes)
        skill = 1 - mean(values, counts) / mean(climate, counts)
        metrics["crps_skill"][h] = interval(skill) | {"n": len(values)}
        counts = resamples(bench.far.episode)
        true, false = (
            mean(errors["nrmse"][:, h - 1] ** 2, counts) for errors in (scored.far, scored.shuffled)
        )
        ratio = np.sqrt(false / np.maximum(true, 1e-24))
        metrics["control"][h] = interval(ratio) | {"n": len(bench.far)}
    metrics["energy_distance"] = {h: interval(scored.distance[h]) for h in horizons}
    return {
        "schema_version": SCHEMA,
        "model": name,
        "task": recording.task,
        "behaviour": recording.manifest["behaviour"],
        "data": recording.hash,
        "versions": recording.manifest["versions"],
        "samples": scored.samples,
        "horizons": horizons,
        "env_steps": [h * recording.action_repeat for h in horizons],
        "seconds": [round(h * recording.dt, 4) for h in horizons],
        "windows": {"far": len(bench.far), "near": len(bench.near)},
        "metrics": metrics,
        "trusted": trusted(scored, yardsticks, bench),
        "floor": against_floor(scored, bench),
        "yardsticks": {
            name: {
                "crps": _curve(other, "crps", mean, bench),
                "nrmse_median": _curve(other, "nrmse", STATISTICS["median"], bench),
                "nrmse_rms": _curve(other, "nrmse", STATISTICS["rms"], bench),
            }
            for name, other in yardsticks.items()
        },
    }


def _curve(
    scored: Scored, metric: str, statistic: Statistic, bench: Benchmark
) -> dict[int, dict[str, Any]]:
    found = {}
    for h in bench.horizons:
        values, episodes = scored.at(metric, h, bench)
        found[h] = interval(statistic(values, resamples(episodes))) | {"n": len(values)}
    return found


def _spread_skill(scored: Scored, bench: Benchmark) -> dict[int, dict[str, Any]]:
    """Ratio of the spread to the error of the samples' centre: 1 for exchangeable samples.

    Both rooted after the mean over windows, and corrected for the number of samples (Fortin et al.
    2014): below 1 the simulator is surer than it is right.
    """
    found = {}
    for h in bench.horizons:
        (spread, episodes), (error, _) = (scored.at(name, h, bench) for name in ("spread", "nrmse"))
        counts = resamples(episodes)
        spread = mean(spread, counts) * (scored.samples + 1) / scored.samples
        square = np.maximum(mean(error**2, counts), 1e-24)
        found[h] = interval(np.sqrt(spread / square)) | {"n": len(error)}
    return found


def trusted(scored: Scored, yardsticks: dict[str, Scored], bench: Benchmark) -> dict[str, Any]:
    """The trusted horizon in agent steps and seconds, and the three that it is the least of.

    A simulator without samples has no calibration; that is said, and the other two count. The
    interval resamples the calibration windows, which decide upon the accuracy; the other two are
    tests, and stay what they are.
    """
    radius = trust.conformal_radius(scored.calibration["nrmse"])
    counts = resamples(bench.far.episode)
    square = scored.far["nrmse"] ** 2
    others = {name: yardsticks[name].far["nrmse"] ** 2 for name in REFERENCES if name in yardsticks}
    parts: dict[str, Any] = {"skill": trust.first_failure(trust.skilful(square, others, counts))}
    if "hit" in scored.far:
        coverage = trust.nominal(scored.samples)
        parts["calibration"] = trust.first_failure(trust.calibrated(scored.far["hit"], coverage))
    found: dict[str, Any] = {
        "skill": parts["skill"],
        "calibration": parts.get("calibration", "none: the simulator has no samples"),
        "radius": [round(float(r), 5) for r in radius],
    }
    radii = trust.resampled_radii(scored.calibration["nrmse"], bench.calibration.episode)
    for tolerance in trust.TOLERANCES:
        accuracy = trust.first_failure(trust.accurate(radius, tolerance))
        drawn = [trust.first_failure(trust.accurate(r, tolerance)) for r in radii]
        low, high = np.percentile(drawn, INTERVAL)
        steps = {
            name: min([steps, *parts.values()])
            for name, steps in (("agent_steps", accuracy), ("lo", low), ("hi", high))
        }
        found[str(tolerance)] = {
            "accuracy": accuracy,
            **steps,
            "seconds": steps["agent_steps"] * bench.recording.dt,
        }
    return found


def against_floor(scored: Scored, bench: Benchmark) -> dict[str, Any] | None:
    """The physics floor, the oracle that is as wrong after one step, and what the model adds to it.

    compounding: median nrmse of the model's by the oracle's. efficiency: the model's accurate
    horizon by the oracle's, for each tolerance. saturation: where the oracle's rms levels off, with
    `saturation_censored`. Warns where physics, restarted exactly, is not exact.
    """
    floor = bench.floor
    if floor is None:
        return None
    if not (exact := float(floor.exact.max())) == 0:
        warnings.warn(
            f"physics restarted from recorded states differs from the recording by {exact:.3g} "
            "training deviations, not 0: the floor and what follows from it are not to be trusted",
            stacklevel=2,
        )
    at = lambda curve: {h: float(curve[h - 1]) for h in bench.horizons}
    median = lambda errors: np.quantile(errors, 0.5, axis=0, method="inverted_cdf")
    root = lambda errors: np.sqrt((errors**2).mean(axis=0))
    tail = lambda errors: np.quantile(errors, trust.SHARE, axis=0)
    found: dict[str, Any] = {
        "exact": exact,
        "float32": at(median(floor.float32)),
        "perturbed": at(median(floor.perturbed)),
        "lyapunov": dict(
            zip(
                ("q25", "median", "q75"),
                np.nanquantile(floor.lyapunov, [0.25, 0.5, 0.75]).tolist(),
                strict=True,
            )
        ),
    }
    nrmse = scored.far["nrmse"]
    curves = {name: floor.oracle(float(s(nrmse)[0]), s)
              for name, s in (("median", median), ("rms", root), ("q90", tail))}  # fmt: skip
    if (oracle := curves["median"]) is not None:
        found["oracle_median"] = at(oracle)
        counts = resamples(bench.far.episode)
        found["compounding"] = {
            h: interval(STATISTICS["median"](nrmse[:, h - 1], counts) / oracle[h - 1])
            for h in bench.horizons
        }
    if (oracle := curves["rms"]) is not None:
        found["oracle_rms"] = at(oracle)
        found["saturation"], found["saturation_censored"] = saturation(oracle)
    if (oracle := curves["q90"]) is not None:
        radius = trust.conformal_radius(scored.calibration["nrmse"])
        found["efficiency"] = {
            str(tolerance): trust.first_failure(trust.accurate(radius, tolerance))
            / max(1, trust.first_failure(trust.accurate(oracle, tolerance)))
            for tolerance in trust.TOLERANCES
        }
    return found
