"""Error against horizon while a run trains: its simulator on the evaluation's episodes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dreamer_h.horizon.levels import crossover
from dreamer_h.horizon.levels.crossover import Crossover
from dreamer_h.horizon.recorded.layout import Field
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import CONTEXT, HORIZONS, Windows, cut
from dreamer_h.horizon.scoring import trust
from dreamer_h.horizon.scoring.metrics import errors
from dreamer_h.horizon.scoring.score import SAMPLES, ask
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.simulators.yardsticks import Climatology
from dreamer_h.horizon.trust.calibrate import (
    LEAST,
    calibrated,
    doubted,
    doubted_jumps,
    trusted_doubt,
)
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

TOLERANCE = 0.5  # training deviations
KEPT = 50  # replayed episodes, the newest, that deviations and climatology are taken from


def measure(
    world: AnyWorld, episodes: list[Episode], replayed: Iterable[Any], layout: tuple[Field, ...]
) -> dict[str, np.ndarray] | None:
    """(H,) curves `crps_skill`, `nrmse` (median) and `radius` over one window an episode.

    The episodes were never trained on; what they are held against is the replay's. The curves reach
    as far as half of the episodes, and as so many that there are radii, where there are so many;
    the shorter ones are left out. None where nothing can be
    said: no replayed episode, none long enough, nothing that moves.
    """
    replayed = list(replayed)[-KEPT:]
    held_out = _held_out(episodes, replayed, layout)
    if held_out is None:
        return None
    windows, scale = held_out
    simulators = {"world": LatentSimulator(world), "climate": Climatology.fit(replayed, scale)}
    found = {
        name: errors(ask(simulator, {"far": windows})["far"], windows, scale)
        for name, simulator in simulators.items()
    }
    return {
        "crps_skill": 1
        - found["world"]["crps"].mean(axis=0) / found["climate"]["crps"].mean(axis=0),
        "nrmse": np.median(found["world"]["nrmse"], axis=0),
        "radius": trust.conformal_radius(found["world"]["nrmse"]),
    }


def crossovers(
    world: Hierarchy, episodes: list[Episode], replayed: Iterable[Any], layout: tuple[Field, ...]
) -> list[Crossover]:
    """Where each upper level begins to be worth its jumps, on the windows of `measure`; none where
    nothing can be said."""
    held_out = _held_out(episodes, list(replayed)[-KEPT:], layout)
    return [] if held_out is None else crossover.measured(world, *held_out, samples=SAMPLES)


def measured_trust(
    world: AnyWorld,
    episodes: list[Episode],
    replayed: Iterable[Any],
    layout: tuple[Field, ...],
    tolerance: float,
) -> tuple[Calibration, list[float]] | None:
    """Radii of level 0 on the windows of `measure`, and the doubt along a path up to which it, and
    level 1 where there is one, stays within the tolerance; None where nothing can be said."""
    held_out = _held_out(episodes, list(replayed)[-KEPT:], layout)
    if held_out is None or len(held_out[0]) < LEAST:
        return None
    found = doubted(world, *held_out)
    several = [found]
    if isinstance(world, Hierarchy):
        several.append(doubted_jumps(world, *held_out))
    return calibrated(world, found), [trusted_doubt(one, tolerance) for one in several]


def _held_out(
    episodes: list[Episode], replayed: list[Any], layout: tuple[Field, ...]
) -> tuple[Windows, Scale] | None:
    lengths = sorted((len(episode.action) for episode in episodes), reverse=True)
    half, enough = (len(lengths) + 1) // 2, LEAST if len(lengths) >= LEAST else 0
    longest = (lengths[max(half, enough) - 1] if lengths else 0) - CONTEXT
    horizons = [h for h in HORIZONS if h <= longest]
    if not replayed or not horizons:
        return None
    try:
        scale = Scale.fit(replayed, layout)
    except ValueError:  # nothing that is seen ever changes: there is nothing to predict
        return None
    reach = [episode for episode in episodes if len(episode.action) >= CONTEXT + horizons[-1]]
    places = [(number, episode, CONTEXT) for number, episode in enumerate(reach)]
    return cut(places, horizons[-1]), scale


def scalars(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """Of the table's horizons, and the accurate horizon in agent steps if there are windows enough
    for a radius."""
    length = len(curves["nrmse"])
    found = {
        f"horizon/{name}/h{h}": float(curves[name][h - 1])
        for name in ("crps_skill", "nrmse")
        for h in HORIZONS
        if h <= length
    }
    if np.isfinite(curves["radius"]).any():
        accurate = trust.accurate(curves["radius"], TOLERANCE)
        found["horizon/trusted"] = float(trust.first_failure(accurate))
    return found


def picture(curves: dict[str, np.ndarray], dt: float) -> Figure:
    """The curves over seconds."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    seconds = dt * np.arange(1, len(curves["nrmse"]) + 1)
    left.plot(seconds, curves["nrmse"], label="median")
    left.plot(seconds, curves["radius"], label="conformal 90 %", linestyle="--")
    left.axhline(TOLERANCE, color="gray", linewidth=0.8, linestyle=":")
    left.set_ylabel("nRMSE")
    left.set_yscale("log")
    left.legend(fontsize=8, frameon=False)
    right.plot(seconds, curves["crps_skill"])
    right.axhline(0, color="gray", linewidth=0.8, linestyle=":")
    right.set_ylabel("CRPS skill")
    right.set_ylim(-1, 1)
    for axis in (left, right):
        axis.set_xlabel("seconds ahead")
        axis.set_xscale("log")
        axis.grid(alpha=0.2)
    figure.suptitle(f"open loop on evaluation episodes, {SAMPLES} samples", fontsize=10)
    return figure
