"""A scored simulator on disk: `<name>.json`, and the errors of every window beside it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_h.files import replacing, write_json
from dreamer_h.horizon.scoring.score import Benchmark, Scored

# rows of a results folder: which metric of the report they are
ROWS = {
    "nrmse_median": "nrmse_median",
    "nrmse_rms": "nrmse_rms",
    "crps": "crps",
    "crps_skill": "crps_skill",
    "return": "return_error",
    "energy_distance": "energy_distance",
    "covered": "coverage90",
}
YARDSTICK_ROWS = ("nrmse_median", "nrmse_rms", "crps")


def save(folder: Path, report: dict[str, Any], scored: Scored, bench: Benchmark) -> None:
    """The report, and per-window errors at the table's horizons: float16, float32 where those are
    too large for it."""
    folder.mkdir(parents=True, exist_ok=True)
    place = [h - 1 for h in bench.horizons]
    close = [h - 1 for h in bench.horizons if h <= bench.near.horizon]
    arrays: dict[str, Any]
    arrays = {f"far/{name}": errors[:, place] for name, errors in scored.far.items()}
    arrays |= {f"near/{name}": errors[:, close] for name, errors in scored.near.items()}
    arrays = {name: _small(array) for name, array in arrays.items()}
    arrays |= {"far_episode": bench.far.episode, "near_episode": bench.near.episode}
    arrays |= {"far_start": bench.far.start, "near_start": bench.near.start}
    with replacing(folder / f"{report['model']}.npz") as file:
        np.savez_compressed(file, **arrays)
    write_json(folder / f"{report['model']}.json", finite(report))


def _small(array: np.ndarray) -> np.ndarray:
    largest = np.abs(array, where=np.isfinite(array), out=np.zeros(array.shape)).max(initial=0.0)
    return array.astype(np.float16 if largest < np.finfo(np.float16).max else np.float32)


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """The reports of a folder by model. Raises ValueError if there are none."""
    reports = {}
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        if isinstance(found, dict) and "trusted" in found and "metrics" in found:
            reports[found["model"]] = found
    if not reports:
        raise ValueError(
            f"{folder} holds no scored simulator; `scripts/horizon.py score` makes one"
        )
    return reports


def rows(report: dict[str, Any], seed: int | None) -> list[dict[str, Any]]:
    """Result rows, x in agent steps; `scripts/table.py` adds the variant.

    Yardsticks and rounding are variants of their own, without a seed.
    """
    own = {"task": report["task"], "seed": seed}
    metrics, floor = report["metrics"], report["floor"] or {}
    named = ROWS | {name: f"slow_error/{name[5:]}" for name in metrics if name.startswith("slow/")}
    found = []
    for metric, what in named.items():
        if what == "coverage90" and report["samples"] != 19:
            continue
        found += _rows(what, own, metrics.get(metric, {}))
    for name, curves in report["yardsticks"].items():
        yardstick = {**own, "seed": None, "variant": name}
        for what in YARDSTICK_ROWS:
            found += _rows(what, yardstick, curves[what])
    trusted = report["trusted"]["0.5"]
    row = _single("trusted_horizon", own, trusted["agent_steps"], "agent steps, tolerance 0.5")
    found.append({**row, "lo": trusted["lo"], "hi": trusted["hi"]})
    plain = lambda name: {h: {"value": value} for h, value in floor.get(name, {}).items()}
    found += _rows("compounding_ratio", own, floor.get("compounding", {}))
    for name in ("oracle_median", "oracle_rms"):
        found += _rows(name, own, plain(name))
    rounding = {**own, "seed": None, "variant": "float32"}
    found += _rows("nrmse_median", rounding, plain("float32"))
    if "efficiency" in floor:
        found.append(_single("efficiency", own, floor["efficiency"]["0.5"], "ratio"))
    if "saturation" in floor:
        found.append(_single("saturation", own, floor["saturation"], "agent steps"))
    if "lyapunov" in floor:
        low, value, high = (floor["lyapunov"][q] for q in ("q25", "median", "q75"))
        row = _single("lyapunov", rounding, value, "1/s; lo and hi are quartiles over windows")
        found.append({**row, "lo": low, "hi": high})
    return finite(found)


def _rows(what: str, own: dict[str, Any], curve: dict[Any, dict]) -> list[dict[str, Any]]:
    return [
        {"what": what, **own, "x": int(h), **_numbers(entry), "unit": _unit(what)}
        for h, entry in curve.items()
    ]


def _unit(what: str) -> str:
    other = {"crps_skill": "ratio", "compounding_ratio": "ratio", "coverage90": "share",
             "return_error": "return"}  # fmt: skip
    return other.get(what, "training deviations")


def _numbers(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in ("value", "lo", "hi")}


def _single(what: str, own: dict[str, Any], value: float | int, unit: str) -> dict[str, Any]:
    return {"what": what, **own, "x": None, "value": value, "lo": None, "hi": None, "unit": unit}


def finite(tree: Any) -> Any:
    """With null where a number is not finite: JSON has no other word for it."""
    if isinstance(tree, dict):
        return {name: finite(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
