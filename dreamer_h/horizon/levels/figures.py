"""The levels of a simulator next to each other, as a picture and a table."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73")
WAYS = {
    "steps_from_true": "steps,\ntrue", "jump_from_true": "jump,\ntrue",
    "steps_from_predicted": "steps,\npredicted", "jump_from_predicted": "jump,\npredicted",
}  # fmt: skip


def figure(found: dict[str, Any], title: str) -> Figure:
    """Error over time, over applications, by phase, and at the ends of segments."""
    drawn = Figure(figsize=(11, 6.4), layout="constrained", dpi=110)
    (time, number), (phase, ends) = drawn.subplots(2, 2)
    for level, name in enumerate(sorted(found["matched"])):
        curve = found["matched"][name]
        value = [e["value"] if isinstance(e, dict) else e for e in curve["crps"]]
        style = {"color": COLORS[level % len(COLORS)], "marker": "o" if level else None,
                 "markersize": 3, "label": f"level {level}"}  # fmt: skip
        time.plot(np.array(curve["steps"]) * found["dt"], value, **style)
        number.plot(curve["applications"], value, **style)
    time.set_xlabel("seconds ahead")
    time.set_title("each level alone, at the same time", fontsize=10)
    number.set_xlabel("applications of the model")
    number.set_title("… after as many applications", fontsize=10)
    for axis in (time, number):
        axis.set_xscale("log")
        axis.legend(frameon=False, fontsize=8)
    for name, color in (("true", "0.4"), ("predicted", COLORS[1])):
        value = [entry["value"] for entry in found["phase"][name]]
        _band(phase, np.arange(1, len(value) + 1), found["phase"][name], color, f"{name} anchors")
    phase.set_xlabel("step inside the segment")
    phase.set_title("filled by level 0 (a saw-tooth if the ends differ)", fontsize=10)
    phase.legend(frameon=False, fontsize=8)
    for place, name in enumerate(WAYS):
        entry = found["two_by_two"][name]
        low, high = entry["value"] - entry["lo"], entry["hi"] - entry["value"]
        color = COLORS[0] if name.startswith("steps") else COLORS[1]
        ends.bar(place, entry["value"], yerr=[[low], [high]], color=color, width=0.6)
    ends.set_xticks(range(len(WAYS)), list(WAYS.values()), fontsize=8)
    ends.set_title("at the ends of segments, by start", fontsize=10)
    for axis in (time, number, phase, ends):
        axis.set_ylabel("CRPS (training deviations)", fontsize=8)
        axis.grid(alpha=0.2, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_ylim(bottom=0)
    drawn.suptitle(title, fontsize=11)
    return drawn


def _band(axis, x, entries: list[dict[str, float]], color: str, label: str) -> None:
    axis.plot(x, [e["value"] for e in entries], color=color, marker="o", markersize=3, label=label)
    axis.fill_between(
        x, [e["lo"] for e in entries], [e["hi"] for e in entries], color=color, alpha=0.2,
        linewidth=0,
    )  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The numbers that the picture does not show, as Markdown."""
    shown = lambda e: f"{e['value']:.3f} [{e['lo']:.3f}, {e['hi']:.3f}]"
    lines = ["| what | value |", "|---|---|"]
    for one in found["crossover"]:
        steps = "none" if one["steps"] is None else f"{one['steps']} agent steps"
        lines.append(f"| crossover of level {one['level']} | {steps} [{one['lo']}, {one['hi']}] |")
    lines.append(f"| jump gain | {shown(found['jump_gain'])} |")
    lines += [f"| CRPS, {name.replace('_', ' ')} | {shown(entry)} |"
              for name, entry in found["two_by_two"].items()]  # fmt: skip
    agreement = found["consistency"]
    lines.append(f"| distance of waypoint and filled step | {shown(agreement['distance'])} |")
    lines.append(f"| its rank correlation with the error | {agreement['rank_correlation']:.2f} |")
    macro = found["macro"]
    perplexity = ", ".join(f"{p:.1f}" for p in macro["perplexity"])
    lines.append(f"| perplexity of the macro code, of 5 | {perplexity} |")
    lines += [f"| nats of the next observation, knowing {name} | {shown(entry)} |"
              for name, entry in macro["nats"].items()]  # fmt: skip
    cost = found["cost"]
    lines += [f"| sequential cells, {name.replace('_', ' ')} | {count} |"
              for name, count in cost["cells"].items()]  # fmt: skip
    for name, entry in cost.items():
        if name.startswith("ms_per_second"):
            starts = name.split("/")[1]
            text = ", ".join(f"{way.replace('_', ' ')} {ms:.2f}" for way, ms in entry.items())
            lines.append(f"| ms a simulated second, {starts} starts | {text} |")
    return "\n".join(lines) + "\n"
