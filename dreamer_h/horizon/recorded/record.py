"""Recording episodes, each in a file of its own, on all cores; stopped and begun again at will."""

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.files import remove_stale, write_json
from dreamer_h.guard import EnvironmentFault, checked_reset, checked_step
from dreamer_h.horizon.parallel import Progress, spread
from dreamer_h.horizon.recorded.layout import fields_of
from dreamer_h.horizon.recorded.recording import (
    Recording,
    episode_path,
    finish,
    save_episode,
)
from dreamer_h.replay.episode import FIELDS
from dreamer_h.types import Policy

VERSIONS = ("numpy", "mujoco", "dm-control", "gymnasium")


@dataclass(frozen=True)
class Plan:
    """What to record; both functions are pickled to other processes, and named by `behaviour`."""

    task: str
    behaviour: str
    episodes: int
    seed: int
    tick: int
    action_repeat: int
    make_env: Callable[[], gym.Env]
    make_policy: Callable[[], Policy]
    physics: dict[str, float] = field(default_factory=dict)  # factors, where they are not 1

    def described(self) -> dict[str, Any]:
        names = ("task", "behaviour", "episodes", "seed", "tick", "action_repeat")
        found = {name: getattr(self, name) for name in names}
        return found | ({"physics": self.physics} if self.physics else {})


def record(plan: Plan, folder: Path, *, jobs: int, progress: Progress = iter) -> Recording:
    """Records what is missing of `plan` in `folder`.

    `progress` wraps the iterator over finished episodes. Raises ValueError for fewer than three
    episodes, and for a folder that holds another plan; EnvironmentFault, with the episode, where
    the environment breaks its contract.
    """
    if plan.episodes < 3:
        raise ValueError(f"--episodes is {plan.episodes}; the three splits need at least 3")
    if plan.tick < 1:
        raise ValueError(f"--tick is {plan.tick}; set it to at least 1")
    (folder / "episodes").mkdir(parents=True, exist_ok=True)
    remove_stale(folder / "episodes")
    _claim(plan, folder)
    numbers = [n for n in range(plan.episodes) if not episode_path(folder, n).exists()]
    spread(partial(_tools, plan), partial(_record_episode, folder), numbers, jobs, progress)
    drawn = [seeds(plan.seed, number) for number in range(plan.episodes)]
    return finish(folder, _about(plan), [{"env_seed": e, "policy_seed": p} for e, p in drawn])


def _claim(plan: Plan, folder: Path) -> None:
    path = folder / "plan.json"
    if not path.exists() and (folder / "manifest.json").exists():
        raise ValueError(f"{folder} holds what was not recorded here; give another --out")
    if path.exists() and (before := json.loads(path.read_text())) != plan.described():
        raise ValueError(f"{folder} holds a recording of {before}, not of {plan.described()}")
    write_json(path, plan.described())


def _tools(plan: Plan) -> tuple[Plan, gym.Env, Policy]:
    return plan, plan.make_env(), plan.make_policy()


def _record_episode(folder: Path, tools: tuple[Plan, gym.Env, Policy], number: int) -> int:
    plan, env, policy = tools
    env_seed, policy_seed = seeds(plan.seed, number)
    try:
        arrays = play(env, policy, env_seed, policy_seed, plan.tick)
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{plan.task}, episode {number}: {fault}") from fault
    save_episode(folder, number, arrays)
    return number


def seeds(seed: int, number: int) -> tuple[int, int]:
    """Of the environment's reset and of the policy, for one episode."""
    env_seed, policy_seed = np.random.SeedSequence((seed, number)).generate_state(2)
    return int(env_seed), int(policy_seed)


def play(
    env: gym.Env, policy: Policy, env_seed: int, policy_seed: int, tick: int
) -> dict[str, np.ndarray]:
    """One episode's arrays, with a moment at every multiple of `tick` where the task has them.

    Raises EnvironmentFault.
    """
    bare: Any = env.unwrapped
    obs = checked_reset(env, env_seed)
    policy.begin(policy_seed)
    rows: dict[str, list] = {"obs": [obs], "action": [], "reward": [0.0], "is_terminal": [False]}
    moments, ended = [], False
    while not ended:
        if len(rows["action"]) % tick == 0 and hasattr(bare, "get_state"):
            moments.append(bare.get_state())
        action = policy.act(obs)
        obs, reward, terminated, truncated = checked_step(env, action)
        for name, value in zip(rows, (obs, action, reward, terminated), strict=True):
            rows[name].append(value)
        ended = terminated or truncated
    dtypes = {"obs": np.float32, "action": np.float32, "reward": np.float32, "is_terminal": bool}
    arrays = {name: np.asarray(rows[name], dtypes[name]) for name in FIELDS}
    for name in moments[0] if moments else ():
        arrays[f"moment/{name}"] = np.stack([moment[name] for moment in moments])
    return arrays


def _about(plan: Plan) -> dict[str, Any]:
    env = plan.make_env()
    env.close()
    bare: Any = env.unwrapped
    return {
        **plan.described(),
        "dt": getattr(bare, "dt", 1.0),
        "layout": [asdict(field) for field in fields_of(env)],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what an episode depends on."""
    return {name: importlib.metadata.version(name) for name in VERSIONS}
