"""How much of a task's states recordings show, held against each other."""

from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln

from dreamer_h.horizon.recorded.recording import Recording
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.statistics import interval, mean, resamples

STATES = 5000  # of each recording, as many of each episode
NEIGHBOUR = 4  # whose distance tells how dense states are (Kraskov et al. 2004)
NEAR = 0.95  # of a recording's states have one of another episode within its resolution

Found = dict[str, float]  # value, lo, hi


def coverage(recordings: dict[str, Recording]) -> dict[str, Any]:
    """Of the training episodes of several recordings of one task, in their common deviations, with
    intervals over episodes:

    entropy   nats of the distribution of states; only differences mean anything
    shown     by name of another recording: the share of its states that lie within the resolution
              of a state of this one. One resolution serves all: the least of the recordings' own,
              which is the distance (deviations) that 95 % of a recording's states have a state of
              another of its episodes within

    Raises ValueError where observations differ in size, and for a recording with fewer than two
    training episodes.
    """
    layouts = {recording.layout for recording in recordings.values()}
    if len(layouts) > 1:
        raise ValueError(f"{', '.join(recordings)} see different things; give one task's")
    for name, recording in recordings.items():
        if len(recording.train) < 2:
            raise ValueError(f"{name} has one training episode; record 6 or more")
    together = [episode for recording in recordings.values() for episode in recording.train]
    scale = Scale.fit(together, layouts.pop())
    states = {name: _states(recording, scale) for name, recording in recordings.items()}
    resolution = min(resolved(*own) for own in states.values())
    return {
        name: {
            "states": len(own),
            "entropy": entropy(own, episode),
            "shown": {
                other: shown(own, *theirs, resolution)
                for other, theirs in states.items()
                if other != name
            },
        }
        for name, (own, episode) in states.items()
    }


def _states(recording: Recording, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Standardised states (N, K), angles as points of a circle, and the episode of each."""
    each = max(1, STATES // len(recording.train))
    found, episode = [], []
    for number, one in enumerate(recording.train):
        chosen = np.linspace(0, len(one.obs) - 1, min(each, len(one.obs))).astype(int)
        away = scale.deviations(one.obs[chosen])
        angle = away[:, scale.circular] * scale.std[scale.circular]
        round_ = [np.sin(angle), np.cos(angle)]
        found.append(np.concatenate([away[:, ~scale.circular], *round_], axis=1))
        episode.append(np.full(len(chosen), number))
    return np.concatenate(found), np.concatenate(episode)


def entropy(states: np.ndarray, episode: np.ndarray) -> Found:
    """Differential entropy, in nats, of the distribution that states (N, K) are drawn from, by how
    far neighbours in other episodes are (Kozachenko & Leonenko 1987): those of the same episode
    say how fast it moves."""
    size, names = states.shape[1], np.unique(episode)
    near = min(NEIGHBOUR, len(states) // len(names))
    ball = 0.5 * size * np.log(np.pi) - gammaln(0.5 * size + 1)
    others = len(states) * (1 - 1 / len(names))
    logs = np.log(np.maximum(_apart(states, episode, near), 1e-12))
    found = mean(size * logs, resamples(episode))
    return interval(np.log(others) - digamma(near) + ball + found)


def resolved(states: np.ndarray, episode: np.ndarray) -> float:
    """The resolution of states (N, K), of episodes (N,): the distance that 95 % of them have one of
    another episode within."""
    return float(np.quantile(_apart(states, episode, 1), NEAR))


def shown(own: np.ndarray, theirs: np.ndarray, of: np.ndarray, resolution: float) -> Found:
    """The share of `theirs` (M, K), of episodes `of` (M,), that lie within the resolution of one of
    `own` (N, K)."""
    held = (KDTree(own).query(theirs)[0] <= resolution).astype(float)
    return interval(mean(held, resamples(of)))


def _apart(states: np.ndarray, episode: np.ndarray, near: int) -> np.ndarray:
    """(N,) how far each state is from its `near`-th neighbour in other episodes."""
    distance = np.empty(len(states))
    for number in np.unique(episode):
        own = episode == number
        several = KDTree(states[~own]).query(states[own], k=near)[0]
        distance[own] = np.reshape(several, (own.sum(), near))[:, -1]
    return distance


def rows(found: dict[str, Any], task: str) -> list[dict[str, Any]]:
    """Result rows, x the number of states."""
    listed = []
    for name, one in found.items():
        own = {"task": task, "x": one["states"]}
        listed.append(own | {"what": f"entropy/{name}", "unit": "nats"} | one["entropy"])
        for other, share in one["shown"].items():
            what = f"shown/{other}/by/{name}"
            listed.append(own | {"what": what, "unit": "share"} | share)
    return listed


def table(found: dict[str, Any]) -> str:
    """As Markdown: a row a recording."""
    names = list(found)
    lines = ["| recording | entropy, nats | " + " | ".join(f"shows of {n}" for n in names) + " |"]
    lines.append("|" + "---|" * (len(names) + 2))
    for name, one in found.items():
        cells = ["{value:.1f} [{lo:.1f}, {hi:.1f}]".format(**one["entropy"])]
        for other in names:
            share = one["shown"].get(other)
            cells.append(
                "" if share is None else "{value:.3f} [{lo:.3f}, {hi:.3f}]".format(**share)
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
