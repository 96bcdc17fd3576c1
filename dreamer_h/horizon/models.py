"""Simulators by name: fitted on a recording, kept in a folder, found again."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx

from dreamer_h.config import Config, flatten, from_flat
from dreamer_h.files import replacing
from dreamer_h.horizon import network, offline
from dreamer_h.horizon.budget import Budget
from dreamer_h.horizon.latent import LatentSimulator
from dreamer_h.horizon.recording import Recording
from dreamer_h.horizon.scale import Scale
from dreamer_h.horizon.simulator import Simulator
from dreamer_h.horizon.yardsticks import YARDSTICKS

# members, and agent steps of their own rollouts in training
NETWORKS = {"mlp": (1, 1), "mlp_selffed": (1, 8), "ensemble": (5, 8)}
WORLDS = ("flat",)
FITTED = (*NETWORKS, *WORLDS)


@dataclass(frozen=True)
class Card:
    """What a fitted folder holds, saved as `model.json`."""

    model: str
    task: str
    data: str  # hash of the recording
    seed: int
    budget: dict[str, Any]
    config: dict[str, Any] | None  # of worlds


def check_name(name: str, names: tuple[str, ...]) -> None:
    """Raises ValueError with the nearest names."""
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
        raise ValueError(f"unknown model {name!r}; did you mean {', '.join(near)}?")


def fit(
    name: str,
    recording: Recording,
    budget: Budget,
    shares: Iterable[float],
    config: Config,
    folder: Path,
    *,
    seed: int,
) -> None:
    """Fits a model on the training episodes and keeps it in `folder`.

    `shares` are those of the budget, one for each update; `config` is for worlds.
    """
    check_name(name, FITTED)
    scale = Scale.fit(recording.train, recording.layout)
    folder.mkdir(parents=True, exist_ok=True)
    if name in NETWORKS:
        members, steps = NETWORKS[name]
        fitted = network.fit(
            recording.train, scale, shares, members=members, steps=steps, seed=seed
        ).network
    else:
        fitted = offline.fit(recording.train, config, shares, seed=seed)
    with replacing(folder / "weights.eqx") as file:
        eqx.tree_serialise_leaves(file, fitted)
    card = Card(
        name, recording.task, recording.hash, seed,
        {"updates": budget.updates, "minutes": budget.minutes},
        flatten(config) if name in WORLDS else None,
    )  # fmt: skip
    with replacing(folder / "model.json") as file:
        file.write(json.dumps(vars(card), indent=1).encode())


def load(folder: Path, recording: Recording, scale: Scale) -> tuple[Card, Simulator]:
    """A fitted model. Raises ValueError if it is of another task."""
    card = Card(**json.loads((folder / "model.json").read_text()))
    if card.task != recording.task:
        raise ValueError(
            f"{folder} was fitted to {card.task}, the recording is of {recording.task}"
        )
    weights = folder / "weights.eqx"
    if card.config is not None:
        blank = offline.blank(recording.train, from_flat(card.config), seed=card.seed)
        return card, LatentSimulator(eqx.tree_deserialise_leaves(weights, blank))
    members, _ = NETWORKS[card.model]
    blank = network.blank(recording.train, scale, members, seed=card.seed)
    found = eqx.tree_deserialise_leaves(weights, blank.network)
    return card, network.NetworkSimulator(found, scale, blank.rest)


def yardstick(name: str, recording: Recording, scale: Scale) -> Simulator:
    """A model that needs no folder: it is fitted in seconds whenever it is asked for."""
    check_name(name, tuple(YARDSTICKS))
    return YARDSTICKS[name].fit(recording.train, scale)
