"""Recordings as Minari data sets, and Minari data sets as recordings.

Needs the package minari (`pip install -e .[minari]`). The physics' state does not travel with it: a
data set that was read has no floor.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.horizon.recorded.layout import unnamed
from dreamer_h.horizon.recorded.recording import Recording, keep
from dreamer_h.replay.episode import Episode

UNBOUNDED = 1e6  # bounds of actions beyond this mean none

# what a data set that was written here says of itself; angles would not be known without the layout
TRAVELS = ("task", "behaviour", "tick", "action_repeat", "dt", "layout")


def to_minari(recording: Recording, name: str) -> Any:
    """Writes the local Minari data set `name`, such as "dreamer_h/cheetah-run-excited-v0"."""
    import minari
    from minari.data_collector import EpisodeBuffer

    buffers = []
    splits = [episode["split"] for episode in recording.manifest["episodes"]]
    for number in range(len(splits)):
        e = recording.episode(number)
        over = [False] * (len(e) - 1) + [not e.is_terminal[-1]]
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=recording.manifest["episodes"][number]["env_seed"],
                observations=list(e.obs),
                actions=list(e.action),
                rewards=e.reward[1:].astype(np.float64).tolist(),
                terminations=e.is_terminal[1:].tolist(),
                truncations=over,
            )
        )
    first = recording.episode(0)
    size, action = first.obs.shape[1], first.action.shape[1]
    return minari.create_dataset_from_buffers(
        dataset_id=name,
        buffer=buffers,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (size,), np.float32),
        action_space=gym.spaces.Box(-1.0, 1.0, (action,), np.float32),
        description=json.dumps({name: recording.manifest[name] for name in TRAVELS}),
    )


def from_minari(name: str, folder: Path) -> Recording:
    """Makes a recording of the local Minari data set `name` in `folder`.

    Actions are scaled from their space to -1 to 1, as `envs.make` has them. Raises ValueError where
    there is none, for spaces that are not a flat Box, for actions without bounds that leave -1 to
    1, for fewer than three episodes, and for a folder that holds another recording.
    """
    import minari

    if name not in minari.list_local_datasets():
        raise ValueError(f"no local Minari data set {name}; get it with `minari download {name}`")
    data = minari.load_dataset(name)
    spaces = (data.observation_space, data.action_space)
    if any(not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 for space in spaces):
        raise ValueError(f"{name} has spaces {spaces}; needed are flat boxes")
    size = data.observation_space.shape[0]
    about = {
        "task": name,
        "behaviour": "minari",
        "tick": 8,
        "action_repeat": 1,
        "dt": 1.0,
        "layout": [asdict(field) for field in unnamed(size)],
    }
    try:
        said = json.loads(data.storage.metadata.get("description") or "{}")
    except json.JSONDecodeError:
        said = {}  # another's description is prose
    if isinstance(said, dict) and set(TRAVELS) <= said.keys():
        about = {name: said[name] for name in TRAVELS}
    episodes = [
        Episode(  # raises where their lengths disagree
            np.asarray(found.observations, np.float32),
            _scaled(np.asarray(found.actions, np.float32), data.action_space),
            np.concatenate([[0.0], found.rewards]).astype(np.float32),
            np.concatenate([[False], found.terminations]),
            id=number,
        )
        for number, found in enumerate(data.iterate_episodes())
    ]
    return keep(folder, episodes, {**about, "versions": {"minari": minari.__version__}})


def _scaled(action: np.ndarray, space: gym.spaces.Box) -> np.ndarray:
    """Simulators know actions from -1 to 1, and nothing beyond."""
    ranged = np.maximum(np.abs(space.low), np.abs(space.high)) < UNBOUNDED
    bounded = ranged & (space.low < space.high)
    low = np.where(bounded, space.low, -1.0).astype(np.float64)
    high = np.where(bounded, space.high, 1.0).astype(np.float64)
    found = ((2.0 * action - (high + low)) / (high - low)).astype(np.float32)
    if (beyond := np.abs(found).max(initial=0.0)) > 1.0 + 1e-5:
        raise ValueError(
            f"actions come to {beyond:.3g} times the edge of {space}, and simulators know none "
            "beyond it; give the data set a space whose bounds hold them"
        )
    return found
