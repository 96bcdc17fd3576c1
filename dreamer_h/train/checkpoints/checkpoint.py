"""Which checkpoints of a run are kept: the last few and the best one."""

import math
import os
import shutil
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import PyTree

from dreamer_h.train.checkpoints.archive import (
    CheckpointCorrupt,
    Loaded,
    load,
    read_manifest,
    save,
    write_or_explain,
)


class Checkpoints:
    """The checkpoints of one run: the last `keep`, and the best one as `best.ckpt`.

    One process writes into a folder at a time (see lock.py).
    """

    def __init__(self, folder: Path | str, keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep is {keep}, at least one checkpoint is needed; set keep >= 1")
        self.folder = Path(folder)
        self.keep = keep

    def save(
        self,
        update: int,
        tree: PyTree,
        arrays: dict[str, np.ndarray],
        manifest: dict,
        score: SupportsFloat | None = None,
    ) -> Path:
        """Writes `update_<update>.ckpt`, then forgets the oldest; returns its path.

        A `score` higher than that of `best.ckpt` makes this one the best. Checkpoints of later
        updates are dropped: they belong to a future that was left when an earlier one was loaded.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        score = None if score is None else float(score)
        path = self.folder / f"update_{update:09d}.ckpt"
        save(path, tree, arrays, manifest, {"update": update, "score": score})
        if score is not None and score > self.best_score():  # never so for nan
            _link(path, self.folder / "best.ckpt")
        for other in self.retained():
            if _update(other) > update:
                other.unlink()
        for other in self.retained()[: -self.keep]:
            other.unlink()
        return path

    def load_latest(self, like: PyTree) -> Loaded | None:
        """Loads the newest checkpoint that is whole; newer ones that are not become `.corrupt`,
        with a warning for each, so that they neither count nor hinder from then on.

        None if the folder has none. Raises CheckpointCorrupt, naming all, if none is whole; and
        ValueError if the newest whole one does not fit `like`.
        """
        paths = self.retained()
        corrupt: list[Path] = []
        reasons: list[str] = []
        while paths:
            try:
                loaded = load(paths[-1], like)
            except CheckpointCorrupt as error:
                corrupt.append(paths.pop())
                reasons.append(str(error))
                if paths:
                    warnings.warn(f"{error}; trying the one before, {paths[-1].name}", stacklevel=2)
                continue
            for path in corrupt:
                path.rename(path.with_suffix(".corrupt"))
            return loaded
        if reasons:
            raise CheckpointCorrupt(
                f"no checkpoint in {self.folder} is whole: {'; '.join(reasons)}; "
                "copy one from a backup (best.ckpt may serve), or move them away to start anew"
            )
        return None

    def manifest(self) -> dict[str, Any] | None:
        """Of the newest checkpoint that says what it is; None if there is none."""
        for path in reversed(self.retained()):
            with suppress(CheckpointCorrupt):
                return read_manifest(path)
        return None

    def retained(self) -> list[Path]:
        """Paths of the checkpoints that a restart may load, oldest first."""
        return sorted(self.folder.glob("update_*.ckpt"), key=_update)

    def best_score(self) -> float:
        """Score of `best.ckpt`; -inf if there is none that is whole."""
        try:
            return float(read_manifest(self.folder / "best.ckpt")["checkpoint"]["score"])
        except FileNotFoundError:
            return -math.inf
        except CheckpointCorrupt as error:
            warnings.warn(f"{error}; the next scored checkpoint replaces it", stacklevel=2)
            return -math.inf


def _link(path: Path, best: Path) -> None:
    """Makes `best` the same file as `path`; a copy where the file system has no hard links."""
    temporary = best.with_name(f".{best.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.link(path, temporary)
        os.replace(temporary, best)
    except OSError:
        with open(path, "rb") as source:
            write_or_explain(
                best, path.stat().st_size, lambda file: shutil.copyfileobj(source, file)
            )
    finally:
        temporary.unlink(missing_ok=True)


def _update(path: Path) -> int:
    return int(path.stem.removeprefix("update_"))
