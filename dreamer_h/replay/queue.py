"""A queue of finished episodes that finds the episode of a step in O(log n).

The cumulative lengths are kept up to date as episodes come and go, so that sampling from ten
thousands of episodes does not add them up on every call.
"""

from collections.abc import Iterator

import numpy as np

from dreamer_h.replay.episode import Episode


class EpisodeQueue:
    """First in, first out. Steps are counted over the queue, oldest episode first."""

    def __init__(self):
        self._episodes: list[Episode | None] = []
        # ends[i]: steps ever appended, up to and with episode i; only differences matter, so an
        # episode that leaves changes nothing but the head
        self._ends = np.zeros(16, np.int64)
        self._head = 0
        self._left = 0  # steps of the episodes that have left

    def __len__(self) -> int:
        return len(self._episodes) - self._head

    def __iter__(self) -> Iterator[Episode]:
        for episode in self._episodes[self._head :]:
            assert episode is not None
            yield episode

    @property
    def num_steps(self) -> int:
        end = len(self._episodes)
        return int(self._ends[end - 1]) - self._left if end > self._head else 0

    def append(self, episode: Episode) -> None:
        end = len(self._episodes)
        if end == len(self._ends):
            self._ends = np.concatenate([self._ends, np.zeros_like(self._ends)])
        self._ends[end] = self._left + self.num_steps + len(episode)
        self._episodes.append(episode)

    def popleft(self) -> Episode:
        """Remove the oldest episode. Raises IndexError if there is none."""
        if not len(self):
            raise IndexError("the queue of episodes is empty")
        oldest = self._episodes[self._head]
        assert oldest is not None
        self._episodes[self._head] = None  # frees the memory now; the list shrinks later
        self._left = int(self._ends[self._head])
        self._head += 1
        if self._head > 16 and 2 * self._head > len(self._episodes):
            end = len(self._episodes)
            self._ends[: end - self._head] = self._ends[self._head : end].copy()
            del self._episodes[: self._head]
            self._head = 0
        return oldest

    def holding(self, steps: np.ndarray) -> list[Episode]:
        """The episode that holds each of `steps`, numbers in [0, num_steps)."""
        ends = self._ends[self._head : len(self._episodes)]
        places = np.searchsorted(ends, steps + self._left, side="right") + self._head
        return [episode for place in places if (episode := self._episodes[place]) is not None]
