"""The subgoals that were pursued in reality, and where that led: what reliability is learned from,
beside imagination."""

import numpy as np

from dreamer_h.behaviour.hierarchical import ManagerWorker, anchors_of
from dreamer_h.train.act import Memory
from dreamer_h.types import Pursuits, Stack

KEPT = 512  # segments: those of a worker of long ago say little of this one
SAMPLED = 64  # of them an update


class PursuitLog:
    """The last segments of E environments that went from one choice of the manager to the next.

    Counted from an episode's start; one that its end, or a fault, cuts short is not told of.
    """

    def __init__(self, behaviour: ManagerWorker, memory: Memory):
        assert memory.intent is not None
        environments, width = memory.intent.shape
        self.stride = behaviour.stride
        self.begun = np.zeros((environments, 2, width), np.float32)  # where from, and where to
        self.kept = np.zeros((KEPT, 3, width), np.float32)  # and where it led
        self.count = 0

    def note(self, memory: Memory) -> None:
        """What the environments have come to, and set out for, at this moment."""
        assert isinstance(memory.latent, Stack)
        passed = np.asarray(memory.latent.steps) - 1
        begins = (passed >= 0) & (passed % self.stride == 0)
        if not begins.any():
            return
        place, goal = np.asarray(anchors_of(memory.latent)), np.asarray(memory.intent)
        for i in np.flatnonzero(begins):
            if passed[i]:
                self.kept[self.count % KEPT] = *self.begun[i], place[i]
                self.count += 1
            self.begun[i] = place[i], goal[i]

    def sample(self, rng: np.random.Generator) -> Pursuits:
        """Some of those that are kept; as long as there is none, of none."""
        chosen = rng.integers(max(1, min(self.count, KEPT)), size=SAMPLED)
        start, goal, reached = np.moveaxis(self.kept[chosen], 1, 0)
        return Pursuits(start, goal, reached, np.full(SAMPLED, self.count > 0))

    def state(self) -> dict[str, np.ndarray]:
        """All that resuming needs."""
        return {"begun": self.begun, "kept": self.kept, "count": np.asarray(self.count)}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` gave."""
        self.begun, self.kept = arrays["begun"].copy(), arrays["kept"].copy()
        self.count = int(arrays["count"])
