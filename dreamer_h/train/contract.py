"""What an environment must be for a run to learn from it."""

import gymnasium as gym
import numpy as np

from dreamer_h.config import Config
from dreamer_h.horizon.recorded.layout import angles_of, fields_of
from dreamer_h.replay.sampler import check_window
from dreamer_h.types import Observed


def spaces_of(env: gym.Env) -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Of observations and of actions. Raises ValueError unless both are a Box, that of actions from
    -1 to 1."""
    space, actions = env.observation_space, env.action_space
    if not isinstance(space, gym.spaces.Box) or not isinstance(actions, gym.spaces.Box):
        raise ValueError(f"spaces are {space} and {actions}; both must be a Box")
    if not (np.all(actions.low == -1.0) and np.all(actions.high == 1.0)):
        raise ValueError(
            f"actions are of {actions}, not from -1 to 1; put envs.foreign.ForeignEnv around it"
        )
    return space, actions


def observed(env: gym.Env) -> Observed:
    """What a simulator must know of its observations; angles, as far as its `layout` says."""
    space, _ = spaces_of(env)
    angles = angles_of(fields_of(env)) if len(space.shape) == 1 else ()
    return Observed(space.shape, space.dtype, angles)


def episode_limit(env: gym.Env) -> int | None:
    """Agent steps of an episode that runs to its time limit; None if the environment has none."""
    return getattr(env.unwrapped, "episode_limit", None)


def check_episodes(config: Config, limit: int | None) -> None:
    """Raises ValueError where windows or the replay do not fit episodes of `limit` agent steps."""
    if limit is None:
        return
    check_window(config.replay.length, config.replay.tick, limit)
    if config.replay.capacity < config.envs * limit:
        raise ValueError(
            f"--replay.capacity {config.replay.capacity} holds less than one episode of "
            f"{limit} agent steps in each of {config.envs} environments; set it to at "
            f"least {config.envs * limit}"
        )
