"""The open-loop picture: real against imagined over time."""

import numpy as np
from matplotlib.figure import Figure

from dreamer_h.train.evaluation.openloop import OpenLoop

SIGNALS = 7  # observation signals drawn beside the reward
COLUMNS = 8  # images of a path of pixels
MARKS = ("D", "s", "^")  # of the waypoints of level 1, 2, …


def picture(loop: OpenLoop) -> Figure:
    """Signals for states; real, imagined and error for pixels; with the waypoints marked."""
    return _frames(loop) if loop.obs.ndim == 4 else _signals(loop)


def _signals(loop: OpenLoop) -> Figure:
    # the liveliest signals say most
    shown = np.sort(np.argsort(-loop.obs.std(axis=0), kind="stable")[:SIGNALS])
    columns = 2
    rows = -(-(len(shown) + 1) // columns)
    figure = Figure(figsize=(9, 1.5 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    seconds = np.arange(len(loop.obs)) * loop.dt
    panels = [("reward", loop.reward, loop.imagined_reward, None)]
    panels += [(loop.names[i], loop.obs[:, i], loop.imagined[:, :, i], i) for i in shown]
    for axis, (name, truth, samples, entry) in zip(axes, panels, strict=False):
        ahead = seconds[loop.context :]
        low, high = samples.min(axis=0), samples.max(axis=0)
        axis.fill_between(ahead, low, high, color="C1", alpha=0.25, linewidth=0)
        axis.plot(ahead, samples.mean(axis=0), color="C1", label="imagined (mean, range)")
        start = 1 if name == "reward" else 0  # nothing is earned by beginning
        axis.plot(seconds[start:], truth[start:], color="black", linewidth=1, label="real")
        for mark in loop.marks if entry is not None else ():
            axis.plot(
                (loop.context + mark.steps) * loop.dt, mark.obs[:, :, entry].mean(axis=0),
                MARKS[mark.level - 1], color=f"C{1 + mark.level}", markersize=3,
                label=f"waypoints of level {mark.level}",
            )  # fmt: skip
        axis.axvline(seconds[loop.context], color="gray", linestyle=":", linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(panels) - columns) : len(panels)]:
        axis.set_xlabel("seconds", fontsize=8)
    axes[min(1, len(panels) - 1)].legend(fontsize=7, frameon=False)
    figure.suptitle("open loop: no observation right of the dotted line", fontsize=10)
    return figure


def _frames(loop: OpenLoop) -> Figure:
    ahead = loop.imagined.shape[1]
    shown = np.linspace(0, ahead - 1, COLUMNS).round().astype(int)
    stood = {int(step): mark.level for mark in loop.marks for step in mark.steps}
    mean = loop.imagined.mean(axis=0)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(3, len(shown))
    for column, i in enumerate(shown):
        truth, guess = loop.obs[loop.context + i].astype(np.float32), mean[i]
        error = np.abs(truth - guess).mean(axis=-1)
        axes[0, column].imshow(truth.astype(np.uint8))
        axes[1, column].imshow(np.clip(guess, 0, 255).astype(np.uint8))
        axes[2, column].imshow(error, cmap="magma", vmin=0, vmax=128)
        at = f", level {stood[i]}" if i in stood else ""
        axes[0, column].set_title(f"+{i * loop.dt:.2f} s{at}", fontsize=8)
    for row, name in enumerate(("real", "imagined", "error")):
        axes[row, 0].set_ylabel(name, fontsize=9)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"open loop after {loop.context} steps of context", fontsize=10)
    return figure
