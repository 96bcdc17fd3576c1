"""How `horizon.py` asks whether a simulator can be relied upon by whoever optimises in it."""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import envs
from dreamer_h.config import Config
from dreamer_h.files import write_json, write_text
from dreamer_h.horizon import models
from dreamer_h.horizon.policies import figure as decision_figure
from dreamer_h.horizon.policies.decisions import LEAST, Tools, decisions, judge
from dreamer_h.horizon.recorded.layout import fields_of
from dreamer_h.horizon.recorded.recording import load_recording
from dreamer_h.horizon.scoring.score import benchmark
from dreamer_h.horizon.scoring.scored_files import finite
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.trust.calibrate import NO_LIMIT
from dreamer_h.horizon.trust.report import rows, table, trust_report
from dreamer_h.train.checkpoints.archive import read_manifest
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.checkpoints.load import load_agent, load_replay
from dreamer_h.train.checkpoints.simulators import check_unseen, found_simulator
from dreamer_h.train.evaluation import exploit_figure, fidelity
from dreamer_h.train.evaluation.evaluate import play_held_out
from dreamer_h.train.evaluation.exploit import mirage, optimised
from dreamer_h.train.progress import progress
from dreamer_h.train.runtime import use_compilation_cache
from dreamer_h.train.seeds import Stream
from horizon_commands.judging import make_physics, policies_of

HELD_OUT = 5  # episodes that a trusted horizon is measured on, of mode and sampled policy each


