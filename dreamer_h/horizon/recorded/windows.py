"""Which parts of recorded episodes are predicted, from which context."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dreamer_h.horizon.recorded.recording import Recording, Split
from dreamer_h.types import Moment

CONTEXT = 16  # agent steps that a simulator sees before it goes on alone
HORIZONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 400)  # agent steps
SHORT = 64  # agent steps of the windows that only the near horizons need
SHORT_PER_EPISODE = 3


@dataclass(frozen=True)
class Windows:
    """W windows of C context steps and H steps to predict; prediction begins at obs[C].

    `action[t]` leads to `future_obs[t]`, which pays `future_reward[t]`.
    """

    episode: np.ndarray  # (W,) number of the episode
    start: np.ndarray  # (W,) agent step at which prediction begins, a multiple of the tick
    context_obs: np.ndarray  # (W, C+1, O)
    context_action: np.ndarray  # (W, C, A)
    action: np.ndarray  # (W, H, A)
    future_obs: np.ndarray  # (W, H, O)
    future_reward: np.ndarray  # (W, H)
    moments: list[Moment]  # W physical states at `start`; empty where there are none

    @property
    def horizon(self) -> int:
        return self.action.shape[1]

    def __len__(self) -> int:
        return len(self.episode)


def longest_horizon(lengths: list[int], tick: int, context: int = CONTEXT) -> int:
    """The farthest horizon of the table that fits behind the context in half of the episodes."""
    first = -(-context // tick) * tick
    fits = [h for h in HORIZONS if np.mean([first + h <= L for L in lengths]) >= 0.5]
    if not fits:
        raise ValueError(
            f"episodes of {sorted(lengths)[len(lengths) // 2]} agent steps (median) are too short "
            f"for {context} steps of context and one to predict"
        )
    return fits[-1]


def choose(
    recording: Recording, split: Split, horizon: int, per_episode: int, *, context: int = CONTEXT
) -> Windows:
    """`per_episode` windows in every episode that is long enough, spread evenly over it."""
    tick = recording.tick
    first = -(-context // tick) * tick
    places, moments = [], []
    for number in recording.numbers(split):
        episode, recorded = recording.read(number)
        last = (len(episode) - horizon) // tick * tick
        if last < first:
            continue
        # the offset differs from episode to episode, so that all starts occur
        offset = (number * 0.618) % 1.0
        fractions = (np.arange(per_episode) + offset) / per_episode
        starts = first + (fractions * (last - first) / tick).round().astype(int) * tick
        places += [(number, episode, int(start)) for start in np.unique(starts)]
        moments += [recorded[start // tick] for start in np.unique(starts) if recorded]
    if not places:
        raise ValueError(
            f"no {split} episode holds {context} steps of context and {horizon} to predict"
        )
    return replace(cut(places, horizon, context=context), moments=moments)


def cut(places: list[tuple[int, Any, int]], horizon: int, *, context: int = CONTEXT) -> Windows:
    """Windows at places (number, episode, start); the episodes have obs, action and reward."""
    gather = lambda pick: np.stack([pick(episode, start) for _, episode, start in places])
    return Windows(
        episode=np.array([number for number, _, _ in places]),
        start=np.array([start for _, _, start in places]),
        context_obs=gather(lambda e, s: e.obs[s - context : s + 1]),
        context_action=gather(lambda e, s: e.action[s - context : s]),
        action=gather(lambda e, s: e.action[s : s + horizon]),
        future_obs=gather(lambda e, s: e.obs[s + 1 : s + 1 + horizon]),
        future_reward=gather(lambda e, s: e.reward[s + 1 : s + 1 + horizon]),
        moments=[],
    )
