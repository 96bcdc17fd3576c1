"""Seconds of an update, and of a step of a simulated episode, of several configs in turns:

    python scripts/compare_speed.py --against "world.ensemble=5" "levels=2" --out results/mine

Each of --against is the preset with those settings. Random batch, sizes of walker-walk unless told
otherwise; each is waited for. Rounds go through all configs, so that a slow minute of the machine
is one of all; a ratio is the median over rounds of what a config took to what the preset took
beside it.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from benchmark_speed import random_batch

from dreamer_h.config import Config
from dreamer_h.files import write_json, write_text
from dreamer_h.presets import PRESETS, preset, with_levels, with_settings
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.simulated.episode import Simulated
from dreamer_h.simulated.starts import starts_of
from dreamer_h.train.runtime import run_script
from dreamer_h.train.state import init_state
from dreamer_h.train.update import make_update
from dreamer_h.types import Observed

EPISODES, STEPS = 1024, 16  # simulated side by side, and steps of them in one call
LEARN = 4  # updates in one call: every level has its turn


def set_up(base: Config, settings: str) -> Config:
    """The base with `path=value` settings; levels come with what belongs to them."""
    given = settings.split()
    levels = [one for one in given if one.startswith("levels=")]
    for one in levels:
        base = with_levels(base, int(one.partition("=")[2]), base.strides)
    return with_settings(base, [one for one in given if one not in levels])


def updates(config: Config, obs: int, action: int) -> Callable[[], None]:
    """Several updates, each waited for."""
    state = init_state(Observed((obs,), jnp.float32), action, config)
    batch, update = random_batch(config, obs, action), make_update(config)
    held = [state]

    def call() -> None:
        for _ in range(LEARN):
            held[0], _ = jax.block_until_ready(update(held[0], batch))

    return call


def steps(config: Config, obs: int, action: int) -> Callable[[], None]:
    """Steps of many simulated episodes side by side, with all that is told of them."""
    state = init_state(Observed((obs,), jnp.float32), action, config)
    world = state.agent.world
    simulated = Simulated(
        world=world,
        starts=starts_of(world, [], "model", EPISODES, action, seed=0),
        spread=jnp.ones(obs),
        calibration=Calibration(jnp.ones(STEPS), jnp.float32(1.0), config.world.ensemble > 0),
        ends=False,
        discount=0.99,
        limit=None,
        trust=None,
    )

    @jax.jit
    def play(simulated, episodes, actions):
        step = lambda episodes, action: jax.vmap(simulated.step)(episodes, action)
        return jax.lax.scan(step, episodes, actions)[1]

    begun = jax.jit(jax.vmap(simulated.reset))(jr.split(jr.key(0), EPISODES))
    drawn = jr.uniform(jr.key(1), (STEPS, EPISODES, action), minval=-1.0)
    return lambda: jax.block_until_ready(play(simulated, begun, drawn))


def in_turns(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round; the first one, which compiles, does not count."""
    taken = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: np.array(seconds[1:]) for name, seconds in taken.items()}


def compared(configs: dict[str, Config], obs: int, action: int, rounds: int) -> dict[str, Any]:
    """By what was timed, and by config: seconds, and the ratio to the first config."""
    kinds = {"update": (updates, LEARN), "simulated step": (steps, EPISODES * STEPS)}
    found = {}
    for what, (make, count) in kinds.items():
        calls = {name: make(config, obs, action) for name, config in configs.items()}
        taken = {name: seconds / count for name, seconds in in_turns(calls, rounds).items()}
        first = next(iter(taken.values()))
        found[what] = {name: summary(seconds, seconds / first) for name, seconds in taken.items()}
    return found


def summary(seconds: np.ndarray, ratio: np.ndarray) -> dict[str, float]:
    """Medians over rounds, and the middle half of the ratios."""
    low, high = np.quantile(ratio, [0.25, 0.75])
    return {
        "seconds": float(np.median(seconds)),
        "ratio": float(np.median(ratio)),
        "ratio_lo": float(low),
        "ratio_hi": float(high),
    }


def table(found: dict[str, Any]) -> str:
    """Markdown; ratios with the middle half of the rounds."""
    lines = ["| config | what | seconds | times the first |", "|---|---|---|---|"]
    for what, of in found.items():
        for name, one in of.items():
            ratio = "{ratio:.2f} [{ratio_lo:.2f}, {ratio_hi:.2f}]".format(**one)
            lines.append(f"| {name} | {what} | {one['seconds']:.3g} | {ratio} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--against", nargs="+", required=True, metavar="SETTINGS")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--obs", type=int, default=24, help="numbers in an observation")
    parser.add_argument("--action", type=int, default=6, help="numbers in an action")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    chosen = parser.parse_args(arguments)
    if min(chosen.rounds, chosen.obs, chosen.action) < 1:
        raise ValueError("--rounds, --obs and --action must be at least 1")
    base = preset(chosen.preset)
    configs = {chosen.preset: base} | {given: set_up(base, given) for given in chosen.against}
    load = os.getloadavg()[0]
    found = compared(configs, chosen.obs, chosen.action, chosen.rounds)
    about = {
        "rounds": chosen.rounds, "observation": chosen.obs, "action": chosen.action,
        "cores": len(os.sched_getaffinity(0)), "load_before": load,
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / "speed.json", about | {"found": found})
    write_text(chosen.out / "speed.md", table(found))
    print(table(found))
    return 0


if __name__ == "__main__":
    run_script(main)
