"""A level that was added to a frozen run: kept, and found, by itself.

A logdir with an added level holds `below.ckpt`, the checkpoint that it stands on, `replay/`, what
the level learned from, and one `level<n>.ckpt` for each level that was added.
"""

import hashlib
from pathlib import Path
from typing import Any, cast

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from dreamer_h.config import Config
from dreamer_h.fields import flatten, from_flat
from dreamer_h.horizon.simulators.offline import parted
from dreamer_h.train.checkpoints import archive
from dreamer_h.types import Observed
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy, make_world, on_top, topmost_of

BELOW = "below.ckpt"


def level_path(logdir: Path, level: int) -> Path:
    return logdir / f"level{level}.ckpt"


def save_level(path: Path, world: Hierarchy, config: Config, about: dict[str, Any]) -> None:
    """Writes the topmost level alone, with the mark of the levels that it was trained on."""
    trained, frozen = parted(world, topmost_of)
    known = {"config": flatten(config), "below": digest(frozen), **about}
    archive.save(path, trained, {}, known)


def load_level(path: Path, below: AnyWorld, manifest: dict[str, Any]) -> tuple[Hierarchy, dict]:
    """The level on top of what is below it, and what was written with it.

    `manifest` is that of the run, which says what is observed. Raises CheckpointCorrupt for a
    damaged file, and ValueError where the levels below are others than it was trained on.
    """
    config = from_flat(archive.read_manifest(path)["config"])
    obs = Observed.from_json(manifest["observation"])
    blank = jax.eval_shape(lambda: make_world(obs, manifest["action"], config, key=jr.key(0)))
    blank = cast(Hierarchy, blank)
    if len(blank.jumps) != 1 + (len(below.jumps) if isinstance(below, Hierarchy) else 0):
        raise ValueError(f"{path} holds level {len(blank.jumps)}; the levels below it are missing")
    trained, _, about = archive.load(path, parted(blank, topmost_of)[0])
    frozen = parted(on_top(blank, below), topmost_of)[1]
    if digest(frozen) != about["below"]:
        raise ValueError(
            f"{path} was trained on other levels than those in {path.parent}; add it anew with "
            "`scripts/train.py --from <run> --add-level`"
        )
    return eqx.combine(trained, frozen), about


def digest(tree: Any) -> str:
    """sha256 of every parameter, bit for bit."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()
