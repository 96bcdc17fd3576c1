"""Returns beside published ones and SAC: `python scripts/plot_returns.py results/<name>`.

Reads `summary.json` of the folder (rows `return_…` and `minutes`) and `results/reference/`; writes
`returns.png`, `table.md` and, of managers, `gap.png` into the folder. Works with whatever tasks,
variants, seeds and steps are there.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import envs
from dreamer_h.files import write_text
from dreamer_h.train.evaluation.curves import (
    Point,
    Reference,
    Runs,
    common_steps,
    over_seeds,
    read_reference,
    read_runs,
)

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
STEPS = (10_000, 25_000, 50_000, 100_000)  # env steps of the table
OURS = ("#0072B2", "#CC79A7", "#56B4E9", "#000000", "#999999")  # of variants, again if too few
COLORS = {"dreamerv3": "#E69F00", "tdmpc2": "#D55E00", "sac": "#009E73"}
MODE, SAMPLED = "-", (0, (4, 1.6))  # line styles: which policy is evaluated
# of the gap: rows, labels and colors
PROMISED = (
    ("return_manager", "level 1 promises", "#CC79A7"),
    ("return_imagined", "level 0 promises", "#0072B2"),
    ("return_real", "real", "#000000"),
)
References = dict[str, dict[str, list[Reference]]]


def draw(runs: dict[str, dict[str, Runs]], reference: References) -> Figure:
    """A row for each task: return against env steps, and against minutes."""
    colors = colors_of(runs)
    figure = Figure(figsize=(9.2, 3.0 * len(runs) + 1.1), layout="constrained", dpi=120)
    axes = figure.subplots(len(runs), 2, sharey=True, squeeze=False)
    for (task, variants), (left, right) in zip(runs.items(), axes, strict=True):
        last = max(STEPS[0], *(x for found in variants.values() for x in steps_of(found)))
        _draw_reference(left, right, reference.get(task, {}), last)
        for variant, found in variants.items():
            for what, style in (("return_sampled", SAMPLED), ("return_mode", MODE)):
                if found[what]:
                    label = f"dreamer_h {variant}, {what.removeprefix('return_')}"
                    look = {"color": colors[variant], "linestyle": style}
                    _draw_ours(left, right, found[what], found["minutes"], label, look)
        left.set_ylabel("return of an episode")
        seeds = {len(seeds) for found in variants.values() for seeds in found.values() if seeds}
        low, high = min(seeds), max(seeds)
        count = (
            f"{low} to {high} seeds" if low < high else f"{high} seeds" if high > 1 else "1 seed"
        )
        for axis in (left, right):
            if task in envs.tasks():  # returns of the suite's tasks are 0 to 1000
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


def colors_of(runs: dict[str, dict[str, Runs]]) -> dict[str, str]:
    """One for each variant, the same in every task."""
    names = dict.fromkeys(variant for variants in runs.values() for variant in variants)
    return {name: OURS[i % len(OURS)] for i, name in enumerate(names)}


def steps_of(found: Runs) -> set[int]:
    """Env steps at which anything was measured."""
    return {x for seeds in found.values() for points in seeds.values() for x in points}


def _draw_ours(left, right, seeds, minutes, label, look) -> None:
    label = f"{label} (mean of seeds, 95 % band)"
    thin, thick = look | {"linewidth": 0.7, "alpha": 0.45}, look | {"linewidth": 2.0}
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
        axis.fill_between(at, low, high, color=look["color"], alpha=0.16, linewidth=0)
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


def draw_gap(runs: dict[str, dict[str, Runs]]) -> Figure | None:
    """What a manager's levels promise beside what is paid, of each task that has one; else None."""
    shown = [
        (task, variant, found)
        for task, variants in runs.items()
        for variant, found in variants.items()
        if found["return_manager"]
    ]
    if not shown:
        return None
    columns = min(2, len(shown))
    count = -(-len(shown) // columns)
    size = (4.6 * columns, 2.8 * count + 0.5)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    axes = figure.subplots(count, columns, squeeze=False).ravel()
    for axis, (task, variant, found) in zip(axes, shown, strict=False):
        for what, label, color in PROMISED:
            seeds = found[what]
            steps = common_steps(seeds)
            of = [over_seeds([points[x] for points in seeds.values()]) for x in steps]
            mean, low, high = zip(*of, strict=True)
            if len(seeds) == 1:  # of several the lines of each say more
                axis.fill_between(steps, low, high, color=color, alpha=0.16, linewidth=0)
            for points in seeds.values():
                thin = {"color": color, "linewidth": 0.7, "alpha": 0.45}
                axis.plot(sorted(points), [points[x].value for x in sorted(points)], **thin)
            axis.plot(steps, mean, color=color, linewidth=2.0, label=label)
        axis.set_title(f"{task}, {variant}", loc="left", fontsize=10, fontweight="bold")
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
        axis.set_xlabel("env steps")
    axes[0].set_ylabel("discounted return of 64 agent steps")
    axes[0].legend(frameon=False, fontsize=8.5)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    return figure


def table(runs: dict[str, dict[str, Runs]], reference: References) -> str:
    """Markdown: per task, env step and variant ours, the published ones and SAC."""
    lines = [
        "Mean return, [95 % interval] and number of seeds. The interval is a bootstrap over seeds,",
        "of a single seed over its episodes. Where nothing was evaluated at an env step, the value",
        "is that of the nearest one, the earlier of two, and names it. DreamerV3 is of training",
        "episodes of the sampled policy (means around 25k, 50k and 100k); TD-MPC2 and SAC are of",
        "deterministic policies. Sources: `results/reference/`.",
    ]
    for task, variants in runs.items():
        known = reference.get(task, {})
        at = {
            name: {point.env_steps: point for point in known.get(name, [])}
            for name in ("dreamerv3", "dreamerv3_window", "tdmpc2", "sac")
        }
        lines += [
            "",
            f"### {task}",
            "",
            "| env steps | ours | ours, sampled | DreamerV3 | ours, mode | TD-MPC2 | SAC "
            "| ours, minutes | SAC, minutes |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for step, (variant, found) in itertools.product(STEPS, variants.items()):
            dreamer = at["dreamerv3_window"].get(step) or at["dreamerv3"].get(step)
            sac = at["sac"].get(step)
            cells = [
                f"{step // 1000}k",
                variant,
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


def save(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    # a palette: a third of the bytes, and git keeps every version
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def drawn(
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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="results/<name>, with a summary.json")
    parser.add_argument("--draw", nargs="+", metavar="VARIANT", help="of returns.png; else all")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder
    runs, reference = read_runs(folder), read_reference(REFERENCE)
    save(draw(drawn(runs, chosen.draw), reference), folder / "returns.png")
    gap = draw_gap(runs)
    if gap is not None:
        save(gap, folder / "gap.png")
    write_text(folder / "table.md", table(runs, reference))
    print(folder / "table.md")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
