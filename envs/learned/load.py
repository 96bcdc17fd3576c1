"""From the folder of a run to a task: its simulator, its starts, its spaces and its time limit."""

from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, get_args
from weakref import WeakValueDictionary

import gymnasium as gym
import numpy as np

import envs
from dreamer_h.behaviour.subgoal import spread_over
from dreamer_h.horizon.models import check_agrees
from dreamer_h.horizon.recorded.recording import load_recording
from dreamer_h.nn.fsq import LEVELS
from dreamer_h.replay.episode import Episode
from dreamer_h.simulated import calibration
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.simulated.episode import Simulated
from dreamer_h.simulated.jumping import Jumping
from dreamer_h.simulated.starts import Kind, starts_of
from dreamer_h.train.checkpoints.load import described_run, load_agent, load_replay
from dreamer_h.train.runtime import use_compilation_cache
from dreamer_h.world.upper.chunk import MACRO
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

STARTS = 1024  # of which an episode draws one
CHOICES = [LEVELS] * MACRO  # of a jump


@dataclass(frozen=True)
class Learned:
    """A simulator as a task, and the real task that it imitates."""

    simulated: Simulated
    episodes: tuple[Episode, ...]  # that were really played
    task: str
    observation_space: gym.spaces.Box  # the real task's
    action_space: gym.spaces.Box | gym.spaces.MultiDiscrete  # the real task's, or of jumps
    action: int  # entries of one of the real task
    dt: float  # seconds of a step


def load(run: str | Path, **options: Any) -> Learned:
    """The simulator of a logdir of train.py; see `LearnedEnv` for the options.

    Environments of one process that ask for the same share it. Raises ValueError where there is no
    run, or none of this version, CheckpointCorrupt where none is whole, and ValueError for what the
    run and the recording cannot give.
    """
    if unknown := sorted(options.keys() - OPTIONS):
        raise TypeError(f"there is no option {unknown[0]}; there are {', '.join(sorted(OPTIONS))}")
    run = Path(run)
    written = max((path.stat().st_mtime_ns for path in run.rglob("*.ckpt")), default=0)
    asked = (run.resolve(), written, *sorted((name, str(of)) for name, of in options.items()))
    found = _shared.get(asked)
    if found is None:
        found = _shared[asked] = _read(run, **options)
    return found


_shared: WeakValueDictionary[tuple[Any, ...], Learned] = WeakValueDictionary()


def _read(
    run: Path,
    *,
    starts: Kind = "first",
    data: str | Path | None = None,
    level: int | None = None,
    truncate_on_trust: bool = False,
    trust: float = 1.0,
    max_episode_steps: int | None = None,
) -> Learned:
    if starts not in get_args(Kind):
        raise ValueError(f"starts is {starts!r}; it must be one of {', '.join(get_args(Kind))}")
    use_compilation_cache()
    config, agent, manifest = load_agent(run)
    measured = calibration.from_json(manifest["calibration"])
    world = _with_level(run, agent.world, level)
    if truncate_on_trust:
        _check_trust(run, agent.world, level, measured)
    seen = manifest["observation"]
    shape, dtype = tuple(seen["shape"]), np.dtype(seen["dtype"])
    if data is None:
        episodes = list(load_replay(run)[1].finished())
    else:
        recording = load_recording(Path(data))
        about = described_run(config, manifest, envs.short_name(config.task))
        check_agrees(f"the run in {run}", about, recording)
        episodes = recording.train
    if not episodes:
        raise ValueError(f"{run} has finished no episode yet; let it train on first, or give data")
    limit, dt = _times(config.task, config.action_repeat)
    if limit is None:  # the task cuts off by itself: as late as it ever did
        cut = [len(episode) for episode in episodes if not episode.is_terminal[-1]]
        limit = max(cut, default=None)
    stride = world.strides[level - 1] if level and isinstance(world, Hierarchy) else 1
    shorter = _shorter(max_episode_steps)
    limits = [one for one in (limit, shorter and shorter * stride) if one is not None]
    kind, action_space = Simulated, gym.spaces.Box(-1.0, 1.0, (manifest["action"],), np.float32)
    if level:
        kind, action_space = partial(Jumping, level=level), gym.spaces.MultiDiscrete(CHOICES)
    spread = None
    if len(shape) == 1:
        spread = spread_over((one.obs for one in episodes), world.angles)
    simulated = kind(
        world=world,
        starts=starts_of(world, episodes, starts, STARTS, manifest["action"], seed=config.seed),
        spread=spread,
        calibration=None if level else measured,
        ends=any(episode.is_terminal[-1] for episode in episodes),
        discount=1.0 - 1.0 / config.behaviour.horizon,
        limit=min(limits, default=None),
        trust=trust if truncate_on_trust else None,
    )
    image = dtype == np.uint8
    low, high = (0, 255) if image else (-np.inf, np.inf)
    return Learned(
        simulated=simulated,
        episodes=tuple(episodes),
        task=config.task,
        observation_space=gym.spaces.Box(low, high, shape, dtype.type),
        action_space=action_space,
        action=manifest["action"],
        dt=dt * simulated.stride,
    )


OPTIONS = {name for name in signature(_read).parameters if name != "run"}


def _shorter(max_episode_steps: int | None) -> int | None:
    """As Gymnasium has it, where -1 is no limit."""
    if max_episode_steps is None or max_episode_steps == -1:
        return None
    if max_episode_steps < 1 or max_episode_steps != int(max_episode_steps):
        raise ValueError(
            f"max_episode_steps is {max_episode_steps}; it must be a whole number from 1 on, or -1 "
            "for the real task's limit"
        )
    return int(max_episode_steps)


def _with_level(run: Path, world: AnyWorld, level: int | None) -> AnyWorld:
    """The world that is played in, where it can do what is asked."""
    upper = len(world.jumps) if isinstance(world, Hierarchy) else 0
    advice = "add one with train.py --from … --add-level"
    if level is not None and not 0 <= level <= upper:
        has = f"to {upper}" if upper else f"alone: {advice}"
        raise ValueError(f"level is {level}; {run} has level 0 {has}")
    return world.base if level == 0 and isinstance(world, Hierarchy) else world


def _check_trust(
    run: Path, world: AnyWorld, level: int | None, measured: Calibration | None
) -> None:
    """Raises ValueError where nothing says how far to trust."""
    if level:
        raise ValueError(f"truncate_on_trust is for agent steps; level {level} jumps")
    if measured is None and (level is not None or not isinstance(world, Hierarchy)):
        raise ValueError(
            f"truncate_on_trust needs a calibrated radius, or two levels; {run} has none: let it "
            "train to an evaluation, or add a level with train.py --from … --add-level"
        )


def _times(task: str, action_repeat: int) -> tuple[int | None, float]:
    """Agent steps of an episode of the real task, and seconds of one."""
    real: Any = envs.make(task, action_repeat=action_repeat)
    try:
        return real.get_wrapper_attr("episode_limit"), float(real.get_wrapper_attr("dt"))
    finally:
        real.close()
