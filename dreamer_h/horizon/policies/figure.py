"""What policies were promised against what they were paid, as a picture."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dreamer_h.horizon.scoring.figures import COLORS


def picture(found: dict[str, Any], ages: dict[str, int], title: str) -> Figure:
    """A point a policy with 95 % over windows, from what `decisions.judge` found: a colour a run,
    whose policies are named `<run>/<snapshot>`, and larger the longer it was trained (`ages`)."""
    drawn = Figure(figsize=(4.6, 4.2), layout="constrained", dpi=110)
    axis = drawn.subplots()
    loops, oldest = found["closed_loop"], max(ages.values())
    runs = list(dict.fromkeys(name.partition("/")[0] for name in loops))
    bars = lambda one: [[one["value"] - one["lo"]], [one["hi"] - one["value"]]]
    for name, loop in loops.items():
        run = name.partition("/")[0]
        promised, paid = loop["return_imagined"], loop["return_real"]
        axis.errorbar(
            paid["value"], promised["value"], bars(promised), bars(paid), fmt="o",
            color=COLORS[runs.index(run) % len(COLORS)], markersize=3 + 5 * ages[name] / oldest,
            linewidth=0.8, alpha=0.8,
        )  # fmt: skip
    for number, run in enumerate(runs):
        axis.plot([], [], "o", color=COLORS[number % len(COLORS)], label=f"run {run}")
    ends = np.array([axis.get_xlim(), axis.get_ylim()])
    axis.axline((ends.min(), ends.min()), slope=1, color="gray", linewidth=0.8, linestyle=":")
    axis.set_xlabel("paid in reality")
    axis.set_ylabel("promised by the simulator")
    axis.grid(alpha=0.2, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    one = found["decisions"]["rank_correlation"]
    axis.set_title(
        f"{title}: rank correlation {one['value']:.2f} [{one['lo']:.2f}, {one['hi']:.2f}]",
        fontsize=10,
    )
    return drawn
