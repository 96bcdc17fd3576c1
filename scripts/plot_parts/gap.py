"""What a manager's levels promise beside what is paid, over training."""

import numpy as np
from matplotlib.figure import Figure

from dreamer_h.train.evaluation.curves import Runs, common_steps, over_seeds

# rows, labels and colors
PROMISED = (
    ("return_manager", "level 1 promises", "#CC79A7"),
    ("return_imagined", "level 0 promises", "#0072B2"),
    ("return_real", "real", "#000000"),
)


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
            for points in seeds.values():
                thin = {"color": color, "linewidth": 0.7, "alpha": 0.45}
                axis.plot(sorted(points), [points[x].value for x in sorted(points)], **thin)
            steps = common_steps(seeds)
            of = [over_seeds([points[x] for points in seeds.values()]) for x in steps]
            mean, low, high = np.array(of).reshape(-1, 3).T
            if len(seeds) == 1:  # of several the lines of each say more
                axis.fill_between(steps, low, high, color=color, alpha=0.16, linewidth=0)
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
