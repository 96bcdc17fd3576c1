"""Seconds of one update and of its parts, as JSON: `python scripts/benchmark_speed.py`.

Random batch, sizes of walker-walk unless told otherwise, one process on whatever jax finds. Updates
are timed one by one, each waited for; in training they overlap with the environments.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dreamer_h.behaviour.actor_critic import Underway, imagination_losses, imagine
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.lesson import Lesson
from dreamer_h.config import Config
from dreamer_h.files import replacing
from dreamer_h.nn.multiply_adds import multiply_adds
from dreamer_h.presets import PRESETS, preset, with_settings
from dreamer_h.train.runtime import run_script
from dreamer_h.train.state import TrainState, in_precision, init_state, init_statistics
from dreamer_h.train.update import behaviour_losses, make_update
from dreamer_h.types import Observed, Sequence
from dreamer_h.world.objective import batch_losses


def random_batch(config: Config, obs: int, action: int) -> Sequence:
    """Windows in numpy, as the sampler makes them: no padding, no episode's start or end."""
    rng = np.random.default_rng(0)
    lead = (config.replay.batch, config.replay.length + 1)
    uniform = lambda low, *shape: rng.uniform(low, 1.0, shape).astype(np.float32)
    return Sequence(
        obs=rng.normal(size=(*lead, obs)).astype(np.float32),
        action=uniform(-1.0, lead[0], lead[1] - 1, action),
        reward=uniform(0.0, *lead),
        is_first=np.zeros(lead, bool),
        is_terminal=np.zeros(lead, bool),
        mask=np.ones(lead, bool),
    )


def time_updates(
    config: Config, state: TrainState, batch: Sequence, updates: int
) -> tuple[dict[str, Any], int]:
    """Seconds of compiling (tracing included) and of single updates; and their multiply-adds."""
    began = time.perf_counter()
    traced = make_update(config).trace(state, batch)
    compiled = traced.lower().compile()
    compile_seconds = time.perf_counter() - began
    state = jax.tree.map(jnp.copy, state)  # the update donates what it is given
    seconds = []
    for _ in range(updates + 1):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(compiled(state, batch))
        seconds.append(time.perf_counter() - began)
    if not np.isfinite(metrics["train/loss"]):
        raise ValueError("the loss is not finite; the configuration cannot be timed sensibly")
    return summary(seconds[1:]) | {"compile": compile_seconds}, multiply_adds(traced.jaxpr.jaxpr)


def time_parts(
    config: Config, state: TrainState, batch: Sequence, repeats: int
) -> dict[str, dict[str, Any]]:
    """Seconds and multiply-adds of the parts, each compiled by itself.

    An update is about `world`, `imagination_and_behaviour` for each gradient step of the behaviour,
    and the optimisers. `behaviour` is on finished paths: what "dynamics" sends back through the
    simulator is in `imagination_and_behaviour` only. Manager and worker are not taken apart any
    further.
    """
    dtype, chosen = jnp.dtype(config.precision), config.behaviour
    agent, slow_critics = in_precision((state.agent, state.slow_critics), dtype)
    key = jr.key(0, impl="unsafe_rbg")  # as in the update

    def world(model, batch):
        return total(batch_losses(model, batch, config, update=jnp.int32(0), key=key)[0])

    def observed(model, batch):
        keys = jr.split(key, len(batch.mask))
        return jax.vmap(lambda window, key: model.start(window, key=key))(batch, keys)

    def inside(behaviour, slow_critics, model, batch, seen):
        losses, *_ = behaviour_losses(
            model, behaviour, slow_critics, init_statistics(config), state.paths,
            Lesson(batch, seen, seen), chosen, key=key,
        )  # fmt: skip
        return total(losses)

    seen = jax.jit(observed)(agent.world, batch)
    found = {"world": timed(jax.grad(world), (agent.world, batch), repeats=repeats)[0]}
    found["imagination_and_behaviour"], _ = timed(
        jax.grad(inside), (agent.behaviour, slow_critics, agent.world, batch, seen), repeats=repeats
    )
    if isinstance(agent.behaviour, ManagerWorker):
        return found

    def paths(behaviour, model, starts):
        length, gradient, lambda_ = chosen.imagine_length, chosen.gradient, chosen.lambda_
        return imagine(
            model, behaviour, starts, length, gradient=gradient, lambda_=lambda_, key=key
        )[0]

    def on_paths(behaviour, slow_critic, rollout):
        scale, weight = jnp.float32(1.0), jnp.float32(chosen.entropy)
        losses, _ = imagination_losses(behaviour, slow_critic, rollout, scale, weight, chosen)
        return total(losses)

    starts = jax.tree.map(
        lambda leaf: leaf[:, 1:].reshape(-1, *leaf.shape[2:])[: chosen.paths or None], seen
    )
    starts = Underway.begun(starts)
    found["imagination"], rollout = timed(
        paths, (agent.behaviour, agent.world, starts), repeats=repeats
    )
    found["behaviour"], _ = timed(
        jax.grad(on_paths), (agent.behaviour, *slow_critics, rollout), repeats=repeats
    )
    return found


def imagined_steps(config: Config) -> int:
    """Agent steps that a gradient step of the behaviour imagines in level 0."""
    chosen = config.behaviour
    if config.levels == 1:
        return imagined_paths(config) * chosen.imagine_length
    waypoints = min(chosen.worker_waypoints, (chosen.manager_jumps - 1) * imagined_paths(config))
    return (imagined_paths(config) + waypoints) * config.jumps[0]


