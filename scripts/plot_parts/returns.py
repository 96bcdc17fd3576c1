"""Returns against env steps and against minutes, beside published ones."""

import numpy as np
from matplotlib.figure import Figure

import envs
from dreamer_h.train.evaluation.curves import Reference, Runs, common_steps, over_seeds
from plot_parts.table import STEPS

OURS = ("#0072B2", "#CC79A7", "#000000", "#999999", "#56B4E9")  # of variants, again if too few
COLORS = {"dreamerv3": "#E69F00", "tdmpc2": "#D55E00", "sac": "#009E73"}
MODE, SAMPLED = "-", (0, (4, 1.6))  # line styles: which policy is evaluated


def draw(
    runs: dict[str, dict[str, Runs]], reference: dict[str, dict[str, list[Reference]]]
) -> Figure:
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
