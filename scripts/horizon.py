"""Error against horizon: record episodes, fit simulators to them, score and compare.

    python scripts/horizon.py record --task cheetah-run --behaviour excited --episodes 300
    python scripts/horizon.py fit --data data/cheetah-run-excited --model mlp_selffed --minutes 8
    python scripts/horizon.py score --data … --model <name, folder of fit, or run> --out results/…
    python scripts/horizon.py compare results/…

`<command> --help` lists the flags of each.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import envs
from dreamer_h.files import replacing
from dreamer_h.guard import EnvironmentFault
from dreamer_h.horizon import exchange, level_figures, models, overview, speed, transport
from dreamer_h.horizon.budget import Budget
from dreamer_h.horizon.compare import paired
from dreamer_h.horizon.counterfactual import counterfactual
from dreamer_h.horizon.decisions import judge
from dreamer_h.horizon.excitation import EXCITATIONS
from dreamer_h.horizon.figures import figure, table
from dreamer_h.horizon.floor import Floor, measured
from dreamer_h.horizon.latent import LatentSimulator
from dreamer_h.horizon.level_report import level_report
from dreamer_h.horizon.record import Plan, record
from dreamer_h.horizon.recording import Recording, load_recording
from dreamer_h.horizon.report import report
from dreamer_h.horizon.score import (
    Benchmark,
    ask,
    benchmark,
    questions,
    score,
    yardstick_scores,
)
from dreamer_h.horizon.scored_files import read_reports, rows, save
from dreamer_h.horizon.yardsticks import YARDSTICKS
from dreamer_h.presets import PRESETS, preset, with_levels, with_settings
from dreamer_h.train.load import newest
from dreamer_h.train.policy import Snapshots
from dreamer_h.train.runtime import run_script, use_compilation_cache
from dreamer_h.train.simulators import found_run, found_simulator
from dreamer_h.world.hierarchy import Hierarchy
from envs.physics import DmcPhysics
from envs.quantities import quantities


def add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="needed, but for --from-minari")
    parser.add_argument("--behaviour", default="excited", help="noise, excited or agent:<run>")
    parser.add_argument("--episodes", type=int, default=300, help="a third for each split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tick", type=int, default=8, help="agent steps between recorded states")
    parser.add_argument("--action-repeat", type=int, default=2, help="env steps per agent step")
    parser.add_argument("--out", type=Path, help="default is data/<task>-<behaviour> or data/<ID>")
    parser.add_argument("--to-minari", metavar="ID", help="write it as a Minari data set, too")
    parser.add_argument("--from-minari", metavar="ID", help="read this one instead of recording")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")


def run_record(chosen: argparse.Namespace) -> None:
    if chosen.from_minari:
        folder = chosen.out or Path("data") / chosen.from_minari.replace("/", "-")
        print(f"{exchange.from_minari(chosen.from_minari, folder).folder}")
        return
    if chosen.task is None:
        raise ValueError("record needs --task, or --from-minari")
    task = envs.short_name(chosen.task)
    name = f"{task.replace('/', '-')}-{chosen.behaviour.partition(':')[0]}"
    folder = chosen.out or Path("data") / name
    make_env = partial(envs.make, task, action_repeat=chosen.action_repeat)
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
        chosen.action_repeat, make_env, make_policy,
    )  # fmt: skip
    bar = partial(tqdm, total=chosen.episodes, unit="episode")
    recording = record(plan, folder, jobs=chosen.jobs, progress=bar)
    print(f"{folder}: {chosen.episodes} episodes, hash {recording.hash[:12]}")
    if chosen.to_minari:
        print(f"Minari: {exchange.to_minari(recording, chosen.to_minari).spec.dataset_id}")


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
    bar = tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}")
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


def add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of `record`")
    parser.add_argument(
        "--model", help=f"folder of `fit`, logdir of train.py, or {', '.join(YARDSTICKS)}"
    )
    parser.add_argument(
        "--pool", type=Path, nargs="+", default=[],
        help="folders of `fit` whose samples are pooled with the model's: flat_fused",
    )  # fmt: skip
    parser.add_argument("--name", help="of the model in the results; default is its own")
    parser.add_argument(
        "--damped", action="store_true", help="shrunk towards the mean: flat_damped"
    )
    parser.add_argument(
        "--fast", action="store_true", help="levels jump from the start, not from their crossover"
    )
    parser.add_argument(
        "--changed", type=int, metavar="N",
        help="counterfactual: the first N actions of every window are others, and physics says "
        "what they would have led to",
    )  # fmt: skip
    parser.add_argument(
        "--policy", type=Path, nargs="+", default=[],
        help="logdirs (their newest) or checkpoints that act inside, too; three can be ranked",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the samples, and of the rows")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--export", type=Path, metavar="NPZ", help="write the questions and end")
    parser.add_argument("--import", dest="answers", type=Path, metavar="NPZ", help="read answers")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes of the floor")


def run_score(chosen: argparse.Namespace) -> None:
    recording = load_recording(chosen.data)
    bench = benchmark(recording, quantities(recording.task, recording.layout))
    if chosen.changed is not None:
        bar = partial(tqdm, unit="window", desc="what would have happened")
        bench = counterfactual(bench, make_physics(recording)(), chosen.changed, progress=bar)
    if chosen.export:
        transport.export(chosen.export, questions(bench), recording.dt)
        print(chosen.export)
        return
    if chosen.out is None or (chosen.model is None) == (chosen.answers is None):
        raise ValueError("score needs --out, and one of --model, --import or --export")
    if chosen.policy and (chosen.answers or not recording.restartable):
        raise ValueError("--policy needs --model, and a recording that can be restarted")
    policies = {}
    for path in map(newest, chosen.policy):
        found_run(path.parents[1], recording, envs.short_name)
        policies[f"{path.parents[1].name}/{path.stem}"] = partial(Snapshots, path)
    if chosen.answers:
        name, simulator = chosen.name or chosen.answers.stem, None
        origin: dict[str, Any] = {"model": chosen.answers.name}
        answers = transport.read(chosen.answers, questions(bench))
    else:
        name, simulator, origin = found_simulator(
            chosen.model, bench, envs.short_name,
            fast=chosen.fast, damped=chosen.damped, pool=chosen.pool,
        )  # fmt: skip
        changed = "" if chosen.changed is None else f"_changed{chosen.changed}"
        name = chosen.name or name + changed
        answers = ask(simulator, questions(bench), seed=chosen.seed)
    bench = replace(bench, floor=floor_of(bench, chosen.jobs, chosen.changed))
    scored = score(answers, bench)
    found = report(name, scored, yardstick_scores(bench), bench)
    found["origin"] = origin | {"samples_seed": chosen.seed, "changed": chosen.changed}
    save(chosen.out, found, scored, bench)
    with replacing(chosen.out / f"{name}.rows.json") as file:
        file.write(json.dumps(rows(found, chosen.seed), indent=1).encode())
    draw(chosen.out, {name: read_reports(chosen.out)[name]}, name)
    if policies and simulator:  # last: a fault in there loses nothing of the above
        found |= judge(simulator, policies, make_physics(recording)(), bench)
        save(chosen.out, found, scored, bench)


def make_physics(recording: Recording) -> Callable[[], DmcPhysics]:
    return partial(DmcPhysics, recording.task, recording.action_repeat)


def floor_of(bench: Benchmark, jobs: int, changed: int | None) -> Floor | None:
    """The physics floor of the test windows, measured once and kept beside the data."""
    recording = bench.recording
    if not recording.restartable:
        return None
    bar = partial(tqdm, total=len(bench.far), unit="window", desc="physics floor")
    make = make_physics(recording)
    name = "floor" if changed is None else f"floor_changed{changed}"
    return measured(make, recording, bench.far, bench.scale, jobs=jobs, name=name, progress=bar)


def add_levels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of `record`")
    parser.add_argument("--model", required=True, help="folder of `fit`, or logdir, with levels")
    parser.add_argument("--name", help="of the model in the results; default is its own")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run_levels(chosen: argparse.Namespace) -> None:
    recording = load_recording(chosen.data)
    bench = benchmark(recording, quantities(recording.task, recording.layout))
    name, simulator, origin = found_simulator(chosen.model, bench, envs.short_name)
    name = chosen.name or name
    if not isinstance(simulator, LatentSimulator) or not isinstance(simulator.world, Hierarchy):
        raise ValueError(f"{name} has one level only; there is nothing to hold it against")
    found = level_report(simulator.world, bench.far, bench.scale, recording.dt)
    found |= {"task": recording.task, "data": recording.hash, "origin": origin}
    chosen.out.mkdir(parents=True, exist_ok=True)
    with replacing(chosen.out / f"{name}.levels.json") as file:
        file.write(json.dumps(found, indent=1).encode())
    text = level_figures.table(found)
    with replacing(chosen.out / f"{name}.levels.md") as file:
        file.write(text.encode())
    title = f"{recording.task} ({recording.manifest['behaviour']}): the levels of {name}"
    level_figures.figure(found, title).savefig(chosen.out / f"{name}.levels.png")
    print(text)
    print(chosen.out / f"{name}.levels.png")


def add_speed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of `record`")
    parser.add_argument(
        "--models", nargs="+", required=True,
        help="folders of `fit`, or logdirs; those with levels are timed as they are, and fast",
    )  # fmt: skip
    parser.add_argument("--starts", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run_speed(chosen: argparse.Namespace) -> None:
    if min(chosen.starts) < 1:
        raise ValueError(f"--starts is {chosen.starts}; set each to at least 1")
    recording = load_recording(chosen.data)
    bench = benchmark(recording, quantities(recording.task, recording.layout))
    simulators = {}
    for model in chosen.models:
        name, simulator, _ = found_simulator(model, bench, envs.short_name)
        if not isinstance(simulator, LatentSimulator):
            raise ValueError(f"{model} has no latent state; only worlds are timed")
        if name in simulators:
            raise ValueError(f"two models are called {name}; give each a seed of its own")
        simulators[name] = simulator
        if simulator.levels:
            simulators[f"{name}_fast"] = replace(simulator, crossovers=(0,) * simulator.levels)
    found = speed.speeds(simulators, bench.far, recording.dt, chosen.starts)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for path, text in (
        ("speed.json", json.dumps(found, indent=1)),
        ("speed.md", speed.table(found)),
    ):
        with replacing(chosen.out / path) as file:
            file.write(text.encode())
    print(text)


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="folders of `score`")
    parser.add_argument("--against", nargs="+", default=[], help="names; default is every other")
    parser.add_argument("--out", type=Path, help="default is the first folder")


def run_compare(chosen: argparse.Namespace) -> None:
    folder = chosen.out or chosen.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    several = len(chosen.folders) > 1
    reports = {
        f"{path.name}/{name}" if several else name: found
        for path in chosen.folders
        for name, found in read_reports(path).items()
    }
    with replacing(folder / "paired.json") as file:
        file.write(json.dumps(paired(chosen.folders, chosen.against), indent=1).encode())
    draw(folder, reports, "compare")


def add_overview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds a folder of `score` for each task")
    parser.add_argument("--model", required=True, help="name of the scored model in question")
    parser.add_argument("--rival", required=True, help="name of the one it is held against")


def run_overview(chosen: argparse.Namespace) -> None:
    paths = sorted(path for path in chosen.folder.iterdir() if any(path.glob("*.npz")))
    if not paths:
        raise ValueError(f"no folder in {chosen.folder} holds a scored simulator; `score` some")
    tasks = {path.name: read_reports(path) for path in paths}
    text = overview.table(tasks, chosen.model, chosen.rival)
    overview.figure(tasks).savefig(chosen.folder / "overview.png")
    with replacing(chosen.folder / "overview.md") as file:
        file.write(text.encode())
    print(text)
    print(chosen.folder / "overview.png")


def draw(folder: Path, reports: dict[str, Any], name: str) -> None:
    """Writes `<name>.png` and `<name>.md` and prints the table."""
    figure(reports).savefig(folder / f"{name}.png")
    with replacing(folder / f"{name}.md") as file:
        file.write(table(reports).encode())
    print(table(reports))
    print(f"{folder / name}.png")


COMMANDS = {
    "record": (add_record, run_record, "episodes with the physics' state"),
    "fit": (add_fit, run_fit, "a simulator to recorded episodes"),
    "score": (add_score, run_score, "a simulator against what happened"),
    "levels": (add_levels, run_levels, "the levels of a simulator with each other"),
    "speed": (add_speed, run_speed, "how long simulators take to imagine"),
    "compare": (add_compare, run_compare, "scored simulators with each other"),
    "overview": (add_overview, run_overview, "two of them on many tasks"),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (add, _, text) in COMMANDS.items():
        add(commands.add_parser(name, help=text))
    chosen = parser.parse_args(arguments)
    use_compilation_cache()
    COMMANDS[chosen.command][1](chosen)
    return 0


if __name__ == "__main__":
    run_script(main, EnvironmentFault)
