"""Error against horizon as pictures: one simulator on a task, or several side by side."""

import math
from itertools import cycle, product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

GRAYS = {"mean": ":", "climatology": (0, (1, 1)), "persistence": "--", "linear": "-.",
         "nearest": (0, (5, 1))}  # fmt: skip
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# one look for each model: another marker behind every seven
LOOKS = [
    {"color": color, "marker": marker, "linewidth": 2.2, "markersize": 3.5}
    for marker, color in product(("o", "s", "^", "D", "v"), COLORS)
]
SATURATED = 2**0.5  # nrmse of a sample that knows nothing

Report = dict[str, Any]


def figure(reports: dict[str, Report]) -> Figure:
    """Median error and CRPS skill against seconds; yardsticks and floor of the first one's task."""
    first = next(iter(reports.values()))
    drawn = Figure(figsize=(10.5, 4.4), layout="constrained", dpi=110)
    error, skill = drawn.subplots(1, 2)
    _floor(error, first)
    for name, curves in first["yardsticks"].items():
        style = {"color": "0.55", "linestyle": GRAYS[name], "linewidth": 1.1}
        draw_curve(error, first, curves["nrmse_median"], name, **style)
    for (name, report), style in zip(reports.items(), cycle(LOOKS), strict=False):
        label = f"{name} (trusted {report['trusted']['0.5']['seconds']:.2g} s)"
        draw_curve(error, report, report["metrics"]["nrmse_median"], label, band=True, **style)
        draw_curve(skill, report, report["metrics"]["crps_skill"], name, band=True, **style)
    climate = first["yardsticks"]["climatology"]["crps"]
    for name, curves in first["yardsticks"].items():
        if name == "climatology":
            continue
        relative = {
            h: {"value": 1 - entry["value"] / climate[h]["value"]}
            for h, entry in curves["crps"].items()
            if _is_number(entry["value"])
        }
        style = {"color": "0.55", "linestyle": GRAYS[name], "linewidth": 1.1}
        draw_curve(skill, first, relative, name, **style)
    error.axhline(SATURATED, color="0.8", linewidth=0.8)
    error.set_ylim(1e-3, 3)
    error.set_yscale("log")
    error.set_ylabel("median error (training deviations)")
    error.set_title("point forecast", fontsize=10)
    skill.axhline(0, color="0.8", linewidth=0.8)
    skill.set_ylim(-1, 1)
    skill.set_ylabel("CRPS skill against climatology (1 is perfect)")
    skill.set_title("probabilistic forecast", fontsize=10)
    for axis in (error, skill):
        axis.set_xscale("log")
        axis.set_xlabel("seconds ahead")
        axis.grid(alpha=0.2, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    drawn.legend(*error.get_legend_handles_labels(), loc="outside right center", frameon=False,
                 fontsize=8)  # fmt: skip
    drawn.suptitle(
        f"{first['task']} ({first['behaviour']}): error against horizon, 95 % over episodes",
        fontsize=11,
    )
    return drawn


def _floor(axis: Axes, report: Report) -> None:
    floor = report["floor"]
    if floor is None:
        return
    seconds = report["seconds"]
    rounded = [max(_or_nan(floor["float32"][h]), 1e-9) for h in _keys(report)]
    axis.fill_between(seconds, 1e-9, rounded, color="0.9", linewidth=0, label="float32 floor")
    if "oracle_median" in floor:
        oracle = [_or_nan(floor["oracle_median"][h]) for h in _keys(report)]
        style = {"color": "black", "linewidth": 1.2, "linestyle": (0, (3, 1, 1, 1))}
        axis.plot(seconds, oracle, label="matched-noise oracle", **style)


def _keys(report: Report) -> list[Any]:
    """Horizons as the report's own keys: numbers, or their text once it was read from a file."""
    return list(report["metrics"]["crps_skill"])


def draw_curve(
    axis: Axes, report: Report, curve: dict, label: str, *, band: bool = False, **style: Any
) -> None:
    """A curve {horizon: {"value", "lo", "hi"}} of a report against seconds, with its intervals."""
    # horizons are numbers, or their text once the report was read from a file
    seconds = dict(zip(map(str, report["horizons"]), report["seconds"], strict=True))
    points = [(seconds[str(h)], entry) for h, entry in curve.items() if _is_number(entry["value"])]
    if not points:
        axis.plot([], [], label=label, **style)  # in the legend all the same
        return
    at, entries = zip(*points, strict=True)
    axis.plot(at, [entry["value"] for entry in entries], label=label, **style)
    if band:
        low, high = ([_or_nan(entry[side]) for entry in entries] for side in ("lo", "hi"))
        axis.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)


def table(reports: dict[str, Report]) -> str:
    """Markdown: median nrmse and CRPS skill at every horizon, and the trusted horizon."""
    first = next(iter(reports.values()))
    keys = _keys(first)
    ahead = [f"{h} ({s:g} s)" for h, s in zip(keys, first["seconds"], strict=True)]
    lines = [
        f"### {first['task']}, {first['behaviour']}",
        "",
        "Agent steps ahead (seconds). Median nRMSE, below it the CRPS skill; [95 % interval over "
        "episodes]; – is not finite.",
        "",
        "| model | " + " | ".join(ahead) + " | trusted, 0.5 |",
        "|---|" + "---|" * (len(ahead) + 1),
    ]
    for name, report in reports.items():
        metrics = report["metrics"]
        cells = [
            f"{_cell(metrics['nrmse_median'][h])}<br>{_cell(metrics['crps_skill'][h])}"
            for h in _keys(report)
        ]
        trusted = report["trusted"]["0.5"]
        cells.append(f"{trusted['agent_steps']} ({trusted['seconds']:.2g} s)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, curves in first["yardsticks"].items():
        cells = [_cell(curves["nrmse_median"][h]) for h in keys]
        lines.append(f"| {name} | " + " | ".join(cells) + " | |")
    return "\n".join(lines) + "\n"


def _cell(entry: dict[str, Any]) -> str:
    value, low, high = (
        f"{entry[name]:.3f}" if _is_number(entry[name]) else "–" for name in ("value", "lo", "hi")
    )
    return value if value == "–" else f"{value} [{low}, {high}]"


def _is_number(value: float | None) -> bool:
    """Reports that were read from a file have None where a number was not finite."""
    return value is not None and math.isfinite(value)


def _or_nan(value: float | None) -> float:
    """Matplotlib leaves gaps at what is not a number."""
    return value if value is not None and math.isfinite(value) else math.nan
