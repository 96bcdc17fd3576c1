"""Scored simulators on many tasks at once: who is better, up to which horizon, on how many."""

import math
from collections import Counter
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from dreamer_h.horizon.scoring.figures import LOOKS, Report, draw_curve

Tasks = dict[str, dict[str, Report]]  # task -> model -> report

NEAR = 8  # agent steps: before it a rival may be better
COLUMNS = 4


def verdict(task: dict[str, Report], model: str, rival: str) -> dict[str, Any]:
    """Of one task: is `model` as good as `rival`, and better than knowing the climate only.

    "worse": horizons (agent steps) from 8 to the oracle's saturation at which the median nrmse is
    above the rival's; "no_skill": horizons at which the CRPS is not below climatology's.
    Raises ValueError if one of both was not scored.
    """
    for name in (model, rival):
        if name not in task:
            raise ValueError(f"{name} was not scored; there are {', '.join(sorted(task))}")
    own, other = task[model], task[rival]
    floor = own["floor"] or {}
    saturation = floor.get("saturation") or max(own["horizons"])
    climate = own["yardsticks"]["climatology"]["crps"]
    worse, no_skill = [], []
    for h in own["horizons"]:
        if NEAR <= h <= saturation and not _at(own, "nrmse_median", h) <= _at(
            other, "nrmse_median", h
        ):
            worse.append(h)
        if not _at(own, "crps", h) < _value(climate, h):
            no_skill.append(h)
    return {"saturation": saturation, "worse": worse, "no_skill": no_skill}


def table(tasks: Tasks, model: str, rival: str) -> str:
    """Markdown: both verdicts of every task, and on how many both are favourable."""
    lines = [
        f"Is {model} as good as {rival} (median nRMSE) at every horizon from {NEAR} agent steps to "
        "the oracle's saturation, and is its CRPS below climatology's at every horizon? Point "
        "estimates; intervals are in the tasks' own tables.",
        "",
        f"| task | saturation | {model} / {rival} at {NEAR} | worse at | no skill at | both |",
        "|---|---|---|---|---|---|",
    ]
    kept = 0
    for name, task in tasks.items():
        found = verdict(task, model, rival)
        both = not found["worse"] and not found["no_skill"]
        kept += both
        pair = " / ".join(f"{_at(task[m], 'nrmse_median', NEAR):.3f}" for m in (model, rival))
        listed = (", ".join(map(str, found[key])) or "–" for key in ("worse", "no_skill"))
        cells = [name, str(found["saturation"]), pair, *listed, "yes" if both else "no"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Both hold on {kept} of {len(tasks)} tasks."]) + "\n"


def figure(tasks: Tasks) -> Figure:
    """A panel for each task: median error against seconds, the oracle and the mean for scale.

    Of the models that most tasks have: what was scored on few is in their own figures.
    """
    lines = math.ceil(len(tasks) / COLUMNS)
    drawn = Figure(figsize=(12, 0.8 + 2.7 * lines), layout="constrained", dpi=100)
    panels = drawn.subplots(lines, COLUMNS, squeeze=False, sharey=True).flat
    times = Counter(name for task in tasks.values() for name in task)
    models = [name for name, count in times.items() if 2 * count > len(tasks)]
    look = dict(zip(models, cycle(LOOKS), strict=False))
    panels = iter(panels)
    for (name, task), panel in zip(tasks.items(), panels, strict=False):
        first = next(iter(task.values()))
        draw_curve(panel, first, first["yardsticks"]["mean"]["nrmse_median"], "training mean",
                   color="0.6", linestyle=":", linewidth=1.2)  # fmt: skip
        oracle = (first["floor"] or {}).get("oracle_median")
        if oracle:
            curve = {h: {"value": value} for h, value in oracle.items()}
            draw_curve(panel, first, curve, "physics, as wrong after one step", color="black",
                       linestyle=(0, (3, 1, 1, 1)), linewidth=1.2)  # fmt: skip
        for model in filter(task.__contains__, models):
            curve = task[model]["metrics"]["nrmse_median"]
            draw_curve(panel, task[model], curve, model, **look[model])
        panel.set(title=name, xscale="log", yscale="log", ylim=(1e-3, 3))
        panel.grid(alpha=0.2, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels):  # those that the loop left over
        panel.set_visible(False)
    drawn.supxlabel("seconds ahead")
    drawn.supylabel("median error (training deviations)")
    labels = {}
    for panel in drawn.axes:
        handles, names = panel.get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
    drawn.legend(labels.values(), labels.keys(), loc="outside upper center", frameon=False,
                 ncols=min(5, len(labels)))  # fmt: skip
    return drawn


def _at(report: Report, metric: str, h: int) -> float:
    return _value(report["metrics"][metric], h)


def _value(curve: dict, h: int) -> float:
    """A report knows its horizons by number, or by their text once it was read from a file."""
    value = curve[h if h in curve else str(h)]["value"]
    return math.inf if value is None else value