def imagined_paths(config: Config) -> int:
    """Paths that it imagines; with levels segments from posts, without those from waypoints."""
    replay = config.replay
    stride = config.jumps[0] if config.levels > 1 else 1
    return config.behaviour.paths or replay.batch * (replay.length // stride)


def total(losses: dict[str, jax.Array]) -> jax.Array:
    return sum((loss.mean() for loss in losses.values()), jnp.float32(0.0))


def timed(function: Callable, inputs: tuple, *, repeats: int) -> tuple[dict[str, Any], Any]:
    """Seconds of blocking calls, multiply-adds, and the function's value."""
    traced = jax.jit(function).trace(*inputs)
    compiled = traced.lower().compile()
    value = jax.block_until_ready(compiled(*inputs))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*inputs))
        seconds.append(time.perf_counter() - began)
    return summary(seconds) | {"multiply_adds": multiply_adds(traced.jaxpr.jaxpr)}, value


def summary(seconds: list[float]) -> dict[str, float]:
    return {"median": float(np.median(seconds)), "min": min(seconds), "max": max(seconds)}


def product_rate(rows: int, inner: int, columns: int) -> float:
    """Multiply-adds a second of a float32 matrix product: the best of several calls."""
    left, right = jnp.ones((rows, inner)), jnp.ones((inner, columns))
    found, _ = timed(jnp.matmul, (left, right), repeats=30)
    return rows * inner * columns / found["min"]


def benchmark(name: str, config: Config, obs: int, action: int, updates: int) -> dict[str, Any]:
    """Everything that is printed; seconds unless a name says otherwise."""
    load = os.getloadavg()[0]
    state = init_state(Observed((obs,), jnp.float32), action, config)
    batch = random_batch(config, obs, action)
    update, update_products = time_updates(config, state, batch, updates)
    parts = time_parts(config, state, batch, updates)
    steps, times = imagined_steps(config), config.behaviour.gradient_steps
    rates_of_steps = {"in_updates": times * steps / update["median"]}
    if "imagination" in parts:
        rates_of_steps["imagination_alone"] = steps / parts["imagination"]["median"]
    deter, hidden = config.world.deter, config.world.hidden
    rates = {
        f"1024x{deter}x{hidden}": product_rate(1024, deter, hidden),
        "1024x1024x1024": product_rate(1024, 1024, 1024),
    }
    floor = lambda products: {shape: products / rate for shape, rate in rates.items()}
    device = jax.devices()[0]
    return {
        "preset": name,
        "precision": config.precision,
        "gradient": config.behaviour.gradient,
        "observation": obs,
        "action": action,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.agent)),
        "batch": config.replay.batch,
        "length": config.replay.length,
        "imagine_length": config.behaviour.imagine_length,
        "starts": imagined_paths(config),
        "gradient_steps": times,
        "updates": updates,
        "seconds_per_update": {name: update[name] for name in ("median", "min", "max")},
        "compile_seconds": update["compile"],
        "imagined_steps": steps,
        "imagined_steps_per_second": rates_of_steps,
        "profile": {
            **{
                part: {**found, "floor": floor(found["multiply_adds"])}
                for part, found in parts.items()
            },
            "update": {"multiply_adds": update_products, "floor": floor(update_products)},
            "multiply_adds_per_second": rates,
        },
        "machine": {
            "device": device.device_kind,
            "platform": device.platform,
            "cores": len(os.sched_getaffinity(0)),
            "load_before": load,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "jax": jax.__version__,
            "jaxlib": importlib.metadata.version("jaxlib"),
            "platform_version": device.client.platform_version,
            "python": sys.version.split()[0],
        },
    }


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Result rows; `lo` and `hi` are the fastest and the slowest call, not an interval.

    steps_per_second has x null inside updates, and x = starts for imagination alone.
    """
    steps = found["imagined_steps"]
    timings = [(None, found["gradient_steps"] * steps, found["seconds_per_update"])]
    if "imagination" in found["profile"]:
        timings.append((found["starts"], steps, found["profile"]["imagination"]))
    update = found["seconds_per_update"]

    def row(what, x, value, low, high, unit):
        own = {"what": what, "task": None, "variant": found["preset"], "seed": None, "x": x}
        return {**own, "value": value, "lo": low, "hi": high, "unit": unit}

    return [
        row("seconds_per_update", None, update["median"], update["min"], update["max"], "seconds"),
        *(
            row(
                "steps_per_second",
                x,
                steps / seconds["median"],
                steps / seconds["max"],
                steps / seconds["min"],
                "imagined agent steps per second",
            )
            for x, steps, seconds in timings
        ),
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="size1m")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH=VALUE",
        help="fields of the config, like replay.batch=8",
    )
    parser.add_argument("--updates", type=int, default=10, help="timed calls of each measurement")
    parser.add_argument("--obs", type=int, default=24, help="numbers in an observation")
    parser.add_argument("--action", type=int, default=6, help="numbers in an action")
    parser.add_argument("--rows", type=Path, help="also write result rows to this file")
    chosen = parser.parse_args(arguments)
    for name in ("updates", "obs", "action"):
        if getattr(chosen, name) < 1:
            raise ValueError(f"--{name} is {getattr(chosen, name)}; set it to at least 1")
    config = with_settings(preset(chosen.preset), chosen.set)
    found = benchmark(chosen.preset, config, chosen.obs, chosen.action, chosen.updates)
    print(json.dumps(found, indent=1))
    if chosen.rows is not None:
        chosen.rows.parent.mkdir(parents=True, exist_ok=True)
        with replacing(chosen.rows) as file:
            file.write((json.dumps(rows(found), indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    run_script(main)
