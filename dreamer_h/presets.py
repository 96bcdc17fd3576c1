"""Configs by name: a preset changes sizes, a recipe fixes what a published score depends on."""

import difflib
import json
from dataclasses import replace
from typing import Any

from dreamer_h.config import (
    BehaviourConfig,
    Config,
    JumpConfig,
    OptimizerConfig,
    ReplayConfig,
    WorldConfig,
)
from dreamer_h.fields import flatten, with_field


def _sized(deter: int, classes: int, **changes: Any) -> Config:
    """DreamerV3's rule for its sizes: hidden = units = deter / 8, depth = classes.

    Levels above the lowest are ours, and half as wide.
    """
    units = deter // 8
    return Config(
        world=WorldConfig(deter=deter, hidden=units, units=units, classes=classes, depth=classes),
        jump=JumpConfig(deter=deter // 2, hidden=units, units=units, chunk_units=units),
        behaviour=BehaviourConfig(units=units),
        **changes,
    )


PRESETS: dict[str, Config] = {
    "size1m": _sized(512, 4),
    "size12m": _sized(2048, 16),
    "size25m": _sized(3072, 24),
    "size50m": _sized(4096, 32),
    "size100m": _sized(6144, 48),
    "size200m": _sized(8192, 64),
    "size400m": _sized(12288, 96),
    # Small and quick on two cores. What differs from DreamerV3 in kind, and why:
    # docs/decisions/001-cpu-preset.md, 004-bits-of-the-code.md,
    # 006-carried-observations.md, 007-correlated-noise.md, 009-moving-average.md,
    # 011-no-free-nats.md, 014-paths-that-go-on.md, 015-two-levels-that-cost-less.md,
    # 019-paths-of-thirty-steps.md and 020-paths-as-long-as-the-simulator-is-trusted.md.
    "cpu": Config(
        steps=100_000,
        envs=1,
        prefill=1_000,
        correlation=0.9,
        average=0.99,
        replay=ReplayConfig(batch=16, length=16, ratio=128.0),
        world=WorldConfig(
            deter=128,
            hidden=64,
            units=64,
            groups=32,
            classes=4,
            blocks=1,
            depth=8,
            bins=63,
            residual=True,
            learned_scale=True,
            selffed=8,
            selffed_paths=2,
            free_nats=0.0,
        ),
        jump=JumpConfig(deter=128, hidden=64, units=128, chunk_units=128),
        behaviour=BehaviourConfig(
            units=64,
            layers=2,
            bins=63,
            horizon=100.0,
            entropy=1e-3,
            entropy_rate=1e-3,
            paths=64,
            path_length=30,
            path_longest=100,
            manager_jumps=4,
            worker_waypoints=16,
            gradient_steps=4,
            actor_rate=0.3,
            critic_rate=0.3,
            slow_rate=0.05,
        ),
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup=200),
    ),
    # Runs the whole path in seconds; learns nothing worth looking at.
    "debug": Config(
        steps=2_000,
        envs=2,
        prefill=200,
        correlation=0.9,
        eval_every=1_000,
        eval_episodes=1,
        checkpoint_every=500,
        log_every=200,
        video=False,
        replay=ReplayConfig(capacity=5_000, batch=4, length=16, ratio=8.0),
        world=WorldConfig(deter=32, hidden=16, units=16, groups=4, classes=4, blocks=4, depth=2),
        jump=JumpConfig(deter=16, hidden=16, units=16, groups=4, chunk_units=16),
        behaviour=BehaviourConfig(units=16, layers=1, imagine_length=5),
    ),
}

# What a published score depends on. With a recipe none of these can be changed by a flag.
RECIPES: dict[str, dict[str, Any]] = {
    "dmc_proprio": {"obs": "state", "action_repeat": 2, "replay.ratio": 512.0},
    "dmc_vision": {"obs": "pixels", "size": 64, "action_repeat": 2, "replay.ratio": 512.0},
}


def preset(name: str, recipe: str | None = None, obs: str | None = None) -> Config:
    """A preset, with the fixed numbers of a recipe put in. Raises ValueError with near names.

    What carries state observations beside the code is off where pixels are seen.
    """
    config = PRESETS[_known(name, PRESETS, "preset")]
    fixed = {} if recipe is None else RECIPES[_known(recipe, RECIPES, "recipe")]
    if "pixels" in (obs, fixed.get("obs")):
        plain = replace(
            config.world, residual=False, learned_scale=False, selffed=0, selffed_paths=1,
            free_nats=WorldConfig.free_nats,
        )  # fmt: skip
        config = replace(config, obs="pixels", world=plain)
    for path, value in fixed.items():
        config = with_field(config, path, value)
    return config


def with_levels(config: Config, levels: int, strides: str) -> Config:
    """The config with so many levels: windows hold whole jumps of the topmost one, four at least,
    and a batch as many steps as before; so do imagined paths, of which a worker follows each for a
    segment. Raises ValueError below one level."""
    if levels < 1:
        raise ValueError(f"--levels is {levels}; set it to at least 1")
    if levels == 1:
        return replace(config, strides=strides)
    jumps = replace(config, levels=1, strides=strides).strides_of(levels)
    replay = config.replay
    length = -(-max(replay.length, 4 * jumps[-1]) // jumps[-1]) * jumps[-1]
    batch = max(1, replay.batch * replay.length // length)
    behaviour = config.behaviour
    followed = behaviour.imagine_length if config.levels == 1 else config.jumps[0]
    paths = behaviour.paths * followed // jumps[0]
    return replace(
        config,
        levels=levels,
        strides=strides,
        replay=replace(replay, length=length, batch=batch),
        behaviour=replace(behaviour, paths=paths),
    )


def check_recipe(config: Config, recipe: str) -> None:
    """Raises ValueError if a number that the recipe fixes was changed."""
    fixed = RECIPES[_known(recipe, RECIPES, "recipe")]
    values = flatten(config)
    changed = {path: values[path] for path, value in fixed.items() if values[path] != value}
    if changed:
        wanted = ", ".join(f"--{path} {fixed[path]}" for path in changed)
        found = ", ".join(f"--{path} {value}" for path, value in changed.items())
        raise ValueError(
            f"recipe {recipe} needs {wanted}, found {found}; "
            "published scores hold for the recipe only: leave it out to change them"
        )


def with_settings(config: Config, settings: list[str]) -> Config:
    """The config with `path=value` settings. Raises ValueError for wrong paths and types."""
    known = flatten(config)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or path not in known:
            near = difflib.get_close_matches(path, known, n=3, cutoff=0.4)
            raise ValueError(f"--set {setting}: needed is path=value, with a path like {near}")
        try:
            value = json.loads(text.lower() if text in ("True", "False") else text)
        except json.JSONDecodeError:
            value = text
        if isinstance(known[path], str):
            value = text  # a stride of 4 is text, too
        if isinstance(known[path], float) and type(value) is int:
            value = float(value)
        if known[path] is not None and type(value) is not type(known[path]):
            raise ValueError(
                f"--set {setting}: {path} is {known[path]!r}, needed is a value like it"
            )
        config = with_field(config, path, value)
    return config


def _known(name: str, names: dict[str, Any], what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or list(names)
    raise ValueError(f"unknown {what} {name!r}; did you mean {', '.join(near)}?")
