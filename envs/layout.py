"""What each number of a flat observation is: found by moving the physics, not by a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np

from envs.gl import mujoco

Kind = Literal["position", "angle", "velocity", "contact", "other"]


class Field(NamedTuple):
    """Observation dimensions `start:stop`, of one kind. `obs[field.slice]` selects them.

    position: a length, or an angle that is bounded or already a (cos, sin) pair or a rotation.
    angle: circular, radians, not wrapped: two values that differ by 2 pi are the same.
    velocity: linear in the generalised velocities (m/s or rad/s, as the task scales them).
    contact: a touch sensor. other: accelerations, forces, activations.
    An observation that mixes kinds is several fields of the same name.
    """

    name: str
    start: int
    stop: int
    kind: Kind

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)


def flatten(observation: dict[str, Any]) -> np.ndarray:
    """A dm_control observation, in its own order, as one fresh float64 vector (O,)."""
    return np.concatenate([np.ravel(value) for value in observation.values()], dtype=np.float64)


def find_layout(physics: Any, task: Any) -> tuple[Field, ...]:
    """The fields of the task's flat observation, in order; they cover it exactly once.

    Moves `physics` about and then resets its data: call it before the first episode.
    """
    sizes = {name: np.size(value) for name, value in task.get_observation(physics).items()}
    names = [name for name, size in sizes.items() for _ in range(size)]
    kinds = _kinds(physics, task, names)
    fields, start = [], 0
    for (name, kind), run in groupby(zip(names, kinds, strict=True)):
        stop = start + len(list(run))
        fields.append(Field(name, start, stop, kind))
        start = stop
    physics.reset()
    return tuple(fields)


def _kinds(physics: Any, task: Any, names: list[str]) -> list[Kind]:
    model, data = physics.model.ptr, physics.data.ptr
    qvel = np.random.default_rng(0).uniform(0.05, 0.15, model.nv)

    def observe() -> np.ndarray:
        mujoco.mj_forward(model, data)
        return flatten(task.get_observation(physics))

    rest = observe()
    qacc = data.qacc.copy()
    with _moved(data.qvel, qvel):
        slow = observe()
    with _moved(data.qvel, 2 * qvel):
        fast = observe()
    moves = ~np.isclose(slow, rest, rtol=0, atol=1e-9)
    linear = np.isclose(fast - rest, 2 * (slow - rest), rtol=1e-5, atol=0)
    velocity = moves & linear & (np.abs(rest) < 1e-9)
    active = np.zeros(len(names), bool)
    if model.na:
        with _moved(data.act, 0.1):
            active = ~np.isclose(observe(), rest, rtol=0, atol=1e-9)
    angle = np.zeros(len(names), bool)
    for address in _unlimited_hinges(model):
        with _moved(data.qpos[address : address + 1], 2 * np.pi):
            turned = observe()
            # a spring or a servo counts the turns: then the angle is not circular
            periodic = np.allclose(data.qacc, qacc, rtol=1e-6, atol=1e-6 * np.abs(qacc).max())
        # 1e-6: far above the rounding of cos(x + 2 pi), far below any other change by 2 pi
        angle |= periodic & np.isclose(turned - rest, 2 * np.pi, rtol=0, atol=1e-6)

    def kind(i: int) -> Kind:
        if "touch" in names[i]:
            return "contact"
        if angle[i]:
            return "angle"
        if velocity[i]:
            return "velocity"
        return "other" if moves[i] or active[i] else "position"

    return [kind(i) for i in range(len(names))]


def _unlimited_hinges(model: Any) -> list[int]:
    """`qpos` addresses of the hinges that may turn freely."""
    hinge = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
    return [int(a) for a in model.jnt_qposadr[hinge & ~model.jnt_limited.astype(bool)]]


@contextmanager
def _moved(live: np.ndarray, by: Any) -> Iterator[None]:
    """Adds `by` to a live MuJoCo array inside the block."""
    before = live.copy()
    live += by
    yield
    live[:] = before
