"""Whether radii hold and signals tell where a simulator is wrong: as JSON."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.stats import betabinom, rankdata

from dreamer_h.horizon.recorded.windows import HORIZONS, Windows, choose
from dreamer_h.horizon.scoring.score import Benchmark
from dreamer_h.horizon.scoring.trust import SHARE
from dreamer_h.horizon.statistics import interval, resamples, spearman
from dreamer_h.horizon.trust.calibrate import Doubted, calibrated, calibrated_alike, doubted
from dreamer_h.horizon.trust.detectors import detectors, watched
from dreamer_h.horizon.trust.error_head import fit
from dreamer_h.horizon.trust.signals import signals
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.world.upper.hierarchy import AnyWorld

SCHEMA = 1
TAUGHT = 2  # windows of each training episode that the error head learns from


def trust_report(
    world: AnyWorld, bench: Benchmark, others: dict[str, Benchmark], *, seed: int
) -> dict[str, Any]:
    """Radii from the calibration windows, held against the test windows, and against those of
    `others`: other behaviours in the same task, or another physics.

    coverage   share of windows within the radius at each horizon, the median radius, and the
               probability of a share as odd as that if the radius holds (two-sided, with the chance
               that lies in the calibration; a beta-binomial); the share of the third of the windows
               that is doubted most
    alike      the same of one radius for all windows, whatever is doubted
    rank       Spearman's correlation of each signal with the error, within each horizon
    detection  area under the curve of telling another recording's windows from the test windows by
               each signal of a path, or detector of what was seen, after so many agent steps, with
               an interval over windows
    """
    scale, windows = bench.scale, bench.far
    found = doubted(world, windows, scale, seed=seed)
    calibration_found = doubted(world, bench.calibration, scale, seed=seed + 1)
    calibration = calibrated(world, calibration_found)
    taught = choose(bench.recording, "train", windows.horizon, TAUGHT)
    head = fit(doubted(world, taught, scale, seed=seed + 2), seed=seed)
    own = signals(world, found, windows, scale, head, seed=seed)
    watch = lambda windows: watched(world, windows, scale, seed=seed)
    known = watch(bench.calibration)
    judge = lambda found, windows: detectors(watch(windows), known, found, calibration)
    usual, horizons = own | judge(found, windows), bench.horizons
    count = len(bench.calibration)
    report: dict[str, Any] = {
        "schema_version": SCHEMA,
        "task": bench.recording.task,
        "data": bench.recording.hash,
        "windows": {"calibration": count, "test": len(windows)},
        "coverage": _coverage(calibration, found, count, horizons),
        "alike": _coverage(calibrated_alike(calibration_found), found, count, horizons),
        "rank": {
            name: {h: _ranked(signal, found.error, windows, h) for h in horizons if says(signal, h)}
            for name, signal in own.items()
        },
        "others": {},
    }
    for name, other in others.items():
        theirs = doubted(world, other.far, scale, seed=seed)
        told = signals(world, theirs, other.far, scale, head, seed=seed)
        told |= judge(theirs, other.far)
        reach = [h for h in horizons if h <= other.far.horizon]
        report["others"][name] = {
            "coverage": _coverage(calibration, theirs, count, reach),
            "detection": {
                name: {
                    h: area(usual[name][:, h - 1], told[name][:, h - 1])
                    for h in reach
                    if h <= min(usual[name].shape[1], told[name].shape[1]) and says(usual[name], h)
                }
                for name in sorted(usual.keys() & told.keys())
            },
        }
    return report


def _coverage(
    calibration: Calibration, found: Doubted, count: int, horizons: list[int]
) -> dict[int, dict[str, float]]:
    steps = jnp.broadcast_to(jnp.arange(1, 1 + found.error.shape[1]), found.error.shape)
    radius = np.asarray(calibration.radius(steps, jnp.asarray(found.gathered)))
    held = found.error <= radius
    third = max(1, len(held) // 3)
    doubted_most = lambda h: np.argsort(found.gathered[:, h - 1], kind="stable")[-third:]
    return {
        h: {
            "held": float(held[:, h - 1].mean()),
            "held_doubted": float(held[doubted_most(h), h - 1].mean()),
            "radius": float(np.median(radius[:, h - 1])),
            "p": odd(int(held[:, h - 1].sum()), len(held), count),
        }
        for h in horizons
    }


def says(signal: np.ndarray, h: int) -> bool:
    """Whether a signal (W, H) says anything after so many agent steps."""
    return not np.isnan(signal[:, h - 1]).all()


def odd(held: int, windows: int, calibration: int) -> float:
    """Probability, two-sided, of so many new windows within a radius that is the k-th smallest of
    `calibration` errors, if old and new ones are exchangeable (Angelopoulos & Bates 2023)."""
    rank = int(np.ceil((calibration + 1) * SHARE))
    if rank > calibration:
        return 1.0
    law = betabinom(windows, rank, calibration + 1 - rank)
    return float(min(1.0, 2 * min(law.cdf(held), law.sf(held - 1))))


def _ranked(signal: np.ndarray, error: np.ndarray, windows: Windows, h: int) -> dict[str, float]:
    counts = resamples(windows.episode).astype(int)
    left, right = signal[:, h - 1], error[:, h - 1]
    right = np.where(np.isfinite(right), right, np.finfo(float).max)
    drawn = (np.repeat(np.arange(len(left)), row) for row in counts)
    return interval(np.array([spearman(left[rows], right[rows]) for rows in drawn]))


def area(usual: np.ndarray, odd_ones: np.ndarray, *, draws: int = 500) -> dict[str, float]:
    """Probability that one of the odd windows has a larger signal than a usual one, ties half."""
    rng = np.random.default_rng(0)
    found = [_area(usual, odd_ones)]
    for _ in range(draws):
        found.append(_area(rng.choice(usual, len(usual)), rng.choice(odd_ones, len(odd_ones))))
    return interval(np.array(found))


def _area(usual: np.ndarray, odd_ones: np.ndarray) -> float:
    ranks = rankdata(np.concatenate([odd_ones, usual]))[: len(odd_ones)]
    count = len(odd_ones)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(usual)))


def rows(report: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Result rows, x in agent steps; `scripts/table.py` adds the variant."""
    own = {"task": report["task"], "seed": seed, "unit": "share"}
    share = lambda what, h, value: (
        own | {"what": what, "x": h, "value": value, "lo": None, "hi": None}
    )
    found = []
    for name, what in (("coverage", "within_radius"), ("alike", "within_one_radius")):
        for h, one in report[name].items():
            found.append(share(what, h, one["held"]))
            found.append(share(f"{what}/doubted_most", h, one["held_doubted"]))
    for name, ranks in report["rank"].items():
        found += [own | {"what": f"rank/{name}", "x": h} | one for h, one in ranks.items()]
    for other, told in report["others"].items():
        found += [
            share(f"within_radius/{other}", h, one["held"]) for h, one in told["coverage"].items()
        ]
        for name, areas in told["detection"].items():
            found += [
                own | {"what": f"auroc/{name}/{other}", "x": h} | one for h, one in areas.items()
            ]
    return found


