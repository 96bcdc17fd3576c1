"""A config as its fields by their paths, {"replay.batch": 16, …}, and back."""

import dataclasses
from typing import Any

from dreamer_h.config import (
    BehaviourConfig,
    Config,
    JumpConfig,
    OptimizerConfig,
    ReplayConfig,
    WorldConfig,
)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"replay.batch": 16, …}: every field by its path."""
    flat = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = value
    return flat


def with_field(config: Any, path: str, value: Any) -> Any:
    """The config with one field, named by its path, replaced."""
    name, _, rest = path.partition(".")
    if rest:
        value = with_field(getattr(config, name), rest, value)
    return dataclasses.replace(config, **{name: value})


def from_flat(flat: dict[str, Any]) -> Config:
    """The config that `flatten` wrote. Raises ValueError for unknown and missing fields."""
    known = flatten(Config())
    if flat.keys() != known.keys():
        unknown, missing = sorted(flat.keys() - known.keys()), sorted(known.keys() - flat.keys())
        raise ValueError(
            f"this config is of another version of dreamer_h: unknown {unknown}, missing {missing}"
        )
    parts: dict[str, dict[str, Any]] = {}
    for path, value in flat.items():
        room, _, name = path.rpartition(".")
        parts.setdefault(room, {})[name] = value
    top = parts.pop("")
    classes = {
        "replay": ReplayConfig,
        "world": WorldConfig,
        "jump": JumpConfig,
        "behaviour": BehaviourConfig,
        "optimizer": OptimizerConfig,
    }
    return Config(**top, **{room: classes[room](**values) for room, values in parts.items()})
