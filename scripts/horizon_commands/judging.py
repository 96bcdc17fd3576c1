"""How `horizon.py` judges one simulator, or the speed of several."""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import envs
from dreamer_h.files import write_json, write_text
from dreamer_h.horizon import transport
from dreamer_h.horizon.levels import figures as level_figures
from dreamer_h.horizon.levels.report import level_report
from dreamer_h.horizon.policies.decisions import judge
from dreamer_h.horizon.recorded.recording import Recording, load_recording
from dreamer_h.horizon.scoring import speed
from dreamer_h.horizon.scoring.counterfactual import counterfactual
from dreamer_h.horizon.scoring.floor import Floor, measured
from dreamer_h.horizon.scoring.report import report
from dreamer_h.horizon.scoring.score import (
    Benchmark,
    ask,
    benchmark,
    questions,
    score,
    yardstick_scores,
)
from dreamer_h.horizon.scoring.scored_files import read_reports, rows, save
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.simulators.yardsticks import YARDSTICKS
from dreamer_h.train.checkpoints.load import newest
from dreamer_h.train.checkpoints.policy import Snapshots
from dreamer_h.train.checkpoints.simulators import check_unseen, found_run, found_simulator
from dreamer_h.train.progress import progress
from dreamer_h.types import Policy
from dreamer_h.world.upper.hierarchy import Hierarchy
from envs.physics import DmcPhysics
from envs.quantities import quantities
from horizon_commands.comparing import draw


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
        bar = partial(progress, unit="window", desc="what would have happened")
        bench = counterfactual(bench, make_physics(recording)(), chosen.changed, progress=bar)
    if chosen.export:
        transport.export(chosen.export, questions(bench), recording.dt)
        print(chosen.export)
        return
    if chosen.out is None or (chosen.model is None) == (chosen.answers is None):
        raise ValueError("score needs --out, and one of --model, --import or --export")
    if chosen.policy and (chosen.answers or not recording.restartable):
        raise ValueError("--policy needs --model, and a recording that can be restarted")
    policies = policies_of([newest(path) for path in chosen.policy], recording)
    changed = "" if chosen.changed is None else f"_changed{chosen.changed}"
    if chosen.answers:
        name, simulator = chosen.name or chosen.answers.stem + changed, None
        if (chosen.out / f"{name}.npz").resolve() == chosen.answers.resolve():
            raise ValueError(
                f"the results would be written over {chosen.answers}; give another --name or --out"
            )
        origin: dict[str, Any] = {"model": chosen.answers.name}
        answers = transport.read(chosen.answers, questions(bench))
    else:
        name, simulator, origin = found_simulator(
            chosen.model, bench, envs.short_name,
            fast=chosen.fast, damped=chosen.damped, pool=chosen.pool,
        )  # fmt: skip
        check_unseen(Path(chosen.model), recording)
        name = chosen.name or name + changed
        answers = ask(simulator, questions(bench), seed=chosen.seed)
    bench = replace(bench, floor=floor_of(bench, chosen.jobs, chosen.changed))
    scored = score(answers, bench)
    found = report(name, scored, yardstick_scores(bench), bench)
    found["origin"] = origin | {"samples_seed": chosen.seed, "changed": chosen.changed}
    save(chosen.out, found, scored, bench)
    write_json(chosen.out / f"{name}.rows.json", rows(found, chosen.seed))
    draw(chosen.out, {name: read_reports(chosen.out)[name]}, name)
    if policies and simulator:  # last: a fault in there loses nothing of the above
        tools = (simulator, make_physics(recording)(), bench)
        found |= judge(lambda: tools, policies, bench.far.episode)
        save(chosen.out, found, scored, bench)


def policies_of(checkpoints: list[Path], recording: Recording) -> dict[str, Callable[[], Policy]]:
    """By `<run>/<checkpoint>`. Raises ValueError where two are called the same, or a run saw other
    things than recorded."""
    found: dict[str, Callable[[], Policy]] = {}
    for path in checkpoints:
        found_run(path.parents[1], recording, envs.short_name)
        found[f"{path.parents[1].name}/{path.stem}"] = partial(Snapshots, path)
    if len(found) < len(checkpoints):
        raise ValueError("two policies have the same name; give each run a folder of its own name")
    return found


def make_physics(recording: Recording) -> Callable[[], DmcPhysics]:
    physics = recording.manifest.get("physics", {})
    return partial(DmcPhysics, recording.task, recording.action_repeat, **physics)


def floor_of(bench: Benchmark, jobs: int, changed: int | None) -> Floor | None:
    """The physics floor of the test windows, measured once and kept beside the data."""
    recording = bench.recording
    if not recording.restartable:
        return None
    bar = partial(progress, total=len(bench.far), unit="window", desc="physics floor")
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
    check_unseen(Path(chosen.model), recording)
    name, simulator, origin = found_simulator(chosen.model, bench, envs.short_name)
    name = chosen.name or name
    if not isinstance(simulator, LatentSimulator) or not isinstance(simulator.world, Hierarchy):
        raise ValueError(f"{name} has one level only; there is nothing to hold it against")
    found = level_report(simulator.world, bench.far, bench.scale, recording.dt)
    found |= {"task": recording.task, "data": recording.hash, "origin": origin}
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / f"{name}.levels.json", found)
    text = level_figures.table(found)
    write_text(chosen.out / f"{name}.levels.md", text)
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
    write_json(chosen.out / "speed.json", found)
    write_text(chosen.out / "speed.md", speed.table(found))
    print(speed.table(found))
