"""What has happened since the last log record, and the numbers that the next one shows of it."""

import time
from typing import Any

import jax
import numpy as np

LAST = ("train/skipped", "train/skipped_in_a_row")  # counts: the newest says it all


class Tally:
    """Collects updates, finished episodes and actions; `taken` empties it.

    Metrics stay on the device until then, so that counting waits for no update.
    """

    def __init__(self):
        self._clear()

    def _clear(self) -> None:
        self.updates: list[dict[str, jax.Array]] = []
        self.episodes: list[tuple[float, int]] = []  # (return, length in agent steps)
        self.actions: list[np.ndarray] = []  # (E, A) each
        self.began = time.monotonic()

    def taken(self, env_steps: int) -> tuple[dict[str, float], np.ndarray | None]:
        """Means of what was collected along `env_steps`, rates a second; and the actions (N, A)."""
        fetched = jax.device_get(self.updates)
        found: dict[str, float] = {}
        if fetched:
            found = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
            found |= {name: float(fetched[-1][name]) for name in LAST}
        if self.episodes:
            totals, lengths = zip(*self.episodes, strict=True)
            found["collect/return"] = float(np.mean(totals))
            found["collect/length"] = float(np.mean(lengths))
        seconds = time.monotonic() - self.began
        found["speed/updates_per_second"] = len(fetched) / seconds
        found["speed/env_steps_per_second"] = env_steps / seconds
        actions = np.concatenate(self.actions) if self.actions else None
        self._clear()
        return found, actions

    def state(self) -> tuple[dict[str, np.ndarray], list[tuple[float, int]]]:
        """What the next record will be made of: metrics of each update, and finished episodes."""
        fetched = jax.device_get(self.updates)
        names = fetched[0] if fetched else ()
        return {name: np.stack([m[name] for m in fetched]) for name in names}, self.episodes

    def restore(self, metrics: dict[str, np.ndarray], episodes: list[Any]) -> None:
        """Takes back what `state` gave."""
        count = len(next(iter(metrics.values()), ()))
        self.updates = [{name: metrics[name][i] for name in metrics} for i in range(count)]
        self.episodes = episodes
