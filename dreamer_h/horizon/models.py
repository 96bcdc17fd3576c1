"""Simulators by name: fitted on a recording, kept in a folder, found again."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from dreamer_h.config import Config
from dreamer_h.fields import flatten, from_flat
from dreamer_h.files import replacing, write_json
from dreamer_h.horizon.levels import crossover
from dreamer_h.horizon.levels.crossover import Crossover
from dreamer_h.horizon.recorded.layout import angles_of
from dreamer_h.horizon.recorded.recording import Recording
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import choose, longest_horizon
from dreamer_h.horizon.simulator import SAMPLES, Simulator
from dreamer_h.horizon.simulators import network, offline
from dreamer_h.horizon.simulators.budget import Budget, Counted
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.simulators.yardsticks import YARDSTICKS
from dreamer_h.world.upper.hierarchy import Hierarchy

# members, and agent steps of their own rollouts in training
NETWORKS = {"mlp": (1, 1), "mlp_selffed": (1, 8), "ensemble": (5, 8)}
WORLDS = {"flat": 1, "levels2": 2, "levels3": 3}  # levels
FITTED = (*NETWORKS, *WORLDS, *YARDSTICKS)


@dataclass(frozen=True)
class Card:
    """What a fitted folder holds, saved as `model.json`."""

    model: str
    about: dict[str, Any]  # `described` of the recording
    data: str  # hash of the recording
    train: list[str]  # sha256 of its training episodes
    seed: int
    budget: dict[str, Any] | None  # none of yardsticks
    config: dict[str, Any] | None  # of worlds
    updates: int = 0  # that the budget was enough for
    angles: list[int] = field(default_factory=list)  # of worlds: `angles_of` the recording
    crossovers: list[dict[str, Any]] = field(default_factory=list)  # of upper levels
    scale: dict[str, Any] | None = None  # of networks: fields of Scale
    rest: list[float] | None = None  # of networks: (O,) see NetworkSimulator

    @property
    def label(self) -> str:
        """What the model is called in results: of those that draw, with the seed."""
        return self.model if self.model in YARDSTICKS else f"{self.model}-{self.seed}"


def described(recording: Recording) -> dict[str, Any]:
    """What a simulator of a recording must agree with; a shape (O,) and a size A."""
    first = recording.train[0]
    return {
        "task": recording.task,
        "obs": "state",  # nothing else is recorded
        "action_repeat": recording.action_repeat,
        "observation": list(first.obs.shape[1:]),
        "action": first.action.shape[-1],
    }


def check_agrees(what: str, about: dict[str, Any], recording: Recording) -> None:
    """Raises ValueError where a model, described as a recording is, differs from `recording`."""
    needed = described(recording)
    for name, value in about.items():
        if value != needed[name]:
            raise ValueError(
                f"{what} has {name} {value}, the recording in {recording.folder} has "
                f"{needed[name]}; score it on a recording that has the same"
            )


def check_name(name: str, names: Iterable[str]) -> None:
    """Raises ValueError with the nearest names."""
    names = tuple(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
        raise ValueError(f"unknown model {name!r}; did you mean {', '.join(near)}?")


def fit(
    name: str,
    recording: Recording,
    budget: Budget | None,
    shares: Iterable[float],
    config: Config | None,
    folder: Path,
    *,
    seed: int,
) -> None:
    """Fits a model on the training episodes and keeps it in `folder`.

    `shares` are those of the budget, one for each update; `config` is for worlds, and they alone
    have one. Yardsticks leave a card only: they are fitted in seconds whenever they are loaded. A
    folder that holds the very same fit already is left as it is.
    """
    check_name(name, FITTED)
    if (config is None) == (name in WORLDS):
        raise ValueError(
            f"{name} {'needs a' if config is None else 'has no'} config; of {', '.join(FITTED)} "
            f"only {', '.join(WORLDS)} have --preset and --set"
        )
    card = Card(
        model=name,
        about=described(recording),
        data=recording.hash,
        train=[_sha256(recording, number) for number in recording.numbers("train")],
        seed=seed,
        budget=None if budget is None else asdict(budget),
        config=None if config is None else flatten(config),
        angles=[] if config is None else list(angles_of(recording.layout)),
    )
    if _holds(folder, card):
        return
    folder.mkdir(parents=True, exist_ok=True)
    fitted, scale, rest, crossovers = None, None, None, []
    counted = Counted(shares)
    if name in NETWORKS:
        members, steps = NETWORKS[name]
        made = network.fit(
            recording.train,
            Scale.fit(recording.train, recording.layout),
            counted,
            members=members,
            steps=steps,
            seed=seed,
        )
        fitted, scale, rest = made.network, _as_json(made.scale), made.rest.tolist()
    elif config is not None:
        world = offline.blank(recording.train, tuple(card.angles), config, seed=seed)
        fitted = offline.fit(world, recording.train, config, counted, seed=seed)
        if isinstance(fitted, Hierarchy):
            crossovers = accepted(fitted, recording)
    if fitted is not None:
        with replacing(folder / "weights.eqx") as file:
            eqx.tree_serialise_leaves(file, fitted)
    found = {"updates": counted.count, "crossovers": crossover.as_json(crossovers)}
    card = replace(card, **found, scale=scale, rest=rest)
    write_json(folder / "model.json", asdict(card))


def _holds(folder: Path, card: Card) -> bool:
    """Whether this is the folder of that fit, done already."""
    try:
        found = _read_card(folder)
    except (FileNotFoundError, ValueError):
        return False
    asked = ("model", "about", "data", "train", "seed", "budget", "config", "angles")
    return all(getattr(found, name) == getattr(card, name) for name in asked)


def accepted(world: Hierarchy, recording: Recording) -> list[Crossover]:
    """The crossovers of a simulator's levels on the calibration episodes, which it never saw."""
    lengths = [len(recording.episode(number)) for number in recording.numbers("calibration")]
    windows = choose(recording, "calibration", longest_horizon(lengths, recording.tick), 1)
    scale = Scale.fit(recording.train, recording.layout)
    found = crossover.measured(world, windows, scale, samples=SAMPLES)
    for one in found:
        print(one.described())
    return found


