"""Environments are other people's code: what they do is checked before anything learns from it."""

from typing import Any

import gymnasium as gym
import numpy as np

LARGEST = float(np.finfo(np.float32).max)


class EnvironmentFault(Exception):
    """An environment raised, or returned something outside its contract; says what."""


def checked_reset(env: gym.Env, seed: int | None) -> np.ndarray:
    """The first observation of an episode. Raises EnvironmentFault."""
    try:
        obs, _ = env.reset(seed=seed)
    except Exception as error:
        raise EnvironmentFault(f"reset raised {type(error).__name__}: {error}") from error
    return _checked_obs(env, obs)


def checked_step(env: gym.Env, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
    """(obs, reward, terminated, truncated) of one agent step. Raises EnvironmentFault."""
    try:
        obs, reward, terminated, truncated, _ = env.step(action)
        reward = float(reward)
    except Exception as error:
        raise EnvironmentFault(f"step raised {type(error).__name__}: {error}") from error
    if not abs(reward) <= LARGEST:  # nor is nan
        raise EnvironmentFault(f"reward is {reward}, not finite in float32")
    return _checked_obs(env, obs), reward, bool(terminated), bool(truncated)


def checked_picture(env: gym.Env) -> np.ndarray:
    """What an environment renders, (height, width, 3) uint8. Raises EnvironmentFault."""
    try:
        picture = np.asarray(env.render())
    except Exception as error:
        raise EnvironmentFault(f"render raised {type(error).__name__}: {error}") from error
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise EnvironmentFault(f"render gave {picture.dtype} {picture.shape}, not a picture")
    return picture


def _checked_obs(env: gym.Env, obs: Any) -> np.ndarray:
    space = env.observation_space
    obs = np.asarray(obs)
    if obs.shape != space.shape or obs.dtype != space.dtype:
        raise EnvironmentFault(
            f"observation is {obs.dtype} {obs.shape}, its space is {space.dtype} {space.shape}"
        )
    if obs.dtype != np.uint8 and not np.all(np.isfinite(obs)):
        places = np.flatnonzero(~np.isfinite(obs))[:5].tolist()
        raise EnvironmentFault(f"observation is not finite at {places}")
    if not space.contains(obs):
        raise EnvironmentFault("observation is outside its space")
    return obs
