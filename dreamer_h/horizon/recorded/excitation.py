"""Actions that make a task move: policies that look at nothing, for recording episodes."""

from collections.abc import Callable

import numpy as np

CORRELATION = 0.9  # of a noise action with the one before
SEGMENT = (8, 64)  # agent steps of one kind of excitation, least and most
PERIOD = (6.0, 60.0)  # agent steps of an oscillation


class Noise:
    """`dreamer_h.types.Policy`: correlated noise, a standard normal AR(1) process, clipped."""

    def __init__(self, action: int):
        self.action = action

    def begin(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._now = self._rng.normal(size=self.action)

    def act(self, obs: np.ndarray) -> np.ndarray:
        now = self._now
        fresh = self._rng.normal(size=self.action)
        self._now = CORRELATION * now + np.sqrt(1 - CORRELATION**2) * fresh
        return np.clip(now, -1.0, 1.0).astype(np.float32)


class Excited:
    """`dreamer_h.types.Policy`: held, periodic and correlated actions, one after the other.

    A kind holds for 8 to 64 agent steps. White noise alone averages out in heavy bodies and never
    leaves the neighbourhood of rest; what is held or swings does.
    """

    def __init__(self, action: int):
        self.action = action
        self._noise = Noise(action)

    def begin(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._left = 0

    def act(self, obs: np.ndarray) -> np.ndarray:
        if self._left == 0:
            self._left = int(self._rng.integers(SEGMENT[0], SEGMENT[1] + 1))
            kinds: list[Callable[[], Callable[[int], np.ndarray]]]
            kinds = [self._held, self._periodic, self._correlated]
            self._kind, self._age = kinds[self._rng.integers(len(kinds))](), 0
        action = self._kind(self._age)
        self._left, self._age = self._left - 1, self._age + 1
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _held(self):
        action = self._rng.uniform(-1.0, 1.0, self.action)
        return lambda age: action

    def _periodic(self):
        amplitude = self._rng.uniform(0.2, 1.0, self.action)
        phase = self._rng.uniform(0.0, 2 * np.pi, self.action)
        least, most = np.log(PERIOD)
        period = np.exp(self._rng.uniform(least, most, self.action))
        return lambda age: amplitude * np.sin(phase + 2 * np.pi * age / period)

    def _correlated(self):
        self._noise.begin(int(self._rng.integers(2**32)))
        return lambda age: self._noise.act(np.empty(0))


EXCITATIONS = {"noise": Noise, "excited": Excited}
