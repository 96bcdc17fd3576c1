"""Returns in the real environment: of the mode policy and of the sampled policy, apart."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.config import Config
from dreamer_h.guard import EnvironmentFault, checked_picture, checked_reset, checked_step
from dreamer_h.train.act import act, init_memory
from dreamer_h.train.seeds import Stream, derive
from dreamer_h.train.state import Agent
from dreamer_h.types import Moment, Sequence


@dataclass(frozen=True)
class Episode:
    """One evaluation episode of L agent steps; frames only where they were asked for."""

    sampled: bool
    obs: np.ndarray  # (L+1, ...)
    action: np.ndarray  # (L, A)
    reward: np.ndarray  # (L+1,), 0 at the start
    frames: np.ndarray | None  # uint8 (L+1, height, width, 3)
    intent: np.ndarray | None = None  # (L, V) the subgoal at each step, where there is a manager
    moments: tuple[Moment, ...] = ()  # where its segments began, if the task can be put back there
    terminated: bool = False  # it ended by itself, not by a limit

    @property
    def total(self) -> float:
        return float(self.reward.sum())

    def segments(self, stride: int) -> tuple[Sequence, int] | None:
        """Its whole segments of `stride` agent steps in a row, and how many they are; padded to a
        power of two of them, since each number would be another program. None without one."""
        count = len(self.action) // stride
        if not count:
            return None
        padded = 1 << (count - 1).bit_length()
        return self.beginning(count * stride, padded * stride), count

    def first(self, steps: int) -> "Episode":
        """Its first agent steps, all of them if they are fewer, without pictures."""
        return replace(
            self,
            obs=self.obs[: steps + 1],
            action=self.action[:steps],
            reward=self.reward[: steps + 1],
            frames=None,
            intent=None if self.intent is None else self.intent[:steps],
        )

    def beginning(self, steps: int, padded: int | None = None) -> Sequence:
        """Its first `steps` agent steps, with nothing of how it ends; `padded` to so many."""
        total = padded or steps
        fill = lambda rows, count: np.pad(
            rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1)
        )
        times = np.arange(total + 1)
        return Sequence(
            obs=fill(self.obs[: steps + 1], total + 1),
            action=fill(self.action[:steps], total),
            reward=fill(self.reward[: steps + 1], total + 1),
            is_first=times == 0,
            is_terminal=np.zeros(total + 1, bool),
            mask=times <= steps,
        )


def play(
    agent: Agent,
    envs: list[gym.Env],
    seeds: list[int],
    sampled: list[bool],
    *,
    seed: int,
    film: bool = False,
) -> list[Episode]:
    """One episode in every environment, side by side; environment i is reset with `seeds[i]`.

    `film` records frames of the first one, if it can be drawn. An episode lost to a fault is left
    out with a warning.
    """
    space = envs[0].observation_space
    assert space.shape is not None and space.dtype is not None
    action_dim = int(np.prod(envs[0].action_space.shape or ()))
    memory = init_memory(agent, len(envs), action_dim)
    behaviour = agent.behaviour
    running = np.ones(len(envs), bool)
    lost, ended = np.zeros(len(envs), bool), np.zeros(len(envs), bool)
    current = np.zeros((len(envs), *space.shape), space.dtype)
    obs: list[list[np.ndarray]] = [[] for _ in envs]
    actions: list[list[np.ndarray]] = [[] for _ in envs]
    rewards: list[list[float]] = [[0.0] for _ in envs]
    intents: list[list[np.ndarray]] = [[] for _ in envs]
    moments: list[list[Moment]] = [[] for _ in envs]
    frames: list[np.ndarray] = []

    def shoot() -> bool:
        """Whether the film goes on."""
        try:
            frames.append(checked_picture(envs[0]))
        except EnvironmentFault as fault:
            warnings.warn(f"there is no video: {fault}", stacklevel=3)
            frames.clear()
            return False
        return True

    def lose(i: int, fault: EnvironmentFault) -> None:
        warnings.warn(f"an evaluation episode was lost: {fault}", stacklevel=3)
        running[i], lost[i] = False, True

    for i, env in enumerate(envs):
        try:
            current[i] = checked_reset(env, seeds[i])
            obs[i].append(current[i].copy())
        except EnvironmentFault as fault:
            lose(i, fault)
    step = 0
    while running.any():
        if film and running[0]:
            film = shoot()
        memory, action = act(
            agent,
            memory,
            current.copy(),
            np.full(len(envs), step == 0),
            np.asarray(sampled),
            np.int32(step),
            seed=derive(seed, Stream.PLAY),
        )
        action = np.asarray(action)
        intent = None if memory.intent is None else np.asarray(memory.intent)
        for i in np.flatnonzero(running).tolist():
            bare: Any = envs[i].unwrapped
            if isinstance(behaviour, ManagerWorker) and step % behaviour.stride == 0:
                moments[i] += [bare.get_state()] if hasattr(bare, "get_state") else []
            try:
                current[i], reward, terminated, truncated = checked_step(
                    envs[i], action[i].reshape(envs[i].action_space.shape or ())
                )
            except EnvironmentFault as fault:
                lose(i, fault)
                continue
            obs[i].append(current[i].copy())
            actions[i].append(action[i])
            if intent is not None:
                intents[i].append(intent[i])
            rewards[i].append(reward)
            running[i], ended[i] = not (terminated or truncated), terminated
        step += 1
    if film and not lost[0]:
        film = shoot()
    return [
        Episode(
            sampled[i],
            np.stack(obs[i]),
            np.stack(actions[i]),
            np.asarray(rewards[i], np.float32),
            np.stack(frames) if film and i == 0 else None,
            np.stack(intents[i]) if intents[i] else None,
            tuple(moments[i]),
            bool(ended[i]),
        )
        for i in range(len(envs))
        if not lost[i]
    ]


def play_held_out(
    agent: Agent,
    config: Config,
    make_env: Callable[..., gym.Env],
    count: int,
    *,
    seed: int = 0,
    stream: Stream = Stream.TEST,
    film: bool = False,
) -> tuple[list[Episode], float]:
    """`count` episodes of the mode and `count` of the sampled policy, from the same resets, which
    no training and no other `stream` uses; and the video's frames per second.

    `film` records the first one of the mode policy.
    """
    first = _filmed(make_env) if film else None
    film = first is not None
    envs = [first or make_env(), *(make_env() for _ in range(2 * count - 1))]
    sampled = [i >= count for i in range(2 * count)]
    seeds = [derive(config.seed, stream, seed, i % count) for i in range(2 * count)]
    try:
        episodes = play(agent, envs, seeds, sampled, seed=seed, film=film)
        return episodes, float(envs[0].metadata.get("render_fps", 30))
    finally:
        for env in envs:
            env.close()


def _filmed(make_env: Callable[..., gym.Env]) -> gym.Env | None:
    """One that draws pictures, if it can be had."""
    try:
        return make_env(render_mode="rgb_array")
    except Exception as error:  # other people's environments refuse in many ways
        warnings.warn(f"there is no video: {type(error).__name__}: {error}", stacklevel=3)
        return None


def table(episodes: list[Episode]) -> str:
    """Returns of both policies as text."""
    lines = [f"{'policy':10}{'mean':>9}{'95 % interval':>20}{'min':>9}{'max':>9}{'episodes':>10}"]
    for name, flag in (("mode", False), ("sampled", True)):
        totals = np.asarray([e.total for e in episodes if e.sampled == flag])
        if len(totals) == 0:
            lines.append(f"{name:10}  every episode was lost")
            continue
        mean, low, high = interval(totals)
        lines.append(
            f"{name:10}{mean:9.1f}{f'[{low:.1f}, {high:.1f}]':>20}"
            f"{totals.min():9.1f}{totals.max():9.1f}{len(totals):10d}"
        )
    return "\n".join(lines)


def interval(returns: np.ndarray, *, draws: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % percentile bootstrap interval over episodes; NaN for no episodes."""
    if len(returns) == 0:
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    means = rng.choice(returns, (draws, len(returns))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(returns.mean()), float(low), float(high)


def rows(episodes: list[Episode], *, task: str, seed: int, env_step: int) -> list[dict]:
    """Result rows `return_mode` and `return_sampled`; `scripts/table.py` adds the variant."""
    found = []
    for what, sampled in (("return_mode", False), ("return_sampled", True)):
        returns = np.asarray([e.total for e in episodes if e.sampled == sampled])
        if len(returns):
            value, low, high = interval(returns)
            found.append(
                {
                    "what": what,
                    "task": task,
                    "seed": seed,
                    "x": env_step,
                    "value": value,
                    "lo": low,
                    "hi": high,
                    "unit": "return",
                }
            )
    return found
