"""One episode: the immutable record of a finished one, and the growing arrays of one in progress.

Axes: L agent steps of the episode, A action. Index t of obs, reward and is_terminal is the same
moment; `action[t]` is taken from `obs[t]` (the alignment of `dreamer_h.types`).
"""

from dataclasses import dataclass, fields

import numpy as np

FIELDS = ("obs", "action", "reward", "is_terminal")


@dataclass(frozen=True, eq=False)
class Episode:
    """An episode's arrays, read-only. Raises ValueError if their lengths disagree."""

    obs: np.ndarray  # (L+1, ...) float32 or uint8
    action: np.ndarray  # (L, A) float32
    reward: np.ndarray  # (L+1,) float32, 0 at the first index
    is_terminal: np.ndarray  # (L+1,) bool
    id: int  # increases in the order in which the ring's episodes began

    def __post_init__(self):
        rows = {name: len(getattr(self, name)) for name in FIELDS}
        L = len(self)
        if rows != {"obs": L + 1, "action": L, "reward": L + 1, "is_terminal": L + 1}:
            raise ValueError(
                f"episode {self.id} has rows {rows}; needed are L of action and L+1 of the others: "
                "give the first observation with reward 0 and is_terminal False"
            )

    def __len__(self) -> int:
        """L, agent steps."""
        return len(self.action)

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in FIELDS)

    def frozen(self) -> "Episode":
        """A copy that owns exactly its rows and cannot be written to."""
        copies = {name: getattr(self, name).copy() for name in FIELDS}
        for copy in copies.values():
            copy.flags.writeable = False
        return Episode(**copies, id=self.id)


assert {field.name for field in fields(Episode)} == {*FIELDS, "id"}


class GrowingEpisode:
    """An episode in progress. Its arrays double when full, so never more than 2 L rows for L >= 1:
    that is the same worst case as of finished episodes (one step, two observations)."""

    def __init__(self, id: int, first_obs: np.ndarray, action_dim: int):
        self.id = id
        self.num_steps = 0
        self._arrays = {
            "obs": np.zeros((2, *first_obs.shape), first_obs.dtype),
            "action": np.zeros((2, action_dim), np.float32),
            "reward": np.zeros(2, np.float32),
            "is_terminal": np.zeros(2, bool),
        }
        self._arrays["obs"][0] = first_obs

    @classmethod
    def resumed(cls, episode: Episode) -> "GrowingEpisode":
        """Continue an episode that was saved while in progress."""
        growing = cls(episode.id, episode.obs[0], episode.action.shape[1])
        for t, action in enumerate(episode.action):
            arriving = (x[t + 1] for x in (episode.reward, episode.obs, episode.is_terminal))
            growing.append(action, *arriving)
        return growing

    def __len__(self) -> int:
        """Agent steps so far; 0 after the first observation alone."""
        return self.num_steps

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays.values())

    def append(self, action: np.ndarray, reward, obs: np.ndarray, is_terminal) -> None:
        t = self.num_steps
        if t + 2 > len(self._arrays["obs"]):
            self._arrays = {
                name: np.concatenate([array, np.zeros_like(array)])
                for name, array in self._arrays.items()
            }
        self._arrays["action"][t] = action
        self._arrays["reward"][t + 1] = reward
        self._arrays["obs"][t + 1] = obs
        self._arrays["is_terminal"][t + 1] = is_terminal
        self.num_steps = t + 1

    def view(self) -> Episode:
        """The episode so far, without a copy: valid until the next `append`."""
        L = self.num_steps
        rows = {name: array[: L + (name != "action")] for name, array in self._arrays.items()}
        return Episode(**rows, id=self.id)
