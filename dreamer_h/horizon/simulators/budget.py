"""How long a fit may take: in updates, which repeat exactly, or in minutes of this machine."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Budget:
    """Iterates over the share of itself that is used, from 0 to below 1, once per update.

    Exactly one of both is given. Minutes count from the end of the first update on, which may have
    to be compiled or may be found compiled.
    """

    updates: int | None = None
    minutes: float | None = None

    def __post_init__(self):
        if (self.updates is None) == (self.minutes is None):
            raise ValueError("give a budget in updates or in minutes, one of the two")
        if not (self.updates or self.minutes or 0) > 0:
            given = self.minutes if self.updates is None else self.updates
            raise ValueError(f"the budget is {given}; it must be above 0")

    def __iter__(self) -> Iterator[float]:
        if self.updates is not None:
            yield from (update / self.updates for update in range(self.updates))
            return
        assert self.minutes is not None
        yield 0.0
        began = time.monotonic()
        while (share := (time.monotonic() - began) / (60 * self.minutes)) < 1:
            yield share

    def shown(self, bar: Any) -> Iterator[float]:
        """The same shares, with a progress bar of 100 %."""
        for share in self:
            bar.update(int(100 * share) - bar.n)
            yield share
        bar.update(100 - bar.n)


@dataclass
class Counted:
    """The shares of a budget, and how many of them were taken."""

    shares: Iterable[float]
    count: int = 0

    def __iter__(self) -> Iterator[float]:
        for share in self.shares:
            self.count += 1
            yield share


def falling(share: float) -> float:
    """The factor of a learning rate that falls to nothing along a cosine as the budget is used."""
    return 0.5 * (1.0 + math.cos(math.pi * share))
