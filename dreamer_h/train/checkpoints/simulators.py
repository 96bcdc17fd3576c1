"""A simulator by its name, for whoever holds it against a recording."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dreamer_h.fields import flatten
from dreamer_h.horizon import models
from dreamer_h.horizon.levels.crossover import from_json, handed_over
from dreamer_h.horizon.recorded.recording import Recording
from dreamer_h.horizon.scoring.score import SAMPLES, Benchmark
from dreamer_h.horizon.simulator import Simulator
from dreamer_h.horizon.simulators.damped import Damped
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.simulators.pooled import Pooled
from dreamer_h.replay.episode import Episode
from dreamer_h.train.checkpoints.load import described_run, load_agent, load_config, remembered
from dreamer_h.train.state import Agent


def found_simulator(
    name: str,
    bench: Benchmark,
    short_name: Callable[[str], str],
    *,
    fast: bool = False,
    damped: bool = False,
    pool: Sequence[Path] = (),
) -> tuple[str, Simulator, dict[str, Any]]:
    """By the name of a yardstick, the folder of a fitted model, or the logdir of a run.

    Its name, itself, and what it was made with. `short_name` gives a run's task the name that
    recordings write. Raises ValueError for what is none, or knows other things than recorded.
    """
    recording, folder = bench.recording, Path(name)
    origin: dict[str, Any] = {"model": name}
    if (folder / "model.json").exists():
        card, simulator = models.load(folder, recording, bench.scale)
        name = card.label
        made = ("model", "seed", "budget", "updates", "config")
        origin = {field: getattr(card, field) for field in made}
    elif (folder / "config.json").exists():
        agent, marks = found_run(folder, recording, short_name)
        name, simulator = folder.name, LatentSimulator(agent.world, marks)
        config = load_config(folder)
        origin = {"model": "run", "seed": config.seed, "config": flatten(config)}
    else:
        simulator = models.yardstick(name, recording, bench.scale)
    if fast:
        if not isinstance(simulator, LatentSimulator) or not simulator.levels:
            raise ValueError(f"--fast needs a model with levels; {name} has none")
        name = f"{name}_fast"
        simulator = replace(simulator, crossovers=(0,) * simulator.levels)
    if pool:
        others = [models.load(other, recording, bench.scale) for other in pool]
        name = "+".join([name, *(card.label for card, _ in others)])
        simulator = Pooled((simulator, *(other for _, other in others)))
    if damped:
        name = f"{name}_damped"
        simulator = Damped.fit(simulator, bench.calibration, bench.scale, samples=SAMPLES)
    return name, simulator, origin


def found_run(
    folder: Path, recording: Recording, short_name: Callable[[str], str]
) -> tuple[Agent, tuple[int | None, ...]]:
    """The agent of a logdir, and from where its levels jump. Raises ValueError where the run saw
    other things than recorded."""
    config, agent, manifest = load_agent(folder)
    about = described_run(config, manifest, short_name(config.task))
    models.check_agrees(f"the run in {folder}", about, recording)
    return agent, handed_over(from_json(manifest.get("crossovers", [])))


def check_unseen(folder: Path, recording: Recording) -> None:
    """Raises ValueError where a run, if `folder` is one, learned from what it is to be held to, as
    far as it remembers; warns where its replay is not there, or damaged."""
    if not (folder / "config.json").exists():
        return
    known = {_content(episode) for episode in remembered(folder)}
    held = [*recording.numbers("calibration"), *recording.numbers("test")]
    seen = [number for number in held if _content(recording.episode(number)) in known]
    if seen:
        raise ValueError(
            f"the run in {folder} learned from {len(seen)} of the {len(held)} calibration and test "
            f"episodes of {recording.folder}, episode {seen[0]} first; score it on another one"
        )


def _content(episode: Episode) -> bytes:
    return episode.obs.tobytes() + episode.action.tobytes()
