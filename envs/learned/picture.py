"""An observation that the simulator made up, as a picture."""

from functools import cached_property

import jax.numpy as jnp
import numpy as np

import envs
from dreamer_h.nn.coordinates import Angles, coordinates
from envs.dmc import DmcEnv
from envs.gl import mujoco
from envs.layout import flatten

SIZE = (240, 320)  # pixels, height and width, of what is drawn
CLOSE = 0.05  # root mean square of what a pose may miss of the observed positions
STEPS = 30  # of the search for a pose, which begins at the one before
BAR, GROUND = (31, 119, 180), (255, 255, 255)


class Picture:
    """Of images what they show; of states the real task in the pose that fits them, where there is
    one and OpenGL to draw it; else a bar for each coordinate, in deviations."""

    def __init__(self, task: str, spread: np.ndarray | None, angles: Angles = ()) -> None:
        """`spread` (X,) is the deviation of each of `nn.coordinates`; None for images."""
        self._task, self._spread, self._angles = task, spread, angles

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """(height, width, 3) uint8."""
        if self._spread is None:
            times = max(1, SIZE[0] // obs.shape[0])
            return obs.repeat(times, axis=0).repeat(times, axis=1)
        if self._pose is not None and self._pose.takes(obs):
            return self._pose.env.render()  # type: ignore[return-value]
        return bars(np.asarray(coordinates(jnp.asarray(obs), self._angles)) / self._spread)

    @cached_property
    def _pose(self) -> "Pose | None":
        suite = envs.short_name(self._task) in envs.tasks()
        return Pose(self._task) if suite and envs.video_available() else None


class Pose:
    """A suite task that is put where an observation says, by least squares over its positions."""

    def __init__(self, task: str) -> None:
        self.env = DmcEnv(envs.short_name(task), render_mode="rgb_array")
        self.env.reset(seed=0)
        wanted = [field for field in self.env.layout if field.kind in ("position", "angle")]
        self._seen = np.concatenate([np.arange(f.start, f.stop) for f in wanted])
        self._model, self._data = self.env.physics.model.ptr, self.env.physics.data.ptr
        self._data.qvel[:] = 0.0

    def takes(self, obs: np.ndarray) -> bool:
        """Whether there is such a pose; if so, the task has it now."""
        target, damping = obs[self._seen].astype(np.float64), 1e-3
        error = target - self._observed()
        for _ in range(STEPS):
            if np.sqrt(np.mean(error**2)) < 0.1 * CLOSE:
                break
            slopes = self._slopes()
            normal = slopes.T @ slopes
            normal += damping * np.eye(len(normal))
            before = self._data.qpos.copy()
            self._move(np.linalg.solve(normal, slopes.T @ error))
            moved = target - self._observed()
            if np.sum(moved**2) < np.sum(error**2):
                error, damping = moved, max(damping / 3, 1e-9)
            else:
                self._data.qpos[:], damping = before, damping * 10
        self._observed()
        return bool(np.sqrt(np.mean(error**2)) < CLOSE)

    def _observed(self) -> np.ndarray:
        mujoco.mj_forward(self._model, self._data)
        task = self.env._dm.task
        return flatten(task.get_observation(self.env.physics))[self._seen]

    def _slopes(self) -> np.ndarray:
        """(positions seen, degrees of freedom)"""
        here, before, small = self._observed(), self._data.qpos.copy(), 1e-5
        columns = []
        for along in small * np.eye(self._model.nv):
            self._move(along)
            columns.append((self._observed() - here) / small)
            self._data.qpos[:] = before
        return np.stack(columns, axis=1)

    def _move(self, by: np.ndarray) -> None:
        mujoco.mj_integratePos(self._model, self._data.qpos, by, 1.0)


def bars(values: np.ndarray) -> np.ndarray:
    """A picture (240, 320, 3): numbers (O,) from the middle up and down, three at the rims."""
    height, width = SIZE
    shown = np.full((height, width, 3), GROUND, np.uint8)
    shown[height // 2] = 0
    edges = np.linspace(0, width, len(values) + 1).astype(int)
    for value, left, right in zip(np.clip(values, -3, 3), edges[:-1], edges[1:], strict=True):
        end = int(round(height / 2 * (1 - value / 3)))
        low, high = sorted((end, height // 2))
        shown[low:high, left : max(left + 1, right - 1)] = BAR
    return shown
