"""What an environment says of its observations."""

from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.horizon.recorded.recording import Field, angles_of
from dreamer_h.train.contract import spaces_of
from dreamer_h.types import Observed


def fields_of(env: gym.Env) -> tuple[Field, ...]:
    """What the entries of an environment's observation are, as far as it says."""
    size = int(np.prod(env.observation_space.shape or ()))
    fields = tuple(Field(*field) for field in _said(env))
    covered = bool(fields) and fields[-1].stop == size
    return fields if covered else (Field("obs", 0, size, "other"),)


def _said(env: gym.Env) -> tuple[Any, ...]:
    """The environment's `layout`; of observations that a wrapper changes nothing is known."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.ObservationWrapper):
            return ()
        env = env.env
    bare: Any = env
    return getattr(bare, "layout", ())


def names_of(fields: tuple[Field, ...]) -> list[str]:
    """A name for each entry of an observation."""
    found = []
    for field in fields:
        width = field.stop - field.start
        found += [f"{field.name}[{i}]" for i in range(width)] if width > 1 else [field.name]
    return found


def observed(env: gym.Env) -> Observed:
    """What a simulator must know of its observations; angles, as far as its `layout` says."""
    space, _ = spaces_of(env)
    angles = angles_of(fields_of(env)) if len(space.shape) == 1 else ()
    return Observed(space.shape, space.dtype, angles)
