"""The socket that every predictor fits: ours, a baseline, physics itself, somebody else's."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

SAMPLES = 19  # between their least and largest lie 18 of 20 places: a 90 % interval


@dataclass(frozen=True)
class Context:
    """What a simulator may see: C+1 observations and the C actions between them, W windows."""

    obs: np.ndarray  # (W, C+1, O) float32
    action: np.ndarray  # (W, C, A) float32


@dataclass(frozen=True)
class Forecast:
    """S samples of the future, in physical units; `obs[:, :, t]` is what `action[t]` leads to.

    S is 1 where the simulator makes point forecasts; `reward` is None where it knows of none.
    """

    obs: np.ndarray  # (S, W, H, O)
    reward: np.ndarray | None  # (S, W, H)


@runtime_checkable
class Simulator(Protocol):
    """A model of the world, for W windows at once. Numpy in and out; the state is its own."""

    def start(self, context: Context, *, seed: int) -> Any:
        """The state behind a context: the last observation is where prediction begins."""
        ...

    def imagine(self, state: Any, action: np.ndarray, samples: int, *, seed: int) -> Forecast:
        """Goes on alone under actions (W, H, A). A deterministic simulator returns one sample."""
        ...

    def step(
        self, state: Any, action: np.ndarray, *, seed: int
    ) -> tuple[Any, np.ndarray, np.ndarray]:
        """One step under (W, A): the state, an observation (W, O) and a reward (W,) of it."""
        ...


@runtime_checkable
class Doubting(Protocol):
    """What a simulator may offer besides: to say what it does not know."""

    def doubt(self, state: Any, action: np.ndarray) -> np.ndarray:
        """(W,) nats that seeing where (W, A) leads would tell of the simulator; not negative."""
        ...
