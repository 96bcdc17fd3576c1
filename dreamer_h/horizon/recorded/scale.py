"""Units of error: what one standard deviation of the training data is, entry by entry."""

from dataclasses import dataclass

import numpy as np

from dreamer_h.horizon.recorded.layout import Field
from dreamer_h.replay.episode import Episode

KINDS = ("position", "angle", "velocity", "contact", "other")


@dataclass(frozen=True)
class Scale:
    """Normalises observations (..., O) to training statistics; angles are circular.

    Entries that (nearly) never moved in training have no scale and are left out: O keeps K of them.
    """

    mean: np.ndarray  # (K,); of angles the circular mean
    std: np.ndarray  # (K,); of angles the root mean square distance from it
    kept: np.ndarray  # (K,) which entries
    circular: np.ndarray  # (K,) bool
    kind: tuple[str, ...]  # of each kept entry

    @classmethod
    def fit(cls, episodes: list[Episode], layout: tuple[Field, ...]) -> "Scale":
        """Raises ValueError if no entry of the training observations ever changes."""
        obs = np.concatenate([episode.obs for episode in episodes]).astype(np.float64)
        kinds = np.array([field.kind for field in layout for _ in range(field.start, field.stop)])
        assert len(kinds) == obs.shape[1], (len(kinds), obs.shape)
        circular = kinds == "angle"
        mean = obs.mean(axis=0)
        turn = np.angle(np.exp(1j * obs[:, circular]).mean(axis=0))
        mean[circular] = turn
        away = obs - mean
        away[:, circular] = wrapped(away[:, circular])
        std = np.sqrt((away**2).mean(axis=0))
        kept = np.flatnonzero(std > 1e-6 * np.maximum(1.0, np.abs(mean)))
        if len(kept) == 0:
            raise ValueError("no entry of the training observations ever changes; record others")
        return cls(mean[kept], std[kept], kept, circular[kept], tuple(kinds[kept].tolist()))

    def difference(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(left - right) / std of observations (..., O), angles the short way round: (..., K)."""
        away = np.asarray(left, np.float64)[..., self.kept] - right[..., self.kept]
        away[..., self.circular] = wrapped(away[..., self.circular])
        return away / self.std

    def nearest(self, obs: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Observations (..., O) whose angles are as many whole turns on as brings them nearest to
        `other`."""
        angles, found = self.kept[self.circular], obs.copy()
        found[..., angles] = other[..., angles] + wrapped(found[..., angles] - other[..., angles])
        return found

    def deviations(self, obs: np.ndarray) -> np.ndarray:
        """Observations (..., O) as (..., K) training deviations from the training mean."""
        mean = np.zeros(obs.shape[-1])
        mean[self.kept] = self.mean
        return self.difference(obs, mean)

    def physical(self, x: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Back to (..., O); entries without a scale are those of `rest`, which broadcasts."""
        obs = np.broadcast_to(rest, (*x.shape[:-1], rest.shape[-1])).copy()
        obs[..., self.kept] = self.mean + self.std * x
        return obs

    def centre(self, samples: np.ndarray) -> np.ndarray:
        """Mean over the first axis of (S, ..., O); of angles the circular one."""
        mean = samples.mean(axis=0)
        angles = self.kept[self.circular]
        if len(angles):
            mean[..., angles] = np.angle(np.exp(1j * samples[..., angles]).mean(axis=0))
        return mean

    def groups(self) -> dict[str, np.ndarray]:
        """Places among the kept entries, by kind; only kinds that occur."""
        kinds = np.array(self.kind)
        return {kind: np.flatnonzero(kinds == kind) for kind in KINDS if kind in self.kind}


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Radians in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
