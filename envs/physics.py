"""A suite task as physics that can be restarted anywhere: what predictions are held to."""

import numpy as np

from envs.dmc import DmcEnv
from envs.gl import mujoco
from envs.state import State


class DmcPhysics:
    """`dreamer_h.types.Physics` of a suite task with state observations.

    Displacements (V,) of `qpos` are in its tangent space, so that quaternions stay of length one;
    then those of `qvel`: V = 2 nv.
    """

    def __init__(
        self, task: str, action_repeat: int = 2, *, gravity: float = 1.0, mass: float = 1.0
    ) -> None:
        """`gravity` and `mass` are the factors of `DmcEnv`."""
        self.env = DmcEnv(task, action_repeat=action_repeat, gravity=gravity, mass=mass)
        self.env.reset(seed=0)
        self._model, self._data = self.env.physics.model.ptr, self.env.physics.data.ptr

    def restore(self, moment: State) -> None:
        """Raises ValueError for a moment of another task."""
        self.env.set_state(moment)

    def moment(self) -> State:
        return self.env.get_state()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float]:
        """Raises ResetNeeded behind an episode's end."""
        obs, reward, *_ = self.env.step(action)
        return obs, reward

    def place(self) -> np.ndarray:
        return np.concatenate([self._data.qpos, self._data.qvel])

    def displacement(self, since: np.ndarray) -> np.ndarray:
        pose, velocity = np.split(since, [self._model.nq])
        moved = np.zeros(self._model.nv)
        mujoco.mj_differentiatePos(self._model, moved, 1.0, pose, self._data.qpos)
        return np.concatenate([moved, self._data.qvel - velocity])

    def turns(self) -> np.ndarray:
        """(V,) bool: positions of hinges without limits, which add up over turns."""
        hinge = self._model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
        free = hinge & (self._model.jnt_limited == 0)
        turns = np.zeros(2 * self._model.nv, bool)
        turns[self._model.jnt_dofadr[free]] = True
        return turns

    def nudge(self, by: np.ndarray) -> np.ndarray:
        pose, velocity = np.split(np.asarray(by, np.float64), 2)
        mujoco.mj_integratePos(self._model, self._data.qpos, pose, 1.0)
        self._data.qvel[:] += velocity
        # as after dm_control's own step: positions and velocities up to date, forces not
        mujoco.mj_step1(self._model, self._data)
        return self.env.observation()
