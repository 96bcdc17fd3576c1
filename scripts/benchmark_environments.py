"""Agent steps a second of a learned simulator beside the task that it imitates, in one run:

    python scripts/benchmark_environments.py --run runs/walker --out results/mine

Random actions; every way is timed in turns, and the median of the rounds counts. Compilation and
the beginning of episodes are left out, resets within them are not.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.random as jr
import numpy as np

import envs
from dreamer_h.files import write_json, write_text
from dreamer_h.train.checkpoints.load import load_config
from dreamer_h.train.runtime import run_script
from envs.learned import LearnedGymnax, LearnedVectorEnv, to_gymnax

ROUNDS = 5
REAL = 4  # real environments of the asynchronous vector

Way = tuple[Callable[[int], None], int]  # plays so many vector steps; agent steps in one of them


def of_vector(env: gym.vector.VectorEnv) -> Way:
    """Any vector of Gymnasium's."""
    rng = np.random.default_rng(0)
    shape = (64, env.num_envs, *env.single_action_space.low.shape)  # type: ignore[attr-defined]
    actions = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    env.reset(seed=0)

    def play(steps: int) -> None:
        for step in range(steps):
            env.step(actions[step % len(actions)])

    return play, env.num_envs


def of_gymnax(env: LearnedGymnax, count: int) -> Way:
    """Whole rollouts in one program; their number of steps is compiled in."""
    params = env.default_params

    @partial(jax.jit, static_argnames="steps")
    def rollout(env_state, key, steps):
        def step(state, key):
            keys = jr.split(key, 2 * count)
            action = jax.vmap(env.action_space(params).sample)(keys[:count])
            one = lambda key, state, action: env.step(key, state, action, params)
            obs, state, reward, *_ = jax.vmap(one)(keys[count:], state, action)
            return state, (obs.sum(), reward.sum())  # nothing is left out

        return jax.lax.scan(step, env_state, jr.split(key, steps))[1]

    state = jax.vmap(lambda key: env.reset(key, params)[1])(jr.split(jr.key(0), count))

    def play(steps: int) -> None:
        jax.block_until_ready(rollout(state, jr.key(1), steps))

    return play, count


def measured(ways: dict[str, Way], seconds: float) -> dict[str, dict[str, float]]:
    """Agent steps a second, each way for about `seconds` in each round."""
    steps, rates = {}, {name: [] for name in ways}
    for name, (play, _) in ways.items():
        play(8)  # compiles
        began = time.perf_counter()
        play(8)
        steps[name] = max(8, int(8 * seconds / (time.perf_counter() - began)))
        play(steps[name])
    for _ in range(ROUNDS):
        for name, (play, count) in ways.items():
            began = time.perf_counter()
            play(steps[name])
            rates[name].append(steps[name] * count / (time.perf_counter() - began))
    return {
        name: {"median": float(np.median(found)), "min": min(found), "max": max(found)}
        for name, found in rates.items()
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    real = found["rates"]["dmc, one"]["median"]
    lines = ["| environments | agent steps a second | of one real one |", "|---|---|---|"]
    for name, rate in found["rates"].items():
        lines.append(f"| {name} | {rate['median']:,.0f} | {rate['median'] / real:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="logdir of train.py")
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each round")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    chosen = parser.parse_args(arguments)
    if min(chosen.envs) < 1:
        raise ValueError(f"--envs is {chosen.envs}; set each to at least 1")
    config = load_config(chosen.run)
    real = partial(envs.make, config.task, **config.environment)
    vectors: dict[str, gym.vector.VectorEnv] = {
        "dmc, one": gym.vector.SyncVectorEnv([real]),
        f"dmc, {REAL} in one process": gym.vector.SyncVectorEnv([real] * REAL),
        # spawned: jax has threads that a fork would not survive
        f"dmc, {REAL} in processes": gym.vector.AsyncVectorEnv([real] * REAL, context="spawn"),
    }
    ways = {name: of_vector(env) for name, env in vectors.items()}
    for count in chosen.envs:
        ways[f"learned, {count}"] = of_vector(LearnedVectorEnv(count, str(chosen.run)))
    pure = to_gymnax(chosen.run)
    for count in chosen.envs:
        ways[f"learned, pure jax, {count}"] = of_gymnax(pure, count)
    rates = measured(ways, chosen.seconds)
    for env in vectors.values():
        env.close()
    found = {
        "task": config.task, "levels": config.levels, "action_repeat": config.action_repeat,
        "device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0)),
        "rates": rates,
    }  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / "speed.json", found)
    write_text(chosen.out / "speed.md", table(found))
    print(table(found))
    return 0


if __name__ == "__main__":
    run_script(main)
