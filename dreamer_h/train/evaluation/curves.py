"""Returns over training: of the rows of a table, and published ones to hold them against."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamer_h.train.evaluation.evaluate import interval


@dataclass(frozen=True)
class Point:
    """One evaluation of one seed; the interval is over its episodes, where there is one."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Reference:
    """One published or measured point; minutes only where they are known."""

    env_steps: int
    value: float
    minutes: float | None = None


# of one variant: by what is measured, seed and env step
Runs = dict[str, dict[int, dict[int, Point]]]


def read_runs(folder: Path) -> dict[str, dict[str, Runs]]:
    """By task and variant, as `summary.json` of a table has them, variants in its order.

    Raises ValueError if it has no returns.
    """
    runs: dict[str, dict[str, Runs]] = {}
    for row in json.loads((folder / "summary.json").read_text()):
        what, x = row["what"], row["x"]
        if not what.startswith(("return_", "minutes", "attained/")):
            continue
        if x is None or row["value"] is None:
            continue
        new: Runs = defaultdict(lambda: defaultdict(dict))
        found = runs.setdefault(row["task"], {}).setdefault(row["variant"], new)
        found[what][row["seed"]][x] = Point(row["value"], row["lo"], row["hi"])
    some = lambda found: found["return_mode"] or found["return_sampled"]
    runs = {
        task: {variant: found for variant, found in variants.items() if some(found)}
        for task, variants in sorted(runs.items())
    }
    runs = {task: variants for task, variants in runs.items() if variants}
    if not runs:
        raise ValueError(f"{folder}/summary.json has no returns; run scripts/table.py first")
    return runs


def read_reference(folder: Path) -> dict[str, dict[str, list[Reference]]]:
    """By task, then "dreamerv3" (curve), "dreamerv3_window", "tdmpc2" and "sac"; in env steps."""
    found: dict[str, dict[str, list[Reference]]] = defaultdict(lambda: defaultdict(list))
    for row in _csv(folder / "published.csv"):
        name = row["method"] + ("_window" if row["how"] == "window" else "")
        found[row["task"]][name].append(Reference(int(row["env_steps"]), float(row["return"])))
    for row in _csv(folder / "sac.csv"):
        found[row["task"]]["sac"].append(
            Reference(int(row["env_steps"]), float(row["return"]), float(row["minutes"]))
        )
    return found


def _csv(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def over_seeds(points: list[Point]) -> tuple[float, float, float]:
    """Mean and its 95 % interval: bootstrap over seeds; of a single seed that over its episodes."""
    if len(points) == 1 and points[0].lo is not None and points[0].hi is not None:
        return points[0].value, points[0].lo, points[0].hi
    return interval(np.asarray([point.value for point in points]))


def common_steps(seeds: dict[int, dict[int, Point]]) -> list[int]:
    """Env steps at which every seed was evaluated: elsewhere a mean would jump with its seeds."""
    return sorted(set.intersection(*(set(points) for points in seeds.values())))


def of_variants(
    runs: dict[str, dict[str, Runs]], variants: list[str] | None
) -> dict[str, dict[str, Runs]]:
    """Of these variants alone, if any are named. Raises ValueError for one that there is not."""
    known = {variant for found in runs.values() for variant in found}
    if unknown := sorted({*(variants or ())} - known):
        raise ValueError(f"there is no variant {unknown[0]}; there are {', '.join(sorted(known))}")
    wanted = set(variants or known)
    some = {
        task: {variant: one for variant, one in found.items() if variant in wanted}
        for task, found in runs.items()
    }
    return {task: found for task, found in some.items() if found}
