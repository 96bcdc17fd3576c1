"""Returns beside published ones and SAC: `python scripts/plot_returns.py results/<name>`.

Reads `summary.json` of the folder (rows `return_mode`, `return_sampled` and `minutes` of variant
flat) and `results/reference/`; writes `returns.png` and `table.md` into the folder. Works with
whatever tasks, seeds and steps are there.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dreamer_h.files import replacing
from dreamer_h.train.evaluate import interval

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
STEPS = (10_000, 25_000, 50_000, 100_000)  # env steps of the table
COLORS = {"ours": "#0072B2", "dreamerv3": "#E69F00", "tdmpc2": "#D55E00", "sac": "#009E73"}
MODE, SAMPLED = "-", (0, (4, 1.6))  # line styles: which policy is evaluated


@dataclass(frozen=True)
class Point:
    """One evaluation of one seed; the interval is over its episodes."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Reference:
    """One published or measured point; minutes only where they are known."""

    env_steps: int
    value: float
    minutes: float | None = None


# by what is measured, seed and env step
Runs = dict[str, dict[int, dict[int, Point]]]


def read_runs(folder: Path) -> dict[str, Runs]:
    """The flat runs of each task. Raises ValueError if the folder has none."""
    runs: dict[str, Runs] = {}
    for row in json.loads((folder / "summary.json").read_text()):
        what, x = row["what"], row["x"]
        wanted = what in ("return_mode", "return_sampled", "minutes") and row["variant"] == "flat"
        if not wanted or x is None or row["value"] is None:
            continue
        task = runs.setdefault(row["task"], defaultdict(lambda: defaultdict(dict)))
        task[what][row["seed"]][x] = Point(row["value"], row["lo"], row["hi"])
    runs = {
        task: found
        for task, found in sorted(runs.items())
        if found["return_mode"] or found["return_sampled"]
    }
    if not runs:
        raise ValueError(
            f"{folder}/summary.json has no returns of variant flat; run scripts/table.py first"
        )
    return runs


def read_reference(folder: Path = REFERENCE) -> dict[str, dict[str, list[Reference]]]:
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


def draw(runs: dict[str, Runs], reference: dict[str, dict[str, list[Reference]]]) -> Figure:
    """A row for each task: return against env steps, and against minutes."""
    figure = Figure(figsize=(9.2, 3.0 * len(runs) + 1.1), layout="constrained", dpi=120)
    axes = figure.subplots(len(runs), 2, sharey=True, squeeze=False)
    for (task, found), (left, right) in zip(runs.items(), axes, strict=True):
        last = max(x for what in found.values() for points in what.values() for x in points)
        last = max(last, STEPS[-1])
        _draw_reference(left, right, reference.get(task, {}), last)
        for what, style in (("return_sampled", SAMPLED), ("return_mode", MODE)):
            if found[what]:
                _draw_ours(left, right, found[what], found["minutes"], what, style)
        left.set_ylabel("return of an episode")
        seeds = max(map(len, found.values()))
        count = f"{seeds} seeds" if seeds > 1 else "1 seed"
        for axis in (left, right):
            axis.set_ylim(0, 1000)
            axis.set_title(f"{task}, {count}", loc="left", fontsize=10, fontweight="bold")
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
        left.set_xlim(-0.02 * last, 1.03 * last)
        right.set_xlim(left=0)
        left.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    axes[-1][0].set_xlabel("env steps")
    axes[-1][1].set_xlabel("minutes of training (published curves have none)")
    labels = {}
    for axis in axes.flat:
        lines, names = axis.get_legend_handles_labels()
        labels |= dict(zip(names, lines, strict=True))
    order = sorted(labels, key=lambda label: ("dreamer_h" not in label, "SAC" in label, label))
    figure.legend(
        [labels[label] for label in order],
        order,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8.5,
        handlelength=2.6,
    )
    return figure


def _draw_ours(left, right, seeds, minutes, what, style) -> None:
    color = COLORS["ours"]
    policy = what.removeprefix("return_")
    label = f"dreamer_h, {policy} (mean of seeds, 95 % band)"
    thin = {"color": color, "linestyle": style, "linewidth": 0.7, "alpha": 0.45}
    thick = {"color": color, "linestyle": style, "linewidth": 2.0}
    if len(seeds) > 1:
        for seed, points in seeds.items():
            steps = sorted(points)
            left.plot(steps, [points[x].value for x in steps], **thin)
            timed = [x for x in steps if x in minutes[seed]]
            times = [minutes[seed][x].value for x in timed]
            right.plot(times, [points[x].value for x in timed], **thin)
    steps = common_steps(seeds)
    timed = [x for x in steps if all(x in minutes[seed] for seed in seeds)]
    for axis, chosen in ((left, steps), (right, timed)):
        if not chosen:
            continue
        at = chosen
        if axis is right:
            at = [np.mean([minutes[seed][x].value for seed in seeds]) for x in chosen]
        mean, low, high = zip(
            *(over_seeds([points[x] for points in seeds.values()]) for x in chosen), strict=True
        )
        axis.fill_between(at, low, high, color=color, alpha=0.16, linewidth=0)
        axis.plot(at, mean, label=label, **thick)


