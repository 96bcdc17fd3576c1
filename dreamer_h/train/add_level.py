"""A level for a trained, frozen run: trained on the run's replay, judged on new episodes."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import gymnasium as gym
import jax.random as jr

from dreamer_h.config import Config
from dreamer_h.fields import flatten
from dreamer_h.files import write_json
from dreamer_h.horizon.levels import crossover
from dreamer_h.horizon.levels.crossover import Crossover
from dreamer_h.horizon.recorded.layout import fields_of
from dreamer_h.horizon.simulators import offline
from dreamer_h.presets import with_levels
from dreamer_h.replay.ring import Ring
from dreamer_h.train.checkpoints.level_files import BELOW, level_path, save_level
from dreamer_h.train.checkpoints.load import load_config, load_frozen, load_replay, newest
from dreamer_h.train.evaluation import fidelity
from dreamer_h.train.evaluation.evaluate import Episode, play_held_out
from dreamer_h.train.seeds import Stream
from dreamer_h.types import Observed
from dreamer_h.world.upper.hierarchy import Hierarchy, make_world, on_top, topmost_of


def with_one_more(config: Config, stride: int) -> Config:
    """The config with a level whose jumps cover `stride` jumps, or steps, of the one below."""
    strides = [*config.strides.split(",")[: config.levels - 1], str(stride)]
    config = with_levels(config, config.levels + 1, ",".join(strides))
    return replace(config, jump=replace(config.jump, every=1))  # nothing else learns


def add_level(
    run: Path,
    logdir: Path,
    stride: int,
    shares: Iterable[float],
    make_env: Callable[..., gym.Env],
    *,
    seed: int,
) -> list[Crossover]:
    """Trains a level on top of a run, of which nothing changes, and keeps both in `logdir`.

    `shares` are those of the budget. Returns the crossovers of all its levels, the new one last;
    none of runs with pixels, whose errors say little. Raises ValueError where the run has no
    replay, or too short episodes.
    """
    config = replace(with_one_more(load_config(run), stride), seed=seed)
    if not list(load_replay(run)[1].finished()):
        raise ValueError(f"{run} has no finished episode in its replay; let it collect some first")
    _keep(run, logdir, config.levels)  # all that is read below: the run may go on meanwhile
    agent, manifest = load_frozen(logdir)
    ring = load_replay(logdir)[1]
    obs = Observed.from_json(manifest["observation"])
    fresh = make_world(obs, manifest["action"], config, key=jr.key(seed))
    world = on_top(cast(Hierarchy, fresh), agent.world)
    world = offline.fit(world, list(ring.finished()), config, shares, seed=seed, part=topmost_of)
    episodes, _ = play_held_out(
        agent, config, make_env, config.eval_episodes, seed=seed, stream=Stream.CALIBRATE
    )
    found = _judged(world, episodes, ring, make_env)
    about = {"seed": seed, "crossovers": crossover.as_json(found)}
    save_level(level_path(logdir, config.levels - 1), world, config, about)
    write_json(logdir / "config.json", flatten(config))
    return found


def _keep(run: Path, logdir: Path, levels: int) -> None:
    """A checkpoint of the run, with its replay and those of `levels` that were added to it; what an
    attempt before has left goes."""
    below = run / BELOW if (run / BELOW).exists() else newest(run)
    (logdir / "replay").mkdir(parents=True, exist_ok=True)
    _link(below, logdir / BELOW)
    for level in range(1, levels + 1):
        level_path(logdir, level).unlink(missing_ok=True)
        if level_path(run, level).exists():
            _link(level_path(run, level), level_path(logdir, level))
    for path in (run / "replay").glob("episode_*.npz"):
        _link(path, logdir / "replay" / path.name)


def _judged(
    world: Hierarchy, episodes: list[Episode], ring: Ring, make_env: Callable[..., gym.Env]
) -> list[Crossover]:
    if len(ring.obs_shape) > 1:
        return []
    env = make_env()
    try:
        return fidelity.crossovers(world, episodes, ring.finished(), fields_of(env))
    finally:
        env.close()


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
