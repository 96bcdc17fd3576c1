"""How long simulators take to imagine: in turns, so that a busy machine is as busy for each."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.simulator import Context, Forecast
from dreamer_h.horizon.simulators.latent import LatentSimulator

ROUNDS = 9  # of which the median is taken


def speeds(
    simulators: dict[str, LatentSimulator],
    windows: Windows,
    dt: float,
    starts: Sequence[int],
    *,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Milliseconds of imagining one simulated second of one path, by simulator.

    One sample of all steps of the windows, decoded, from so many starts side by side: `median`,
    the quartiles `low` and `high`, and `ratio`, the median over the rounds of the first simulator's
    time as a multiple of this one's. Windows are repeated where there are fewer of them.
    """
    found: dict[str, Any] = {"steps": windows.horizon, "dt": dt, "rounds": rounds, "starts": {}}
    for count in starts:
        chosen = np.resize(np.arange(len(windows)), count)
        context = Context(windows.context_obs[chosen], windows.context_action[chosen])
        action = windows.action[chosen]
        calls = {
            name: partial(one.imagine, one.start(context, seed=0), action, 1, seed=0)
            for name, one in simulators.items()
        }
        seconds = in_turns(calls, rounds)
        first = next(iter(seconds.values()))
        per = 1000 / (windows.horizon * dt * count)
        found["starts"][str(count)] = {
            name: {
                "median": float(np.median(taken)) * per,
                "low": float(np.quantile(taken, 0.25)) * per,
                "high": float(np.quantile(taken, 0.75)) * per,
                "ratio": float(np.median(first / taken)),
            }
            for name, taken in seconds.items()
        }
    return found


def in_turns(calls: dict[str, Callable[[], Forecast]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of each call, one after the other in every round; compilation apart."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()  # numpy comes back: nothing is left to wait for
            taken[name].append(time.perf_counter() - began)
    return {name: np.array(seconds[1:]) for name, seconds in taken.items()}


def table(found: dict[str, Any]) -> str:
    """Markdown: a row for each number of starts."""
    names = list(next(iter(found["starts"].values())))
    lines = [
        f"Milliseconds for a simulated second of one path of {found['steps']} agent steps; in "
        f"brackets how many times faster than {names[0]}, round by round.",
        "",
        "| starts | " + " | ".join(names) + " |",
        "|---" * (1 + len(names)) + "|",
    ]
    for count, row in found["starts"].items():
        cells = [f"{row[name]['median']:.3f} ({row[name]['ratio']:.2f}x)" for name in names]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
