"""Which numbers of a `config.Config` cannot work, alone or together, and what would.

Every error names the flag, what it is, and a value to set it to.
"""

import dataclasses
import math
from typing import Any


def check(config: Any) -> None:
    """Raises ValueError for numbers that cannot work together, with the value that would."""
    world, behaviour, replay = config.world, config.behaviour, config.replay
    for name, value in _numbers(config):
        if not math.isfinite(value):
            raise ValueError(f"--{name} is {value}; it must be a finite number")
        free = ("behaviour.entropy_target", "camera")  # camera -1 is the free one
        if value < 0 and name not in free:
            raise ValueError(f"--{name} is {value}; it cannot be negative")
    positive = ("size", "action_repeat", "steps", "envs", "eval_episodes", "checkpoint_every",
                "log_every",
                "checkpoint_keep", "failures", "replay.capacity", "replay.batch", "replay.length",
                "replay.tick", "world.deter", "world.hidden", "world.units", "world.groups",
                "world.blocks", "world.depth", "behaviour.units", "behaviour.layers",
                "behaviour.imagine_length", "world.selffed_paths", "levels", "jump.deter",
                "jump.hidden", "jump.units", "jump.chunk_units", "jump.every",
                "behaviour.manager_jumps", "behaviour.path_length",
                "behaviour.gradient_steps")  # fmt: skip
    values = dict(_numbers(config))
    for name in positive:
        if values[name] < 1:
            raise ValueError(f"--{name} is {values[name]}; set it to at least 1")
    if world.deter % world.blocks:
        raise ValueError(
            f"--world.deter {world.deter} is not a multiple of --world.blocks {world.blocks}; "
            f"set --world.deter to {_multiples(world.deter, world.blocks)}"
        )
    for name in ("world.classes", "jump.classes"):
        if values[name] < 2:
            raise ValueError(f"--{name} is {values[name]}; a categorical needs at least 2")
    check_levels(config)
    for name, bins in (("world.bins", world.bins), ("behaviour.bins", behaviour.bins)):
        if bins < 3 or bins % 2 == 0:
            raise ValueError(f"--{name} is {bins}; set it to an odd number from 3 on, like 255")
    if replay.length % replay.tick:
        raise ValueError(
            f"--replay.length {replay.length} is not a multiple of --replay.tick {replay.tick}; "
            f"set --replay.length to {_multiples(replay.length, replay.tick)}"
        )
    if behaviour.horizon <= 1.0:
        raise ValueError(f"--behaviour.horizon is {behaviour.horizon}; it must be above 1")
    for name in (
        "world.unimix",
        "behaviour.lambda_",
        "behaviour.slow_rate",
        "correlation",
        "jump.macro",
        "jump.reanchor",
        "behaviour.own_goals",
        "behaviour.hindsight_goals",
    ):
        if values[name] > 1:
            raise ValueError(f"--{name} is {values[name]}; it is a share, at most 1")
    practised = behaviour.own_goals + behaviour.hindsight_goals
    if practised > 1:
        raise ValueError(
            f"--behaviour.own_goals and --behaviour.hindsight_goals are {practised:g} together; "
            "they are shares, at most 1: lower one of them"
        )
    if behaviour.paths and behaviour.path_length < behaviour.imagine_length:
        raise ValueError(
            f"--behaviour.path_length is {behaviour.path_length}; paths are at least as long as "
            f"--behaviour.imagine_length, {behaviour.imagine_length}"
        )
    longest = behaviour.path_longest if behaviour.paths else 0
    if longest and longest < behaviour.path_length:
        raise ValueError(
            f"--behaviour.path_longest is {behaviour.path_longest}, less than "
            f"--behaviour.path_length, {behaviour.path_length}; set it to 0, or to more"
        )
    if behaviour.entropy_rate and not behaviour.entropy:
        raise ValueError("--behaviour.entropy is 0, from where no rate moves it; set it to 0.01")
    if config.optimizer.eps == 0:
        raise ValueError("--optimizer.eps is 0, by which it divides; set it to 1e-20")
    for name in ("optimizer.decay", "optimizer.momentum", "average"):
        if values[name] >= 1:
            raise ValueError(f"--{name} is {values[name]}; it must be below 1")
    doubting = {
        "behaviour.pessimism": behaviour.pessimism,
        "behaviour.trust_horizon": behaviour.trust_horizon,
        "explore_steps": config.explore_steps,
    }
    for name, value in doubting.items():
        if value and world.ensemble < 2:
            raise ValueError(
                f"--{name} needs guesses that can differ, and there are {world.ensemble}; set "
                "--world.ensemble to 5"
            )
    seldom = not 0 < config.eval_every < config.steps
    if behaviour.trust_horizon and (config.eval_episodes < 5 or seldom):
        raise ValueError(
            "--behaviour.trust_horizon is measured on episodes of evaluations: set --eval_episodes "
            f"to at least 5, and --eval_every above 0 and below --steps {config.steps}"
        )
    learning = config.prefill * config.action_repeat
    exploring = config.explore_steps
    if exploring > config.steps or 0 < exploring <= learning and exploring < config.steps:
        raise ValueError(
            f"--explore_steps is {exploring}; learning begins after {learning} env "
            f"steps and ends after {config.steps}: set it between these"
        )
    if behaviour.trust_horizon and config.obs == "pixels":
        raise ValueError("--behaviour.trust_horizon is for states; leave it at 0 for pixels")
    if config.optimizer.clip == 0:
        raise ValueError("--optimizer.clip is 0, which stops all learning; set it to 0.3")
    if config.obs == "pixels" and world.depth * 4 % world.blocks:
        raise ValueError(
            f"--world.depth {world.depth} times 4 is not a multiple of --world.blocks "
            f"{world.blocks}; set --world.depth to a multiple of {world.blocks}"
        )
    if config.obs == "pixels" and (world.residual or world.learned_scale):
        raise ValueError(
            "--world.residual and --world.learned_scale are for state observations; leave them "
            "False for pixels"
        )
    if world.selffed > replay.length:
        raise ValueError(
            f"--world.selffed is {world.selffed}; it must fit into --replay.length {replay.length}"
        )
    if config.obs == "pixels" and config.size % 16:
        raise ValueError(
            f"--size {config.size} is not a multiple of 16; set it to {_multiples(config.size, 16)}"
        )


