"""Recordings as Minari data sets, and Minari data sets as recordings.

Needs the package minari (`pip install -e .[minari]`). The physics' state does not travel with it: a
data set that was read has no floor.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.files import replacing
from dreamer_h.horizon.recording import (
    Recording,
    episode_path,
    load_recording,
    split_of,
)
from dreamer_h.replay.episode import FIELDS, Episode

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

    Raises ValueError where there is none, for spaces that are not a flat Box, and for fewer than
    three episodes.
    """
    import minari

    if name not in minari.list_local_datasets():
        raise ValueError(f"no local Minari data set {name}; get it with `minari download {name}`")
    data = minari.load_dataset(name)
    spaces = (data.observation_space, data.action_space)
    if any(not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 for space in spaces):
        raise ValueError(f"{name} has spaces {spaces}; needed are flat boxes")
    if data.total_episodes < 3:
        raise ValueError(f"{name} has {data.total_episodes} episodes; the splits need at least 3")
    size = data.observation_space.shape[0]
    about = {
        "task": name,
        "behaviour": "minari",
        "tick": 8,
        "action_repeat": 1,
        "dt": 1.0,
        "layout": [{"name": "obs", "start": 0, "stop": size, "kind": "other"}],
    }
    try:
        said = json.loads(data.storage.metadata.get("description") or "{}")
    except json.JSONDecodeError:
        said = {}  # another's description is prose
    if isinstance(said, dict) and set(TRAVELS) <= said.keys():
        about = {name: said[name] for name in TRAVELS}
    (folder / "episodes").mkdir(parents=True, exist_ok=True)
    described = []
    for number, found in enumerate(data.iterate_episodes()):
        e = Episode(
            np.asarray(found.observations, np.float32),
            np.asarray(found.actions, np.float32),
            np.concatenate([[0.0], found.rewards]).astype(np.float32),
            np.concatenate([[False], found.terminations]),
            number,
        )
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{array: getattr(e, array) for array in FIELDS})
        with replacing(episode_path(folder, number)) as file:
            file.write(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        split = split_of(number, data.total_episodes)
        described.append({"split": split, "sha256": digest, "env_seed": None, "policy_seed": None})
    manifest = {
        "schema_version": 1,
        **about,
        "episodes": described,
        "restartable": False,
        "versions": {"minari": minari.__version__},
        "hash": hashlib.sha256("".join(d["sha256"] for d in described).encode()).hexdigest(),
    }
    with replacing(folder / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=1).encode())
    return load_recording(folder)
