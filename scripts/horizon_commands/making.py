"""What `horizon.py` makes: recordings, and simulators fitted to them."""

import argparse
import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

import envs
from dreamer_h.horizon import models
from dreamer_h.horizon.recorded import exchange
from dreamer_h.horizon.recorded.excitation import EXCITATIONS
from dreamer_h.horizon.recorded.layout import fields_of
from dreamer_h.horizon.recorded.record import Plan, record, versions
from dreamer_h.horizon.recorded.recording import Recording, keep, load_recording
from dreamer_h.horizon.simulators.budget import Budget
from dreamer_h.horizon.simulators.yardsticks import YARDSTICKS
from dreamer_h.presets import PRESETS, preset, with_levels, with_settings
from dreamer_h.train.checkpoints.load import load_config, load_replay
from dreamer_h.train.checkpoints.policy import Snapshots
from dreamer_h.train.progress import progress


def add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="needed, but for --from-minari")
    parser.add_argument("--behaviour", default="excited", help="noise, excited or agent:<run>")
    parser.add_argument("--episodes", type=int, default=300, help="a third for each split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tick", type=int, default=8, help="agent steps between recorded states")
    parser.add_argument("--action-repeat", type=int, default=2, help="env steps per agent step")
    parser.add_argument("--gravity", type=float, default=1.0, help="factor of the task's")
    parser.add_argument("--mass", type=float, default=1.0, help="factor of its heaviest body's")
    parser.add_argument("--out", type=Path, help="default is data/<task>-<behaviour> or data/<ID>")
    parser.add_argument("--to-minari", metavar="ID", help="write it as a Minari data set, too")
    parser.add_argument("--from-minari", metavar="ID", help="read this one instead of recording")
    parser.add_argument("--from-run", type=Path, metavar="LOGDIR", help="or what a run has seen")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")


def run_record(chosen: argparse.Namespace) -> None:
    if chosen.from_minari:
        folder = chosen.out or Path("data") / chosen.from_minari.replace("/", "-")
        print(f"{exchange.from_minari(chosen.from_minari, folder).folder}")
        return
    if chosen.from_run:
        recording = replayed(chosen.from_run, chosen.out)
        count = len(recording.manifest["episodes"])
        print(f"{recording.folder}: {count} episodes, hash {recording.hash[:12]}")
        return
    if chosen.task is None:
        raise ValueError("record needs --task, --from-run or --from-minari")
    task = envs.short_name(chosen.task)
    factors = {"gravity": chosen.gravity, "mass": chosen.mass}
    physics = {name: factor for name, factor in factors.items() if factor != 1.0}
    changed = [f"{name}{factor:g}" for name, factor in physics.items()]
    name = "-".join([task.replace("/", "-"), chosen.behaviour.partition(":")[0], *changed])
    folder = chosen.out or Path("data") / name
    make_env = partial(envs.make, task, action_repeat=chosen.action_repeat, **physics)
    env = make_env()
    action = int(np.prod(env.action_space.shape))
    env.close()
    kind, _, run = chosen.behaviour.partition(":")
    if kind == "agent":
        make_policy: Any = partial(Snapshots, Path(run))
    elif chosen.behaviour in EXCITATIONS:
        make_policy = partial(EXCITATIONS[chosen.behaviour], action)
    else:
        raise ValueError(
            f"--behaviour is {chosen.behaviour}; it must be {', '.join(EXCITATIONS)} or agent:<run>"
        )
    plan = Plan(
        task, chosen.behaviour, chosen.episodes, chosen.seed, chosen.tick,
        chosen.action_repeat, make_env, make_policy, physics,
    )  # fmt: skip
    bar = partial(progress, total=chosen.episodes, unit="episode")
    recording = record(plan, folder, jobs=chosen.jobs, progress=bar)
    print(f"{folder}: {chosen.episodes} episodes, hash {recording.hash[:12]}")
    if chosen.to_minari:
        print(f"Minari: {exchange.to_minari(recording, chosen.to_minari).spec.dataset_id}")


def replayed(run: Path, out: Path | None) -> Recording:
    """The finished episodes that a run of `train.py` collected, shuffled, so that each split has
    those of all its ages. Raises ValueError for a run that sees pictures."""
    config = load_config(run)
    if config.obs != "state":
        raise ValueError(f"{run} sees {config.obs}; recordings hold states")
    env = envs.make(config.task, **config.environment)
    fields, bare = fields_of(env), cast(Any, env.unwrapped)
    env.close()
    about = {
        "task": envs.short_name(config.task),
        "behaviour": "replay",
        "tick": 8,
        "action_repeat": config.action_repeat,
        "dt": getattr(bare, "dt", 1.0),
        "layout": [asdict(field) for field in fields],
        "versions": versions(),
    }
    folder = out or Path("data") / f"{envs.short_name(config.task).replace('/', '-')}-{run.name}"
    episodes = list(load_replay(run)[1].finished())
    order = np.random.default_rng(0).permutation(len(episodes))
    return keep(folder, [episodes[i] for i in order], about)


def add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of `record`")
    parser.add_argument("--model", required=True, help=", ".join(models.FITTED))
    parser.add_argument(
        "--updates", type=int, help="budget that repeats exactly; yardsticks need none"
    )
    parser.add_argument("--minutes", type=float, help="budget in minutes of this machine")
    parser.add_argument("--preset", help=f"of worlds (cpu): {', '.join(PRESETS)}")
    parser.add_argument("--strides", default="8,8", help="of levels above the lowest")
    parser.add_argument(
        "--set", nargs="+", metavar="PATH=VALUE", help="fields of the world's config"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default is <data>/models/<model>-<seed>")


def run_fit(chosen: argparse.Namespace) -> None:
    recording = load_recording(chosen.data)
    folder = chosen.out or chosen.data / "models" / f"{chosen.model}-{chosen.seed}"
    models.check_name(chosen.model, models.FITTED)
    bar = progress(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}")
    budget = None
    if chosen.model not in YARDSTICKS:
        budget = Budget(chosen.updates, chosen.minutes)
    shares = () if budget is None else budget.shown(bar)
    config = None
    if chosen.model in models.WORLDS or chosen.preset or chosen.set:  # others refuse a config
        config = preset(chosen.preset or "cpu")
        config = with_levels(config, models.WORLDS.get(chosen.model, 1), chosen.strides)
        config = with_settings(config, chosen.set or [])
        config = replace(config, task=recording.task)
    models.fit(chosen.model, recording, budget, shares, config, folder, seed=chosen.seed)
    bar.close()
    print(folder)
