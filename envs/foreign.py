"""Any other Gymnasium environment with Box spaces, made to look like ours."""

import math
import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from envs.bounds import ENDLESS, bounds_of
from envs.layout import Field


class ForeignEnv(gym.Env[np.ndarray, np.ndarray]):
    """Flat float32 observations, actions in Box(-1, 1), rewards summed over `action_repeat`.

    An action without bounds stands for itself; with one bound, it reaches two units from there.
    `dt` is seconds per agent step; `episode_limit` agent steps, or None where none is known: then
    an episode is cut off after 1000 env steps, if nothing ends it before, with a warning. Raises
    ValueError unless both spaces of `inner` are a Box.
    """

    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box

    def __init__(self, inner: gym.Env, *, action_repeat: int = 2, seed: int | None = None) -> None:
        action, obs = inner.action_space, inner.observation_space
        if not isinstance(action, gym.spaces.Box) or not isinstance(obs, gym.spaces.Box):
            raise ValueError(f"spaces are {obs} and {action}; both must be a Box")
        if action_repeat < 1:
            raise ValueError(f"action_repeat is {action_repeat}; it must be at least 1")
        self.inner = inner
        self.spec = inner.spec
        self.render_mode = inner.render_mode
        self._repeat = action_repeat
        self._seed = seed  # for the first reset, unless that brings its own
        self._low, self._high = bounds_of(action.low, action.high)
        self._dtype = action.dtype
        size = math.prod(obs.shape)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (action.low.size,), np.float32)
        self.layout = (Field("observation", 0, size, "other"),)
        self.dt = seconds_of(inner) * action_repeat
        self.metadata = {**inner.metadata, "render_fps": max(1, round(1 / self.dt))}
        limit = inner.spec.max_episode_steps if inner.spec is not None else None
        limit = limit or getattr(inner.unwrapped, "episode_limit", None)
        limit = None if limit is None or not math.isfinite(limit) else limit
        self.episode_limit = None if limit is None else math.ceil(limit / action_repeat)
        self._steps = 0  # of the inner environment

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        seed, self._seed = self._seed if seed is None else seed, None
        super().reset(seed=seed)
        obs, info = self.inner.reset(seed=seed, options=options)
        self._steps = 0
        return self._flat(obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        clipped = np.clip(np.asarray(action, np.float64), -1.0, 1.0).reshape(self._low.shape)
        inner = 0.5 * ((self._high - self._low) * clipped + (self._high + self._low))
        inner = inner.astype(self._dtype)
        total = 0.0
        for _ in range(self._repeat):
            obs, reward, terminated, truncated, info = self.inner.step(inner)
            total += float(reward)
            self._steps += 1
            if self.episode_limit is None and self._steps >= ENDLESS:
                truncated = truncated or self._cut_off(terminated)
            if terminated or truncated:
                break
        return self._flat(obs), total, bool(terminated), bool(truncated), info

    def render(self) -> Any:
        return self.inner.render()

    def close(self) -> None:
        self.inner.close()

    def _cut_off(self, terminated: bool) -> bool:
        if not terminated:
            warnings.warn(
                f"an episode was cut off after {ENDLESS} env steps: nothing says how long one is; "
                "register the environment with max_episode_steps",
                stacklevel=4,
            )
        return True

    @staticmethod
    def _flat(obs: Any) -> np.ndarray:
        return np.array(obs, np.float32).ravel()


def seconds_of(env: gym.Env) -> float:
    """Of one env step: `dt`, or what a frame takes, or a thirtieth."""
    for step in (getattr(env.unwrapped, "dt", None), _inverse(env.metadata.get("render_fps"))):
        if isinstance(step, int | float | np.floating) and step > 0 and math.isfinite(step):
            return float(step)
    return 1 / 30


def _inverse(rate: Any) -> float | None:
    return 1 / rate if isinstance(rate, int | float) and rate > 0 else None