def table(report: dict[str, Any]) -> str:
    """As Markdown: what the radius covers, and how well each signal ranks."""
    horizons = [h for h in HORIZONS if h in report["coverage"] or str(h) in report["coverage"]]
    at = lambda found, h: found.get(h, found.get(str(h)))
    head = " | ".join(map(str, horizons))
    lines = [f"| agent steps | {head} |", "|---" * (len(horizons) + 1) + "|"]
    row = lambda name, values: lines.append(f"| {name} | {' | '.join(values)} |")
    shown = lambda found, h, name: f"{at(found, h)[name]:.2f}" if at(found, h) else "–"
    coverage = report["coverage"]
    row("median radius", [f"{at(coverage, h)['radius']:.3f}" for h in horizons])
    row("within it", [f"{at(coverage, h)['held']:.2f}" for h in horizons])
    row("p of that", [f"{at(coverage, h)['p']:.2f}" for h in horizons])
    row("within it, the most doubted third", [shown(coverage, h, "held_doubted") for h in horizons])
    alike = report["alike"]
    row("one radius for all", [f"{at(alike, h)['radius']:.3f}" for h in horizons])
    row("within that", [shown(alike, h, "held") for h in horizons])
    row("within that, the most doubted third", [shown(alike, h, "held_doubted") for h in horizons])
    for name, found in report["rank"].items():
        row(f"rank correlation, {name}", [shown(found, h, "value") for h in horizons])
    for other, found in report["others"].items():
        held = [shown(found["coverage"], h, "held") for h in horizons]
        row(f"within the radius, {other}", held)
        for name, areas in found["detection"].items():
            row(f"AUROC of {name}, {other}", [shown(areas, h, "value") for h in horizons])
    return "\n".join(lines) + "\n"