def _draw_reference(left, right, reference, last) -> None:
    def upto(name):
        return [point for point in reference.get(name, []) if point.env_steps <= last]

    if curve := upto("dreamerv3"):
        left.plot(
            [point.env_steps for point in curve],
            [point.value for point in curve],
            color=COLORS["dreamerv3"],
            linestyle=SAMPLED,
            linewidth=1.6,
            label="DreamerV3, sampled (published)",
        )
    if exact := upto("tdmpc2"):
        left.plot(
            [point.env_steps for point in exact],
            [point.value for point in exact],
            color=COLORS["tdmpc2"],
            linestyle="none",
            marker="D",
            markersize=6,
            clip_on=False,
            zorder=3,
            label="TD-MPC2, mode (published points)",
        )
    if sac := upto("sac"):
        style = {"color": COLORS["sac"], "linestyle": MODE, "linewidth": 1.4, "marker": "o"}
        label = "SAC (Stable-Baselines3), mode, 1 seed"
        values = [point.value for point in sac]
        left.plot([point.env_steps for point in sac], values, markersize=4, label=label, **style)
        right.plot([point.minutes for point in sac], values, markersize=4, label=label, **style)


def table(runs: dict[str, Runs], reference: dict[str, dict[str, list[Reference]]]) -> str:
    """Markdown: per task and env step ours, the published ones and SAC."""
    lines = [
        "Mean return, [95 % interval] and number of seeds. The interval is a bootstrap over seeds,",
        "of a single seed over its episodes. Where nothing was evaluated at an env step, the value",
        "is that of the nearest one, the earlier of two, and names it. DreamerV3 is of training",
        "episodes of the sampled policy (means around 25k, 50k and 100k); TD-MPC2 and SAC are of",
        "deterministic policies. Sources: `results/reference/`.",
    ]
    for task, found in runs.items():
        lines += [
            "",
            f"### {task}",
            "",
            "| env steps | ours, sampled | DreamerV3 | ours, mode | TD-MPC2 | SAC "
            "| ours, minutes | SAC, minutes |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for step in STEPS:
            known = reference.get(task, {})
            at = {
                name: {point.env_steps: point for point in known.get(name, [])}
                for name in ("dreamerv3", "dreamerv3_window", "tdmpc2", "sac")
            }
            dreamer = at["dreamerv3_window"].get(step) or at["dreamerv3"].get(step)
            sac = at["sac"].get(step)
            cells = [
                f"{step // 1000}k",
                ours(found["return_sampled"], step),
                _number(dreamer and dreamer.value),
                ours(found["return_mode"], step),
                _number(at["tdmpc2"][step].value if step in at["tdmpc2"] else None),
                _number(sac and sac.value),
                ours(found["minutes"], step, digits=1),
                _number(sac and sac.minutes, digits=1),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def ours(seeds: dict[int, dict[int, Point]], step: int, *, digits: int = 0) -> str:
    """A cell: the seeds at the evaluated env step nearest to `step`; a dash if it is far."""
    steps = sorted({x for points in seeds.values() for x in points})
    if not steps:
        return "–"
    nearest = min(steps, key=lambda x: abs(x - step))
    if abs(nearest - step) > step / 4:  # another point of the curve: not this one's number
        return "–"
    points = [found[nearest] for found in seeds.values() if nearest in found]
    where = "" if nearest == step else f" at {nearest / 1000:g}k"
    mean, low, high = over_seeds(points)
    if points[0].lo is None:  # minutes have no interval
        return f"{mean:.{digits}f}{where}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] ({len(points)}){where}"


def _number(value: float | None, *, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="results/<name>, with a summary.json")
    folder = parser.parse_args(arguments).folder
    runs, reference = read_runs(folder), read_reference()
    figure = draw(runs, reference)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    # a palette: a third of the bytes, and git keeps every version
    picture.quantize(128, dither=Image.Dither.NONE).save(folder / "returns.png", optimize=True)
    with replacing(folder / "table.md") as file:
        file.write(table(runs, reference).encode())
    print(f"{folder / 'returns.png'}\n{folder / 'table.md'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
