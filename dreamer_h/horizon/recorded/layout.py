"""What the entries of an observation are, as far as its environment says."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np


@dataclass(frozen=True)
class Field:
    """Observation entries `start:stop` of one kind: position, angle, velocity, contact, other."""

    name: str
    start: int
    stop: int
    kind: str


Layout = tuple[Field, ...]


def fields_of(env: gym.Env) -> Layout:
    """By the environment's `layout`, if it has one that covers its observations. Of observations
    that a wrapper changes nothing is known."""
    size = int(np.prod(env.observation_space.shape or ()))
    fields = tuple(Field(*field) for field in _said(env))
    covered = bool(fields) and fields[-1].stop == size
    return fields if covered else unnamed(size)


def _said(env: gym.Env) -> tuple[Any, ...]:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.ObservationWrapper):
            return ()
        env = env.env
    bare: Any = env
    return getattr(bare, "layout", ())


def unnamed(size: int) -> Layout:
    """Of observations that say nothing of themselves."""
    return (Field("obs", 0, size, "other"),)


def names_of(layout: Layout) -> list[str]:
    """A name for each entry of an observation."""
    found = []
    for field in layout:
        width = field.stop - field.start
        found += [f"{field.name}[{i}]" for i in range(width)] if width > 1 else [field.name]
    return found


def angles_of(layout: Layout) -> tuple[int, ...]:
    """The entries of an observation that are alike after each whole turn."""
    return tuple(i for one in layout if one.kind == "angle" for i in range(one.start, one.stop))
