"""Recorded episodes: the data that simulators are fitted to and scored on.

A folder with `manifest.json` and one `episodes/00000.npz` for each episode: obs, action, reward,
is_terminal, and under `moment/<name>` the physics' full state at every multiple of `tick` agent
steps, so that a window can be restarted in reality. Episodes are split into thirds, by episode:
train, calibration, test.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from dreamer_h.files import replacing, write_json
from dreamer_h.horizon.recorded.layout import Field, Layout
from dreamer_h.replay.episode import FIELDS, Episode
from dreamer_h.types import Moment

Split = Literal["train", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "calibration", "test")


@dataclass(frozen=True)
class Recording:
    """A recorded data set; episodes are read when they are asked for."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def task(self) -> str:
        return self.manifest["task"]

    @property
    def dt(self) -> float:
        """Seconds per agent step."""
        return self.manifest["dt"]

    @property
    def action_repeat(self) -> int:
        return self.manifest["action_repeat"]

    @property
    def tick(self) -> int:
        """Agent steps between two recorded moments; windows start at their multiples."""
        return self.manifest["tick"]

    @property
    def hash(self) -> str:
        return self.manifest["hash"]

    @property
    def restartable(self) -> bool:
        """Whether the physics' state was recorded."""
        return self.manifest["restartable"]

    @property
    def layout(self) -> Layout:
        return tuple(Field(**field) for field in self.manifest["layout"])

    def numbers(self, split: Split) -> list[int]:
        """Numbers of the episodes of a split."""
        return [
            i for i, episode in enumerate(self.manifest["episodes"]) if episode["split"] == split
        ]

    def read(self, number: int) -> tuple[Episode, list[Moment]]:
        """An episode, and the physics' states at 0, tick, 2 tick, ... where they were recorded.

        Raises ValueError where the file is not the one that the manifest describes.
        """
        path = episode_path(self.folder, number)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.manifest["episodes"][number]["sha256"]:
            raise ValueError(f"{path} is not what {self.folder}/manifest.json says; record it anew")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        stacked = {
            name.removeprefix("moment/"): value
            for name, value in arrays.items()
            if name.startswith("moment/")
        }
        count = len(next(iter(stacked.values()), ()))
        moments = [{name: value[i] for name, value in stacked.items()} for i in range(count)]
        return Episode(**{name: arrays[name] for name in FIELDS}, id=number), moments

    def episode(self, number: int) -> Episode:
        return self.read(number)[0]

    @cached_property
    def train(self) -> list[Episode]:
        """The training episodes, all in memory."""
        return [self.episode(number) for number in self.numbers("train")]


def episode_path(folder: Path, number: int) -> Path:
    return folder / "episodes" / f"{number:05d}.npz"


def save_episode(folder: Path, number: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an episode whole or not at all: FIELDS, and `moment/<name>` where there is physics."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **cast(Any, arrays))
    with replacing(episode_path(folder, number)) as file:
        file.write(buffer.getvalue())


def keep(folder: Path, episodes: Sequence[Episode], about: dict[str, Any]) -> Recording:
    """Episodes that came about elsewhere, as a recording without the physics' state. The same again
    changes nothing.

    Raises ValueError for fewer than three, and for a folder that holds another recording.
    """
    if (folder / "manifest.json").exists() and _holds(folder, episodes, about):
        return load_recording(folder)
    if any((folder / name).exists() for name in ("manifest.json", "plan.json")):
        raise ValueError(f"{folder} holds another recording; give another folder with --out")
    if len(episodes) < 3:
        raise ValueError(f"there are {len(episodes)} episodes; the splits need at least 3")
    (folder / "episodes").mkdir(parents=True, exist_ok=True)
    for number, episode in enumerate(episodes):
        save_episode(folder, number, {name: getattr(episode, name) for name in FIELDS})
    return finish(folder, about, [{"env_seed": None, "policy_seed": None}] * len(episodes))


def _holds(folder: Path, episodes: Sequence[Episode], about: dict[str, Any]) -> bool:
    """Whether these episodes are what the folder's recording is of."""
    there = load_recording(folder)
    # as JSON has it, where tuples are lists
    if {name: there.manifest.get(name) for name in about} != json.loads(json.dumps(about)):
        return False
    if len(there.manifest["episodes"]) != len(episodes):
        return False
    return all(
        np.array_equal(getattr(there.episode(number), name), getattr(episode, name))
        for number, episode in enumerate(episodes)
        for name in FIELDS
    )


def finish(folder: Path, about: dict[str, Any], seeds: Sequence[Mapping[str, Any]]) -> Recording:
    """Describes the saved episodes, whose seeds are given, in a manifest: with that it is done."""
    episodes = []
    for number, known in enumerate(seeds):
        digest = hashlib.sha256(episode_path(folder, number).read_bytes()).hexdigest()
        episodes.append({"split": split_of(number, len(seeds)), "sha256": digest, **known})
    with np.load(episode_path(folder, 0), allow_pickle=False) as file:
        restartable = any(name.startswith("moment/") for name in file.files)
    manifest = {
        "schema_version": 1,
        **about,
        "restartable": restartable,
        "hash": hashlib.sha256("".join(e["sha256"] for e in episodes).encode()).hexdigest(),
        "episodes": episodes,
    }
    write_json(folder / "manifest.json", manifest)
    return load_recording(folder)


def load_recording(folder: Path) -> Recording:
    """A finished data set. Raises ValueError where there is none."""
    path = folder / "manifest.json"
    if not path.exists():
        begun = " (it was begun: the same command goes on)" if folder.exists() else ""
        raise ValueError(
            f"{folder} holds no finished recording{begun}; make one with "
            f"`python scripts/horizon.py record --task <name> --out {folder}`"
        )
    return Recording(folder, json.loads(path.read_text()))


def split_of(number: int, count: int) -> Split:
    """Thirds in the order of recording; what is left over goes to train."""
    third = count // 3
    train = count - 2 * third
    return "train" if number < train else SPLITS[1 + (number - train) // third]
