"""The ring on disk: a file for each finished episode, written once, and an index of them.

The index and the episodes in progress are small and travel inside the checkpoint; the files of
finished episodes are shared by all checkpoints of a run.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from dreamer_h.files import remove_stale, replacing
from dreamer_h.replay.episode import FIELDS, Episode
from dreamer_h.replay.ring import Ring


class ReplayCorrupt(ValueError):
    """An episode file that the index names is missing, cut short or altered; names the file."""


# What this process knows to be on disk: file -> sha256, for each live episode. The bare existence
# of a file proves nothing: a run that was killed leaves files with ids that the resumed run uses
# again for other episodes.
_written: WeakKeyDictionary[Episode, dict[Path, str]] = WeakKeyDictionary()


def save(ring: Ring, folder: str | os.PathLike) -> dict[str, Any]:
    """Write the finished episodes that are not yet in `folder`; return the index, for JSON.

    Each file appears whole or not at all. Raises OSError (a full disk): then files of earlier
    saves are intact, and the next save goes on where this one stopped. A run resumed from an
    older checkpoint writes over the files of the future that it has left.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    entries = []
    for episode in ring.finished():
        path = folder / _file_name(episode.id)
        known = _written.setdefault(episode, {})
        if path not in known or not path.exists():
            content = _encode(episode)
            with replacing(path) as file:
                file.write(content)
            known[path] = hashlib.sha256(content).hexdigest()
        entries.append({"id": episode.id, "length": len(episode), "sha256": known[path]})
    return {
        "capacity": ring.capacity,
        "obs_shape": list(ring.obs_shape),
        "obs_dtype": ring.obs_dtype.name,
        "action_dim": ring.action_dim,
        "next_id": ring.next_id,
        "episodes": entries,  # in the ring's order
    }


def in_progress(ring: Ring) -> dict[str, np.ndarray]:
    """Copies of the n unfinished episodes: `env_index`, `id` and `length` (n,), then each field of
    an episode with the rows of all, end to end (sum of L+1 rows, or of L for action)."""
    unfinished = ring.unfinished()
    episodes = list(unfinished.values())
    empty = {
        "obs": np.zeros((0, *ring.obs_shape), ring.obs_dtype),
        "action": np.zeros((0, ring.action_dim), np.float32),
        "reward": np.zeros(0, np.float32),
        "is_terminal": np.zeros(0, bool),
    }
    return {
        "env_index": np.array(list(unfinished), np.int64),
        "id": np.array([episode.id for episode in episodes], np.int64),
        "length": np.array([len(episode) for episode in episodes], np.int64),
    } | {
        name: np.concatenate([empty[name], *(getattr(episode, name) for episode in episodes)])
        for name in FIELDS
    }


def load(folder: str | os.PathLike, index: dict[str, Any], unfinished: dict[str, Any]) -> Ring:
    """The ring as it was at `index = save(...)` and `unfinished = in_progress(...)`, exactly.

    Raises ReplayCorrupt, naming the file, unless every episode of the index is there unchanged.
    """
    folder = Path(folder).resolve()
    ring = Ring(
        index["capacity"], tuple(index["obs_shape"]), index["obs_dtype"], index["action_dim"]
    )
    for entry in index["episodes"]:
        path = folder / _file_name(entry["id"])
        stored = ring.add(_read(path, entry))
        _written[stored] = {path: entry["sha256"]}
    for env_index, episode in _split(unfinished):
        ring.resume(env_index, episode)
    ring.next_id = index["next_id"]  # beyond ids of episodes that were dropped
    return ring


def prune(folder: str | os.PathLike, keep_ids: Iterable[int]) -> None:
    """Delete the episode files of all ids but `keep_ids`, those of every retained checkpoint's
    index together."""
    keep = {_file_name(id) for id in keep_ids}
    for path in Path(folder).glob("episode_*"):
        if path.name not in keep and re.fullmatch(r"episode_\d+\.npz", path.name):
            path.unlink(missing_ok=True)


def _file_name(id: int) -> str:
    return f"episode_{id:08d}.npz"


def _encode(episode: Episode) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, id=episode.id, **{name: getattr(episode, name) for name in FIELDS})
    return buffer.getvalue()


def _read(path: Path, entry: dict[str, Any]) -> Episode:
    advice = "restore the file, or resume from a checkpoint that does not need it"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ReplayCorrupt(f"episode file {path} is missing; {advice}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise ReplayCorrupt(
            f"episode file {path} is cut short or altered: its {len(content)} bytes have sha256 "
            f"{found}, the checkpoint recorded {entry['sha256']}; {advice}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            episode = Episode(**{name: arrays[name] for name in FIELDS}, id=int(arrays["id"]))
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ReplayCorrupt(f"episode file {path} is not an episode: {error}; {advice}") from error
    if (episode.id, len(episode)) != (entry["id"], entry["length"]):
        raise ReplayCorrupt(
            f"episode file {path} holds episode {episode.id} of {len(episode)} agent steps, the "
            f"checkpoint recorded {entry['id']} of {entry['length']}; {advice}"
        )
    return episode


def _split(unfinished: dict[str, Any]) -> list[tuple[int, Episode]]:
    lengths = np.asarray(unfinished["length"], np.int64)
    ends = np.cumsum(lengths)
    episodes = []
    for i, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        # i first observations came before this episode's: its L+1 rows end at end + i + 1
        rows = slice(end - length + i, end + i + 1)
        fields = {name: np.asarray(unfinished[name])[rows] for name in FIELDS if name != "action"}
        action = np.asarray(unfinished["action"])[end - length : end]
        episode = Episode(**fields, action=action, id=int(unfinished["id"][i]))
        episodes.append((int(unfinished["env_index"][i]), episode))
    return episodes
