"""Trained runs as policies that record episodes, or are judged."""

from functools import cache
from pathlib import Path

import numpy as np

from dreamer_h.train.act import act, init_memory
from dreamer_h.train.checkpoints.load import load_snapshots
from dreamer_h.train.state import Agent


class Snapshots:
    """`dreamer_h.types.Policy`: sampled actions of one checkpoint, or of all of a logdir.

    From a logdir each episode has another one, and so the episodes show what the run did at all
    stages of which a checkpoint is left.
    """

    def __init__(self, path: Path):
        self.path = path

    def begin(self, seed: int) -> None:
        """Raises ValueError where there is no checkpoint."""
        self._seed, self._count, self._memory = seed % 2**31, 0, None
        snapshots = _loaded(self.path)
        self._agent, self._action = snapshots[np.random.default_rng(seed).integers(len(snapshots))]

    def act(self, obs: np.ndarray) -> np.ndarray:
        agent, first = self._agent, self._memory is None
        if first:
            self._memory = init_memory(agent, 1, self._action)
        self._memory, action = act(
            agent,
            self._memory,
            obs[None],
            np.array([first]),
            np.array([True]),
            # the clock makes the randomness: each episode has a stretch of its own
            np.int32((self._seed * 10_000 + self._count) % 2**31),
            seed=0,
        )
        self._count += 1
        return np.asarray(action)[0]


@cache
def _loaded(path: Path) -> list[tuple[Agent, int]]:
    """Read once, however many policies there are."""
    return load_snapshots(path)
