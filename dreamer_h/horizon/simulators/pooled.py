"""Several simulators as one: each gives its share of the samples. What ensembling alone earns."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer_h.horizon.simulator import Context, Forecast, Simulator


@dataclass(frozen=True)
class Pooled:
    """A `Simulator` of two or more that draw samples; its state holds theirs."""

    members: tuple[Simulator, ...]

    def start(self, context: Context, *, seed: int) -> tuple[Any, ...]:
        return tuple(member.start(context, seed=seed) for member in self.members)

    def imagine(
        self, state: tuple[Any, ...], action: np.ndarray, samples: int, *, seed: int
    ) -> Forecast:
        """Raises ValueError for fewer samples than members."""
        count = len(self.members)
        if samples < count:
            raise ValueError(f"{samples} samples do not reach for {count} simulators")
        shares = [len(part) for part in np.array_split(np.arange(samples), count)]
        found = [
            member.imagine(own, action, share, seed=seed)
            for member, own, share in zip(self.members, state, shares, strict=True)
        ]
        rewards = [f.reward for f in found if f.reward is not None]
        return Forecast(
            np.concatenate([f.obs for f in found]),
            np.concatenate(rewards) if len(rewards) == count else None,
        )

    def step(self, state: tuple[Any, ...], action: np.ndarray, *, seed: int):
        """Of the first member: one step has one outcome."""
        following, obs, reward = self.members[0].step(state[0], action, seed=seed)
        return (following, *state[1:]), obs, reward
