"""Imagine from a recorded context: `python scripts/simulate.py runs/walker --steps 400 --video`.

The simulator of a run (or of `horizon.py fit`) sees the first agent steps of an episode and goes on
alone, under the episode's actions or its own policy. Real beside imagined, with the waypoints of
upper levels marked, goes to `<save>.npz`, `<save>.png` and, with --video, `<save>.mp4`.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

import envs
from dreamer_h.behaviour.inside import Behaviour
from dreamer_h.files import replacing
from dreamer_h.horizon import models
from dreamer_h.horizon.levels.crossover import from_json, handed_over
from dreamer_h.horizon.recorded.layout import fields_of, names_of
from dreamer_h.horizon.recorded.recording import load_recording
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.train.checkpoints.load import load_agent
from dreamer_h.train.evaluation.evaluate import Episode, play
from dreamer_h.train.evaluation.openloop import CONTEXT, SAMPLES, open_loop
from dreamer_h.train.evaluation.openloop_figure import picture
from dreamer_h.train.evaluation.openloop_film import film
from dreamer_h.train.evaluation.video import write_video
from dreamer_h.train.runtime import run_script, use_compilation_cache
from dreamer_h.train.seeds import Stream, derive
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy


@dataclass(frozen=True)
class Asked:
    """Who imagines, and what it is held against."""

    world: AnyWorld
    behaviour: Behaviour | None  # none of models that were fitted alone
    crossovers: tuple[int | None, ...]
    episode: Episode
    names: list[str]
    dt: float


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="logdir of train.py, or folder of horizon.py fit")
    parser.add_argument(
        "--context", default="episode",
        help="`episode`: the run plays a new one; or a folder of horizon.py record",
    )  # fmt: skip
    parser.add_argument("--number", type=int, help="of the recorded episode; default: a test one")
    parser.add_argument("--begin", type=int, default=CONTEXT, help="agent steps that are seen")
    parser.add_argument("--steps", type=int, default=400, help="agent steps that are imagined")
    parser.add_argument("--actions", choices=["logged", "policy"], default="logged")
    parser.add_argument(
        "--level", type=int,
        help="jump from the start with this level, 0 for steps alone; default is the hand-over at "
        "the measured crossovers",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=0, help="of the episode and of the samples")
    parser.add_argument("--save", type=Path, help="default is <model>/simulated.npz")
    parser.add_argument("--video", action="store_true")
    chosen = parser.parse_args(arguments)
    for name in ("begin", "steps", "samples"):
        if getattr(chosen, name) < 1:
            raise ValueError(f"--{name} is {getattr(chosen, name)}; it must be at least 1")
    if chosen.level and chosen.actions == "policy":
        raise ValueError(
            f"the policy chooses an action a step, and level {chosen.level} jumps: give --actions "
            "logged, or --level 0"
        )
    return chosen


def asked(chosen: argparse.Namespace) -> Asked:
    """Loads the model and the episode. Raises ValueError where they do not fit each other."""
    if (chosen.model / "model.json").exists():
        return _fitted(chosen)
    config, agent, manifest = load_agent(chosen.model)
    marks = handed_over(from_json(manifest.get("crossovers", [])))
    film_it = chosen.video and config.obs == "state" and envs.video_available()
    make_env = partial(envs.make, config.task, **config.environment)
    if chosen.context != "episode":
        episode, names, dt = _recorded(chosen, config.task, config.action_repeat)
        return Asked(agent.world, agent.behaviour, marks, episode, names, dt)
    env = make_env(render_mode="rgb_array" if film_it else None)
    try:
        seed = derive(config.seed, Stream.TEST, chosen.seed)
        played = play(agent, [env], [seed], [True], seed=chosen.seed, film=film_it)
        names, dt = names_of(fields_of(env)), float(getattr(env.unwrapped, "dt", 1.0))
    finally:
        env.close()
    if not played:
        raise ValueError("the environment failed and left no episode; try another --seed")
    return Asked(agent.world, agent.behaviour, marks, played[0], names, dt)


def _fitted(chosen: argparse.Namespace) -> Asked:
    if chosen.context == "episode" or chosen.actions == "policy":
        raise ValueError(
            f"{chosen.model} was fitted to a recording and has no policy; give --context "
            "<recording> and --actions logged"
        )
    recording = load_recording(Path(chosen.context))
    scale = Scale.fit(recording.train, recording.layout)
    card, simulator = models.load(chosen.model, recording, scale)
    if not isinstance(simulator, LatentSimulator):
        raise ValueError(f"{chosen.model} holds {card.model}, which is not a world of dreamer_h")
    episode, names, dt = _recorded(chosen, recording.task, recording.action_repeat)
    return Asked(simulator.world, None, simulator.crossovers, episode, names, dt)


def _recorded(
    chosen: argparse.Namespace, task: str, action_repeat: int
) -> tuple[Episode, list[str], float]:
    recording = load_recording(Path(chosen.context))
    found = (recording.task, recording.action_repeat)
    if found != (envs.short_name(task), action_repeat):
        raise ValueError(
            f"{chosen.context} has {found[0]} at action repeat {found[1]}, the model was trained "
            f"on {envs.short_name(task)} at {action_repeat}"
        )
    number = recording.numbers("test")[0] if chosen.number is None else chosen.number
    count = len(recording.manifest["episodes"])
    if not 0 <= number < count:
        raise ValueError(f"--number is {number}; {chosen.context} has episodes 0 to {count - 1}")
    e = recording.episode(number)
    fields = recording.layout
    return Episode(False, e.obs, e.action, e.reward, None), names_of(fields), recording.dt


def marks_of(chosen: argparse.Namespace, found: Asked) -> tuple[int | None, ...]:
    """Crossovers for --level. Raises ValueError for a level that is not there."""
    levels = len(found.world.jumps) if isinstance(found.world, Hierarchy) else 0
    if chosen.level is None:
        return found.crossovers
    if not 0 <= chosen.level <= levels:
        raise ValueError(
            f"--level is {chosen.level}; {chosen.model} has levels 0 to {levels}"
            + ("" if levels else " (train with --levels 2, or add one: train.py --add-level)")
        )
    return (0,) * chosen.level


def main(arguments: list[str]) -> int:
    chosen = parse(arguments)
    use_compilation_cache()
    found = asked(chosen)
    loop = open_loop(
        found.world, found.episode, found.names, found.dt,
        context=chosen.begin, length=chosen.steps,
        behaviour=found.behaviour if chosen.actions == "policy" else None,
        crossovers=marks_of(chosen, found), samples=chosen.samples, seed=chosen.seed,
    )  # fmt: skip
    path = chosen.save or chosen.model / "simulated.npz"
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez_compressed(file, **cast(Any, loop.arrays()))
    picture(loop).savefig(path.with_suffix(".png"))
    for mark in loop.marks:
        last = mark.steps[-1]
        print(f"level {mark.level}: jumps from agent step {mark.steps[0]} to {last}")
    if not loop.marks:
        print("level 0 alone, step by step")
    error = loop.imagined_reward[:, 1:].sum(axis=1).mean()
    real = loop.reward[loop.context + 1 :].sum()
    print(f"return of {chosen.steps} agent steps: imagined {error:.1f}, real {real:.1f}")
    print(path)
    print(path.with_suffix(".png"))
    if chosen.video:
        camera = found.episode.frames
        shown = film(loop, None if camera is None else camera[: len(loop.obs)])
        write_video(path.with_suffix(".mp4"), shown, min(60, round(1 / found.dt)))
        print(path.with_suffix(".mp4"))
    return 0


if __name__ == "__main__":
    run_script(main)