def check_levels(config: Any) -> None:
    """Raises ValueError for levels that do not fit each other or the windows."""
    ratios = config.strides.split(",")
    if not all(ratio.isdigit() and int(ratio) > 1 for ratio in ratios):
        raise ValueError(f"--strides is {config.strides!r}; needed are numbers from 2 on, like 8,8")
    if config.levels - 1 > len(ratios):
        raise ValueError(
            f"--levels {config.levels} needs {config.levels - 1} strides, --strides has "
            f"{config.strides}; set --strides to {','.join(['8'] * (config.levels - 1))}"
        )
    if config.levels > 2 and not config.jump.own_losses:
        raise ValueError(
            f"--jump.own_losses False is for two levels, and --levels is {config.levels}: the fill "
            "sees nothing of the third; leave it True"
        )
    if config.levels > 1 and not config.jump.own_losses and config.world.ensemble:
        raise ValueError(
            "--jump.own_losses False leaves level 1's guesses untaught; leave it True, or set "
            "--world.ensemble to 0"
        )
    if config.levels > 1 and not config.jump.own_losses and not _own_jumps(config.jump):
        raise ValueError(
            "--jump.own_losses False teaches jumps by what they begin in the fill, but none begins "
            "there; set --jump.selffed to at least 2 and --jump.reanchor above 0"
        )
    length, longest = config.replay.length, max(config.jumps, default=1)
    if config.jumps and length < 2 * longest:
        raise ValueError(
            f"--replay.length {length} does not hold two jumps of level {config.levels - 1}; a "
            f"level learns from two in a row: set it to {2 * longest}, or fewer --levels"
        )
    for level, steps in enumerate(config.jumps, 1):
        if length % steps:
            raise ValueError(
                f"a jump of level {level} covers {steps} agent steps, which does not divide "
                f"--replay.length {length}; set that to {_multiples(length, longest)}, or fewer "
                "--levels"
            )


def _own_jumps(jump: Any) -> bool:
    """Whether levels are taught from where the one above would let them begin."""
    return jump.selffed > 1 and jump.reanchor > 0


def _multiples(value: int, unit: int) -> str:
    """The multiples of `unit` on both sides of a value that is none, in words."""
    smaller = value // unit * unit
    return f"{smaller} or {smaller + unit}" if smaller else f"{unit}"


def _numbers(config: Any, prefix: str = "") -> list[tuple[str, int | float]]:
    found = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            found += _numbers(value, f"{prefix}{item.name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + item.name, value))
    return found
