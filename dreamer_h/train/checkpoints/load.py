"""A trained agent from a logdir."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax

from dreamer_h.config import Config
from dreamer_h.fields import from_flat
from dreamer_h.replay import storage
from dreamer_h.replay.episode import Episode
from dreamer_h.replay.ring import Ring
from dreamer_h.train.checkpoints import archive
from dreamer_h.train.checkpoints.archive import CheckpointCorrupt, load, read_manifest
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.checkpoints.level_files import BELOW, level_path, load_level
from dreamer_h.train.state import Agent, TrainState, init_state
from dreamer_h.types import Observed

T = TypeVar("T")


def load_config(run: Path) -> Config:
    """The config of a logdir. Raises ValueError if it is none."""
    path = run / "config.json"
    if not path.exists():
        raise ValueError(f"{run} has no config.json; give the --logdir of a run of train.py")
    try:
        return from_flat(json.loads(path.read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}; restore it from a backup") from error


def load_agent(
    run: Path, which: Literal["latest", "best"] = "latest"
) -> tuple[Config, Agent, dict[str, Any]]:
    """(config, agent, manifest) of a run's newest whole or best checkpoint.

    Of a logdir with an added level: the run that it stands on, with its levels. Raises ValueError
    if the logdir has no checkpoint, CheckpointCorrupt if none is whole.
    """
    config = load_config(run)
    if (run / BELOW).exists():
        return config, *load_frozen(run)
    folder = run / "checkpoints"
    paths = Checkpoints(folder).retained()[::-1]
    if which == "best":
        paths = [path for path in (folder / "best.ckpt",) if path.exists()]
    if not paths:
        raise ValueError(f"{folder} has no {which} checkpoint; let the run train on first")
    read = lambda path: load(path, _like(config, read_manifest(path)))
    state, _, manifest = _first_whole(paths, read)[1]
    return config, state.acting, manifest


def load_frozen(run: Path) -> tuple[Agent, dict[str, Any]]:
    """(agent, manifest) of the checkpoint that a logdir with added levels stands on, with them."""
    manifest = read_manifest(run / BELOW)
    below = from_flat(manifest["config"])
    agent = load(run / BELOW, _like(below, manifest))[0].acting
    level, about = below.levels, manifest
    while level_path(run, level).exists():
        world, about = load_level(level_path(run, level), agent.world, manifest)
        agent, level = Agent(world, agent.behaviour), level + 1
    return agent, manifest | {"crossovers": about["crossovers"]}


def described_run(config: Config, manifest: dict[str, Any], task: str) -> dict[str, Any]:
    """What a recording must agree with, for `horizon.models.check_agrees`; `task` as recorded."""
    return {
        "task": task,
        "obs": config.obs,
        "action_repeat": config.action_repeat,
        "observation": list(manifest["observation"]["shape"]),
        "action": manifest["action"],
    }


def load_replay(run: Path) -> tuple[Path, Ring]:
    """A run's newest whole checkpoint, and the replay as it says. Raises ValueError,
    ReplayCorrupt."""
    below, stored = _newest(run / BELOW if (run / BELOW).exists() else run)
    part = {
        name.removeprefix("replay/"): value
        for name, value in stored.items()
        if name.startswith("replay/")
    }
    return below, storage.load(run / "replay", read_manifest(below)["replay"], part)


def remembered(run: Path) -> list[Episode]:
    """Finished episodes of a run's replay; none, with a warning, where it is lost or damaged."""
    try:
        return list(load_replay(run)[1].finished())
    except (OSError, ValueError, CheckpointCorrupt, storage.ReplayCorrupt) as error:
        warnings.warn(f"nothing tells what {run} has seen: {error}", stacklevel=2)
        return []


def newest(path: Path) -> Path:
    """The newest whole checkpoint of a logdir; a checkpoint itself as it is. Raises ValueError, and
    CheckpointCorrupt if none is whole."""
    return _newest(path)[0]


def _newest(path: Path) -> tuple[Path, dict[str, Any]]:
    """The same, with its named arrays."""
    paths = [path] if path.is_file() else Checkpoints(path / "checkpoints").retained()[::-1]
    if not paths:
        raise ValueError(f"{path} has no checkpoint; give a file of one, or the --logdir of a run")
    return _first_whole(paths, archive.arrays)


def _first_whole(paths: Sequence[Path], read: Callable[[Path], T]) -> tuple[Path, T]:
    """The first of these checkpoints that is whole, and what `read` makes of it; each one before is
    warned of. Raises CheckpointCorrupt if none is."""
    reasons = []
    for path in paths:
        try:
            return path, read(path)
        except CheckpointCorrupt as error:
            reasons.append(str(error))
            if path != paths[-1]:
                warnings.warn(f"{error}; the one before is used", stacklevel=3)
    raise CheckpointCorrupt("; ".join(reasons))


def load_snapshots(path: Path) -> list[tuple[Agent, int]]:
    """(agent, action dimensions) of one checkpoint, or of each of a logdir, the best one last.

    Raises ValueError if the logdir has none.
    """
    folder = path / "checkpoints"
    paths = [path] if path.is_file() else [*Checkpoints(folder).retained(), folder / "best.ckpt"]
    found = []
    for path in paths:
        if path.exists():
            manifest = read_manifest(path)
            like = _like(from_flat(manifest["config"]), manifest)
            found.append((load(path, like)[0].acting, manifest["action"]))
    if not found:
        raise ValueError(f"{folder} has no checkpoint; let the run train on first")
    return found


def _like(config: Config, manifest: dict[str, Any]) -> TrainState:
    obs = Observed.from_json(manifest["observation"])
    return jax.eval_shape(lambda: init_state(obs, manifest["action"], config))