def _as_json(scale: Scale) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(scale).items()
    }


def _from_json(found: dict[str, Any]) -> Scale:
    arrays = {name: np.array(value) for name, value in found.items() if name != "kind"}
    return Scale(**arrays, kind=tuple(found["kind"]))


def _sha256(recording: Recording, number: int) -> str:
    return recording.manifest["episodes"][number]["sha256"]


def load(folder: Path, recording: Recording, scale: Scale) -> tuple[Card, Simulator]:
    """A fitted model, to be scored on a recording. `scale` is that of the recording.

    Raises ValueError where task, action repeat or sizes differ, where a test episode is one that
    the model was fitted to, and for a yardstick of another recording.
    """
    card = _read_card(folder)
    check_agrees(f"the model in {folder}", card.about, recording)
    if card.data != recording.hash:
        _check_unseen(folder, card, recording)
    if card.model in YARDSTICKS:
        if card.data != recording.hash:
            raise ValueError(
                f"{folder} holds the yardstick {card.model} of recording {card.data[:12]}, this is "
                f"{recording.hash[:12]}; give --model {card.model} to fit it to this one"
            )
        return card, yardstick(card.model, recording, scale)
    weights = folder / "weights.eqx"
    if card.config is not None:
        known, angles = from_flat(card.config), tuple(card.angles)
        blank = offline.blank(recording.train, angles, known, seed=card.seed)
        found = _weights(weights, blank)
        marks = crossover.handed_over(crossover.from_json(card.crossovers))
        return card, LatentSimulator(found, marks)
    members, _ = NETWORKS[card.model]
    assert card.scale is not None
    own, rest = _from_json(card.scale), np.array(card.rest)
    blank = network.blank(recording.train, own, members, seed=card.seed)
    found = _weights(weights, blank.network)
    return card, network.NetworkSimulator(found, own, rest)


def _read_card(folder: Path) -> Card:
    found = json.loads((folder / "model.json").read_text())
    if (names := set(Card.__dataclass_fields__)) != found.keys():
        raise ValueError(
            f"{folder}/model.json is of another version of dreamer_h: it differs in "
            f"{sorted(names ^ found.keys())}; fit the model again"
        )
    return Card(**found)


def _weights(path: Path, blank: Any) -> Any:
    try:
        return eqx.tree_deserialise_leaves(path, blank)
    except (RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is damaged or of another version of dreamer_h ({reason}); fit the model again"
        ) from error


def _check_unseen(folder: Path, card: Card, recording: Recording) -> None:
    held = [*recording.numbers("calibration"), *recording.numbers("test")]
    seen = [number for number in held if _sha256(recording, number) in card.train]
    if seen:
        raise ValueError(
            f"{folder} was fitted to {len(seen)} of the {len(held)} calibration and test episodes "
            f"of {recording.folder}, episode {seen[0]} first; score it on another recording"
        )


def yardstick(name: str, recording: Recording, scale: Scale) -> Simulator:
    """A model that needs no folder: it is fitted in seconds whenever it is asked for."""
    check_name(name, tuple(YARDSTICKS))
    return YARDSTICKS[name].fit(recording.train, scale)