def add_exploit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="logdir of train.py; its simulator stays as it is")
    parser.add_argument("--updates", type=int, default=8000, help="of each policy, at the end")
    parser.add_argument("--every", type=int, default=1000, help="updates between two looks")
    parser.add_argument("--episodes", type=int, default=10, help="real ones of a look, each policy")
    parser.add_argument("--pessimism", type=float, nargs="*", default=[], help="rewards a nat")
    parser.add_argument("--trust-horizon", type=float, nargs="*", default=[], help="deviations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run_exploit(chosen: argparse.Namespace) -> None:
    if min(chosen.updates, chosen.every, chosen.episodes) < 1:
        raise ValueError("--updates, --every and --episodes must be at least 1")
    for flag, values in (("pessimism", chosen.pessimism), ("trust-horizon", chosen.trust_horizon)):
        if min(values, default=1.0) <= 0:
            raise ValueError(f"--{flag} {min(values):g} is no safeguard; give numbers above 0")
    config, agent, manifest = load_agent(chosen.run)
    if (chosen.pessimism or chosen.trust_horizon) and config.world.ensemble < 2:
        raise ValueError(
            f"{chosen.run} has no doubt to be careful about; train a run with --world.ensemble 5, "
            "or leave out --pessimism and --trust-horizon"
        )
    _, ring = load_replay(chosen.run)
    make_env = partial(envs.make, config.task, **config.environment)
    asked = {"task": config.task, "of_seed": config.seed, **manifest["checkpoint"]} | {
        name: getattr(chosen, name) for name in ("updates", "every", "episodes", "seed")
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "exploit.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    found = before["found"] if before.get("asked") == asked else {}
    for name, one in safeguards(config, chosen.pessimism, chosen.trust_horizon).items():
        if name in found:
            continue
        trusted = [NO_LIMIT] * min(config.levels, 2)
        if one.behaviour.trust_horizon:
            held_out, _ = play_held_out(
                agent, config, make_env, one.eval_episodes, seed=chosen.seed,
                stream=Stream.CALIBRATE,
            )  # fmt: skip
            env = make_env()
            measured = fidelity.measured_trust(
                agent.world, held_out, ring.finished(), fields_of(env),
                one.behaviour.trust_horizon,
            )  # fmt: skip
            env.close()
            if measured is None:
                raise ValueError(f"{chosen.run} has too little to measure a trusted horizon on")
            trusted = measured[1]
        snapshots = optimised(
            agent, one, ring, chosen.updates, chosen.every, trusted, seed=chosen.seed
        )
        looks = mirage(snapshots, one, make_env, chosen.episodes, seed=chosen.seed)
        total = -(-chosen.updates // chosen.every) + 1
        bar = progress(looks, desc=name, total=total, unit="look")
        found[name] = [look | {"relied_doubt": trusted} for look in bar]
        write_json(path, {"asked": asked, "found": found})  # a restart goes on after it
    title = f"{config.task}: a policy is optimised in a simulator that learns nothing more"
    write_json(
        chosen.out / "exploit.rows.json", exploit_figure.rows(found, config.task, chosen.seed)
    )
    write_text(chosen.out / "exploit.md", exploit_figure.table(found))
    exploit_figure.picture(found, title).savefig(chosen.out / "exploit.png")
    print(exploit_figure.table(found))
    print(chosen.out / "exploit.png")


def safeguards(
    config: Config, pessimism: list[float], trust_horizon: list[float]
) -> dict[str, Config]:
    """The config without any, and with each one. What it says of evaluations is what is asked of
    those that a trusted horizon is measured on here, whatever the run itself did."""
    of = lambda **changes: replace(
        config,
        explore_steps=0,
        eval_every=1,
        eval_episodes=max(config.eval_episodes, HELD_OUT),
        behaviour=replace(config.behaviour, **{"pessimism": 0.0, "trust_horizon": 0.0, **changes}),
    )
    found = {"none": of()}
    found |= {f"pessimism {value:g}": of(pessimism=value) for value in pessimism}
    return found | {f"trust horizon {v:g}": of(trust_horizon=v) for v in trust_horizon}


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of `record`")
    parser.add_argument("--model", required=True, help="folder of `fit`, or logdir of train.py")
    parser.add_argument(
        "--others", type=Path, nargs="+", default=[],
        help="recordings of the task under another behaviour or physics, to be told from --data",
    )  # fmt: skip
    parser.add_argument("--name", help="of the model in the results; default is its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run_trust(chosen: argparse.Namespace) -> None:
    recording = load_recording(chosen.data)
    bench = benchmark(recording, {})
    check_unseen(Path(chosen.model), recording)
    name, simulator, origin = found_simulator(chosen.model, bench, envs.short_name)
    name = chosen.name or name
    if not isinstance(simulator, LatentSimulator):
        raise ValueError(f"{chosen.model} has no latent state; only worlds say what they know")
    others = {}
    for folder in chosen.others:
        other = load_recording(folder)
        models.check_agrees(f"the recording in {chosen.data}", models.described(recording), other)
        others[folder.name] = benchmark(other, {})
    found = trust_report(simulator.world, bench, others, seed=chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / f"{name}.trust.json", finite(found | {"origin": origin}))
    write_json(chosen.out / f"{name}.trust.rows.json", finite(rows(found, chosen.seed)))
    write_text(chosen.out / f"{name}.trust.md", table(found))
    print(table(found))


def add_rank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of `record`")
    parser.add_argument("--model", required=True, help="folder of `fit`, or logdir of train.py")
    parser.add_argument(
        "--policies", type=Path, nargs="+", required=True,
        help="checkpoints, or logdirs: the last that they keep; three at least, twelve say "
        "something",
    )  # fmt: skip
    parser.add_argument("--name", help="of the model in the results; default is its own")
    parser.add_argument(
        "--jobs", type=int, default=1,
        help="policies at a time, each in a process of its own: cores, where there is no GPU",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run_rank(chosen: argparse.Namespace) -> None:
    if chosen.jobs < 1:
        raise ValueError(f"--jobs is {chosen.jobs}; it must be at least 1")
    recording = load_recording(chosen.data)
    bench = benchmark(recording, {})
    if not recording.restartable:
        raise ValueError(f"{chosen.data} cannot be restarted: nothing says what policies are worth")
    check_unseen(Path(chosen.model), recording)
    name, _, origin = found_simulator(chosen.model, bench, envs.short_name)
    name = chosen.name or name
    paths = [path for given in chosen.policies for path in snapshots_of(given)]
    policies = policies_of(paths, recording)
    steps = [read_manifest(path)["agent_step"] for path in paths]
    if len(policies) < LEAST:
        raise ValueError(f"{len(policies)} policies are no ranking; give at least {LEAST}")
    found = judge(
        partial(playground, chosen.data, chosen.model), policies, bench.far.episode,
        jobs=min(chosen.jobs, len(policies)),
        progress=partial(progress, total=len(policies), unit="policy"),
    )  # fmt: skip
    found |= {"task": recording.task, "data": recording.hash, "origin": origin}
    found["policies"] = dict(zip(policies, steps, strict=True))
    paid = np.array([one["windows"]["return_real"] for one in found["closed_loop"].values()])
    by_age = np.repeat(np.array(steps, float)[:, None], paid.shape[1], axis=1)
    found["by_age"] = decisions(by_age, paid, bench.far.episode)
    del found["by_age"]["error"]  # the age of a policy is no return
    chosen.out.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out / f"{name}.rank.json", finite(found))
    drawn = decision_figure.picture(found, found["policies"], recording.task)
    drawn.savefig(chosen.out / f"{name}.rank.png")
    listed = [
        {"task": recording.task, "what": f"rank/{way}/{what}", "x": len(policies), **one}
        for way in ("decisions", "by_age")
        for what, one in found[way].items()
    ]
    write_json(chosen.out / f"{name}.rank.rows.json", finite(listed))
    for way in ("decisions", "by_age"):
        for what, one in found[way].items():
            print(f"{way:10} {what:17} {one['value']:8.3f} [{one['lo']:.3f}, {one['hi']:.3f}]")
    print(chosen.out / f"{name}.rank.json")


def playground(data: Path, model: str) -> Tools:
    """Where policies are judged, made anew in each process."""
    use_compilation_cache()
    recording = load_recording(data)
    bench = benchmark(recording, {})
    _, simulator, _ = found_simulator(model, bench, envs.short_name)
    return simulator, make_physics(recording)(), bench


def snapshots_of(path: Path) -> list[Path]:
    """A checkpoint itself, or the last ones of a logdir. Raises ValueError if it keeps none."""
    if path.is_file():
        return [path]
    found = Checkpoints(path / "checkpoints").retained()
    if not found:
        raise ValueError(f"{path} has no checkpoint; give a file of one, or the --logdir of a run")
    return found
