"""Named physical quantities of a task, as functions of its flat state observation.

What a spectator would say of a moment: how fast, how high, how upright, how lively.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from envs.gl import suite

Quantity = Callable[[np.ndarray], np.ndarray]  # observations (..., O) -> (...)


def _entry(index: int) -> Quantity:
    return lambda obs: obs[..., index]


def _cosine(index: int) -> Quantity:
    return lambda obs: np.cos(obs[..., index])


def _length(start: int, stop: int) -> Quantity:
    return lambda obs: np.linalg.norm(obs[..., start:stop], axis=-1)


# entries are those of the suite's flat observations, in the units of the suite
_BY_DOMAIN: dict[str, dict[str, Quantity]] = {
    "cartpole": {"uprightness": _entry(1), "speed": _entry(3)},
    "pendulum": {"uprightness": _entry(0), "speed": _entry(2)},
    "reacher": {"distance": _length(2, 4)},
    "ball_in_cup": {"height": _entry(3), "speed": _length(6, 8)},
    "cheetah": {"speed": _entry(8), "height": _entry(0), "uprightness": _cosine(1)},
    "finger": {"speed": _entry(6)},
    "walker": {"speed": _entry(16), "height": _entry(14), "uprightness": _entry(0)},
    "hopper": {"speed": _entry(6), "height": _entry(0), "uprightness": _cosine(1)},
}


def quantities(task: str, layout: Sequence[Any]) -> dict[str, Quantity]:
    """By name; `layout` is the environment's, or a recording's.

    `energy` is there wherever velocities are seen: half the sum of their squares, as if every
    inertia were one. The others are known for the suite's core domains only.
    """
    domain, _, name = task.partition("-")
    found = dict(_BY_DOMAIN.get(domain, {})) if (domain, name) in suite.ALL_TASKS else {}
    moving = [
        i for field in layout if field.kind == "velocity" for i in range(field.start, field.stop)
    ]
    if moving:
        found["energy"] = lambda obs: 0.5 * np.square(obs[..., moving]).sum(axis=-1)
    return found
