"""One task of the DeepMind Control Suite as a Gymnasium environment."""

import math
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from envs import gl, state
from envs.bounds import ENDLESS, bounds_of
from envs.changed import change
from envs.layout import Field, find_layout, flatten

_VIDEO = (240, 320)  # pixels, height and width of `render`
_CAMERA = {"quadruped": 2}  # camera 0 looks at the arena from afar; elsewhere 0 is the usual one


class DmcEnv(gym.Env[np.ndarray, np.ndarray]):
    """`task` is "<domain>-<task>", such as "walker-walk".

    obs="state": one flat float32 vector (O,), described by `layout`.
    obs="pixels": uint8 (size, size, 3) from `camera`, a name or index; `layout` is empty.
    Actions are in [-1, 1]^A, clipped, and rescaled to the task's control range. An agent step is
    `action_repeat` environment steps, less where the episode ends within; its reward is their sum.
    An episode is truncated at the task's time limit and terminated only if the task says so.
    `dt` is seconds per agent step, `episode_limit` agent steps per episode.
    gravity, mass: factors of what the task has, see envs/changed.py.
    Raises RuntimeError where pixels are asked for and there is no OpenGL.
    """

    # render_fps of the class is a placeholder: every environment sets its own
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}

    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box

    def __init__(
        self,
        task: str,
        *,
        obs: Literal["state", "pixels"] = "state",
        action_repeat: int = 2,
        size: int = 64,
        camera: int | str | None = None,
        seed: int | None = None,
        render_mode: str | None = None,
        gravity: float = 1.0,
        mass: float = 1.0,
    ) -> None:
        if obs not in ("state", "pixels"):
            raise ValueError(f"obs is {obs!r}; it must be 'state' or 'pixels'")
        if action_repeat < 1:
            raise ValueError(f"action_repeat is {action_repeat}; it must be at least 1")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}; it must be None or 'rgb_array'")
        if obs == "pixels":
            gl.require()
        self.render_mode = render_mode
        self._task = task
        self._obs, self._size, self._repeat = obs, size, action_repeat
        # the model's seed is fixed: lqr draws its springs when it is compiled, and a task is one
        # model, whichever process makes it
        self._dm = state.load(task, seed=0)
        if (gravity, mass) != (1.0, 1.0):
            change(self.physics, gravity=gravity, mass=mass)
        if math.isinf(self._dm._step_limit):
            self._dm._step_limit = float(ENDLESS)  # lqr
        self._camera = self._choose_camera(task, camera)

        layout = find_layout(self.physics, self._dm.task)
        self.layout: tuple[Field, ...] = layout if obs == "state" else ()
        self.dt: float = self._dm.control_timestep() * action_repeat
        self.episode_limit: int = math.ceil(self._dm._step_limit / action_repeat)
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1 / self.dt))}
        self.observation_space = (
            gym.spaces.Box(-np.inf, np.inf, (layout[-1].stop,), np.float32)
            if obs == "state"
            else gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
        )
        spec = self._dm.action_spec()
        self._low, self._high = bounds_of(spec.minimum, spec.maximum)
        self.action_space = gym.spaces.Box(-1.0, 1.0, spec.shape, np.float32)
        if seed is not None:
            super().reset(seed=seed)
        self._seed_task()

    @property
    def physics(self) -> Any:
        """The dm_control `Physics` behind the environment."""
        return self._dm.physics

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; without `seed` the task's random stream goes on."""
        super().reset(seed=seed)
        if seed is not None:
            self._seed_task()
        self._dm.reset()
        return self.observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One agent step. Raises ResetNeeded outside an episode, ValueError for a bad action."""
        if self._dm._reset_next_step:
            raise ResetNeeded("no episode is running; call reset first")
        control = self._control(action)
        reward, last = 0.0, None
        for _ in range(self._repeat):
            last = self._dm.step(control)
            reward += float(last.reward)
            if last.last():
                break
        assert last is not None
        # dm_control: discount 0 where the task ends it, 1 at the time limit
        terminated = bool(last.last() and last.discount == 0.0)
        return self.observation(), reward, terminated, bool(last.last() and not terminated), {}

    def observation(self) -> np.ndarray:
        """What the agent sees now; also after `set_state`. A fresh array."""
        if self._obs == "pixels":
            return self._frame(self._size, self._size)
        return flatten(self._dm.task.get_observation(self.physics)).astype(np.float32)

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """A frame, uint8 (240, 320, 3). Raises RuntimeError where there is no OpenGL."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: make it with render_mode='rgb_array'")
            return None
        return self._frame(*_VIDEO)

    def close(self) -> None:
        """Frees the GL context, if one was opened. May be called twice."""
        if self.physics._contexts:
            self.physics._free_rendering_contexts()

    def get_state(self) -> state.State:
        """Everything that the future depends on, as numpy arrays; see envs/state.py."""
        extra = {"rng": self.np_random.bit_generator.state, "seed": self._np_random_seed}
        return state.pack(self._dm, self._task, extra)

    def set_state(self, value: state.State) -> None:
        """Restores a state of the same task, bit for bit. Raises ValueError for another task's."""
        extra = state.unpack(self._dm, self._task, value)
        self.np_random.bit_generator.state = extra["rng"]
        self._np_random_seed = extra["seed"]

    def _seed_task(self) -> None:
        self._dm.task.random.seed(int(self.np_random.integers(2**32)))

    def _control(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, np.float64)
        if action.shape != self._low.shape or not np.isfinite(action).all():
            raise ValueError(
                f"action {action} of shape {action.shape}; "
                f"needed finite values of shape {self._low.shape}"
            )
        action = np.clip(action, -1.0, 1.0)
        # exact where the range is [-1, 1]: 0.5 * 2 * action
        return 0.5 * ((self._high - self._low) * action + (self._high + self._low))

    def _choose_camera(self, task: str, camera: int | str | None) -> int | str:
        model = self.physics.model
        names = [model.id2name(i, "camera") for i in range(model.ncam)]
        if camera is None:
            return _CAMERA.get(task.partition("-")[0], 0)
        if camera not in names and camera not in range(-1, len(names)):
            raise ValueError(
                f"no camera {camera!r}; choose from {names} or an index, -1 for the free one"
            )
        return camera

    def _frame(self, height: int, width: int) -> np.ndarray:
        gl.require()
        self.physics.may_render = True
        return self.physics.render(height, width, camera_id=self._camera).copy()
