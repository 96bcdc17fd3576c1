"""The table of returns: ours, the published ones, and SAC's."""

import itertools

from dreamer_h.train.evaluation.curves import Point, Reference, Runs, over_seeds

STEPS = (10_000, 25_000, 50_000, 100_000)  # env steps


def table(
    runs: dict[str, dict[str, Runs]], reference: dict[str, dict[str, list[Reference]]]
) -> str:
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
