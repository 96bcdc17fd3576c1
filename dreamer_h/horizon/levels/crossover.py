"""From where on an upper level's jumps are better than the steps of the level below it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.metrics import errors
from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.statistics import INTERVAL, resamples
from dreamer_h.world.upper.hierarchy import Hierarchy


@dataclass(frozen=True)
class Crossover:
    """Of one level, in agent steps; None where there is none within the horizon.

    `lo` and `hi` are the 95 % interval over episodes, whose upper end is None where some resamples
    have no crossover. A level is `accepted` if its interval has an upper end, and is used from that
    end on: a gain that may be chance is no reason to jump.
    """

    level: int
    steps: int | None
    lo: int | None
    hi: int | None

    @property
    def accepted(self) -> bool:
        return self.hi is not None

    def described(self) -> str:
        """One line for people."""
        if self.steps is None:
            return f"level {self.level}: never better than the level below; not used"
        used = "not surely; not used" if self.hi is None else f"used from {self.hi} on"
        high = "never" if self.hi is None else self.hi
        return (
            f"level {self.level}: better from {self.steps} agent steps on "
            f"[95 % interval {self.lo} to {high}]; {used}"
        )


def measured(world: Hierarchy, windows: Windows, scale: Scale, *, samples: int) -> list[Crossover]:
    """The crossover of each level of a simulator, on windows that it has not learned from.

    A level is held against the one below, both alone from the start: the crossover is the first of
    its boundaries from which on the sum of the CRPS of all that follows is less.
    """
    below = _crps(world, (), windows, scale, samples)
    found = []
    for level, stride in enumerate(world.strides, 1):
        own = _crps(world, (0,) * level, windows, scale, samples)
        found.append(_crossover(level, stride, below, own, windows.episode))
        below = own
    return found


def handed_over(crossovers: list[Crossover]) -> tuple[int | None, ...]:
    """What `Hierarchy.imagine` takes: a level that is not accepted is never reached."""
    return tuple(crossover.hi for crossover in crossovers)


def _crossover(
    level: int, stride: int, below: np.ndarray, own: np.ndarray, episode: np.ndarray
) -> Crossover:
    counts = resamples(episode)
    gain = (counts @ (below - own)) / counts.sum(axis=1, keepdims=True)  # (R+1, H)
    places = [first_lasting(row, stride) for row in gain]
    never = below.shape[1]  # as a number, beyond all others
    low, high = np.percentile([never if p is None else p for p in places[1:]], INTERVAL)
    bound = lambda value: None if value >= never else int(value // stride * stride)
    return Crossover(level, places[0], bound(low), bound(high))


def first_lasting(gain: np.ndarray, stride: int) -> int | None:
    """The first multiple of `stride` from which on the gains (H,) at later steps, and the rest of
    them from any later boundary on, sum to more than nothing; None if there is none."""
    edges = np.arange(0, len(gain), stride)
    rest = gain[::-1].cumsum()[::-1][edges] > 0
    lasting = rest[::-1].cumprod()[::-1].astype(bool)
    return int(edges[lasting.argmax()]) if lasting.any() else None


def _crps(world, crossovers: tuple[int | None, ...], windows: Windows, scale: Scale, samples: int):
    simulator = LatentSimulator(world, crossovers)
    context = Context(windows.context_obs, windows.context_action)
    state = simulator.start(context, seed=0)
    return errors(simulator.imagine(state, windows.action, samples, seed=0), windows, scale)["crps"]


def as_json(crossovers: list[Crossover]) -> list[dict[str, Any]]:
    """For a card or a manifest."""
    return [asdict(crossover) for crossover in crossovers]


def from_json(found: list[dict[str, Any]]) -> list[Crossover]:
    """The inverse of `as_json`."""
    return [Crossover(**one) for one in found]
