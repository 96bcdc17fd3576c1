"""Many agent steps of a learned simulator under random actions, one environment or many at once:
is everything finite, and does memory stay where it was?

    python scripts/soak.py --run runs/walker --steps 1000000 --envs 64 --out results/mine

Exit code 1 if not. Memory is what the process holds, in MiB, read ten times on the way.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.files import write_json
from dreamer_h.train.checkpoints.load import load_config
from dreamer_h.train.runtime import run_script
from envs.learned import LearnedEnv, LearnedVectorEnv

READINGS = 10
GROWTH = 1.02  # of memory, from the second reading to the last, that still counts as none


def resident() -> float:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Soak:
    """An environment under random actions, and what was seen of it."""

    def __init__(self, run: str, count: int, seed: int = 0) -> None:
        self._env: Any = LearnedEnv(run) if count == 1 else LearnedVectorEnv(count, run)
        self._env.reset(seed=seed)
        self._env.action_space.seed(seed)
        self.not_finite, self.invalid, self.ended = 0, 0, 0

    def play(self, steps: int) -> None:
        """So many steps of each environment, from one episode to the next."""
        single = isinstance(self._env, gym.Env)
        for _ in range(steps):
            obs, reward, terminated, truncated, info = self._env.step(
                self._env.action_space.sample()
            )
            self.not_finite += int(not np.isfinite(obs).all()) + int(np.sum(~np.isfinite(reward)))
            self.invalid += int(np.sum(info["invalid"]))
            over = terminated | truncated
            self.ended += int(np.sum(over))
            if single and over:
                self._env.reset()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="logdir of train.py")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1_000_000, help="agent steps, of all together")
    parser.add_argument("--out", type=Path, required=True, help="folder of soak-<envs>.json")
    chosen = parser.parse_args(arguments)
    if chosen.envs < 1 or chosen.steps < READINGS * chosen.envs:
        raise ValueError(f"--envs is {chosen.envs} and --steps {chosen.steps}; too few to read of")
    config = load_config(Path(chosen.run))
    soak = Soak(chosen.run, chosen.envs)
    each = -(-chosen.steps // (READINGS * chosen.envs))
    began, memory = time.perf_counter(), []
    for _ in range(READINGS):
        soak.play(each)
        memory.append(round(resident(), 1))
        print(f"{len(memory) * each * chosen.envs} agent steps: {memory[-1]} MiB", flush=True)
    found = {
        "task": config.task,
        "levels": config.levels,
        "envs": chosen.envs,
        "steps": READINGS * each * chosen.envs,
        "seconds": round(time.perf_counter() - began, 1),
        "not_finite": soak.not_finite,
        "cut_as_invalid": soak.invalid,
        "episodes": soak.ended,
        "memory": memory,
    }
    grows = memory[-1] > GROWTH * memory[1]
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / f"soak-{chosen.envs}.json", found)
    print(f"{soak.not_finite} values were not finite; memory {'grows' if grows else 'stays'}")
    return int(soak.not_finite > 0 or grows)


if __name__ == "__main__":
    run_script(main)
