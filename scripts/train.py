"""Train an agent inside its learned simulator: `python scripts/train.py --task walker-walk`.

Every field of the config is a flag; `--preset` and `--recipe` choose the rest. The same command on
the same logdir resumes. A level is added to a trained run, of which nothing changes, by
`python scripts/train.py --from runs/walker-walk-0 --add-level --stride 8`.
"""

import argparse
import json
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import tyro

import envs
from dreamer_h.config import Config
from dreamer_h.fields import flatten
from dreamer_h.files import write_json
from dreamer_h.horizon.simulators.budget import Budget
from dreamer_h.presets import PRESETS, RECIPES, check_recipe, preset, with_levels
from dreamer_h.train.add_level import add_level, with_one_more
from dreamer_h.train.checkpoints.level_files import BELOW, level_path
from dreamer_h.train.checkpoints.load import load_config
from dreamer_h.train.collect import KeepsFailing
from dreamer_h.train.evaluation.evaluate import play_held_out, table
from dreamer_h.train.evaluation.subgoal_film import film_of
from dreamer_h.train.evaluation.video import write_video
from dreamer_h.train.interrupt import Interrupt
from dreamer_h.train.lock import LogdirBusy, logdir_lock
from dreamer_h.train.loop import NotFinite, Trainer
from dreamer_h.train.progress import progress
from dreamer_h.train.runtime import run_script, use_compilation_cache


def parse(arguments: list[str]) -> tuple[Config, Path]:
    """The config and the logdir of a command line. Raises ValueError with advice."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="cpu")
    first.add_argument("--recipe", default=None)
    first.add_argument("--logdir", default=None)
    first.add_argument("--obs", default=None)
    first.add_argument("--levels", type=int, default=1)
    first.add_argument("--strides", default="8,8")
    first.add_argument("--pessimism", default=None)
    first.add_argument("--trust-horizon", "--trust_horizon", default=None)
    first.add_argument("--explore", action="store_true")
    chosen, rest = first.parse_known_args(arguments)
    default = preset(chosen.preset, chosen.recipe, chosen.obs)
    default = with_levels(default, chosen.levels, chosen.strides)
    if chosen.obs is not None:
        rest += ["--obs", chosen.obs]
    for name in ("pessimism", "trust_horizon"):  # short names of
        if getattr(chosen, name) is not None:
            rest += [f"--behaviour.{name}", getattr(chosen, name)]
    config = tyro.cli(
        Config,
        default=default,
        args=rest,
        prog="python scripts/train.py",
        description=f"{__doc__}\n\nBeside the flags below: --preset {{{','.join(PRESETS)}}}, "
        f"--recipe {{{','.join(RECIPES)}}}, --logdir FOLDER (default runs/<task>-<seed>). "
        "With --levels 2 the replay's windows hold whole jumps, four at least, unless "
        "--replay.length is given. "
        "--pessimism and --trust-horizon are those of --behaviour; --explore seeks what the "
        "simulator does not know for the whole run, and no reward. A run that is in its logdir "
        "already goes on where it stands, to more --steps too.",
        config=(tyro.conf.FlagConversionOff, tyro.conf.ConsolidateSubcommandArgs),
    )
    if chosen.explore and config.explore_steps not in (0, config.steps):
        raise ValueError(
            f"--explore is for the whole run, and --explore-steps is {config.explore_steps}; give "
            "one of them"
        )
    if chosen.explore:
        config = replace(config, explore_steps=config.steps)
    if chosen.recipe is not None:
        check_recipe(config, chosen.recipe)
    logdir = chosen.logdir or f"runs/{config.task.replace('/', '-')}-{config.seed}"
    return config, Path(logdir)


def parse_addition(arguments: list[str]) -> argparse.Namespace:
    """The flags of an added level. Raises ValueError for a stride that is none."""
    parser = argparse.ArgumentParser(
        prog="python scripts/train.py --add-level", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--from", dest="run", type=Path, required=True, help="logdir of the run")
    parser.add_argument("--add-level", action="store_true", required=True)
    parser.add_argument("--stride", type=int, default=8, help="steps of the level below in a jump")
    parser.add_argument("--updates", type=int, help="budget; default is 5000")
    parser.add_argument("--minutes", type=float, help="or in minutes of this machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logdir", type=Path, help="default is <run>-levels<number>")
    chosen = parser.parse_args(arguments)
    if chosen.stride < 2:
        raise ValueError(f"--stride is {chosen.stride}; a jump covers 2 steps or more")
    if chosen.updates is None and chosen.minutes is None:
        chosen.updates = 5000
    return chosen


def run_addition(arguments: list[str]) -> int:
    """Adds a level, and says whether it is worth using, and from where on."""
    chosen = parse_addition(arguments)
    config = with_one_more(load_config(chosen.run), chosen.stride)
    level = config.levels - 1
    logdir = chosen.logdir or chosen.run.with_name(f"{chosen.run.name}-levels{config.levels}")
    make_env = partial(envs.make, config.task, **config.environment)
    bar = progress(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}")
    with logdir_lock(logdir), bar:
        if (logdir / "config.json").exists():
            raise ValueError(f"{logdir} holds a run; choose another --logdir")
        shares = Budget(chosen.updates, chosen.minutes).shown(bar)
        found = add_level(chosen.run, logdir, chosen.stride, shares, make_env, seed=chosen.seed)
    if not found:
        print(f"level {level}: its error says little or nothing here; not used by default")
    for one in found:
        print(one.described())
    print(f"{level_path(logdir, level)}, on a frozen copy of {chosen.run}")
    return 0


def check_logdir(config: Config, logdir: Path) -> None:
    """Raises ValueError if the logdir is another config's. A run may go on to more steps, exploring
    if all of it was, and its video is no part of it."""
    path = logdir / "config.json"
    if (logdir / BELOW).exists():
        raise ValueError(
            f"{logdir} holds a frozen run with an added level, which no training changes; choose "
            "another --logdir"
        )
    if path.exists():
        before, now = json.loads(path.read_text()), flatten(config)
        if now["steps"] > before.get("steps", 0):
            throughout = [one.get("explore_steps") == one.get("steps") for one in (before, now)]
            if all(throughout):
                before["explore_steps"] = now["explore_steps"]
            before["steps"] = now["steps"]
        before["video"] = now["video"]
        differ = [
            f"--{name}: {before.get(name, 'absent')} there, {now.get(name, 'absent')} now"
            for name in sorted(before.keys() | now.keys())
            if before.get(name, "absent") != now.get(name, "absent")
        ]
        if differ:
            raise ValueError(
                f"{logdir} holds a run with another config; choose another --logdir, or give "
                "the old values:\n  " + "\n  ".join(differ)
            )


def finish(trainer: Trainer) -> None:
    """Evaluates on resets never used in training, with a video where one can be made."""
    config, logdir = trainer.config, trainer.logdir
    film = config.video and envs.video_available()
    episodes, fps = play_held_out(
        trainer.state.acting, config, trainer.make_env, config.eval_episodes, film=film
    )
    print(table(episodes))
    for found in trainer.crossovers:
        print(found.described())
    if film and episodes and episodes[0].frames is not None:
        frames = cast(Any, film_of(trainer.state.acting, episodes[0], trainer.envs[0]))
        write_video(logdir / "video.mp4", frames, fps)
        # TensorBoard holds whole pictures: a quarter of them is enough there
        trainer.logger.video(trainer.counts, "eval/video", frames[::4], fps / 4)
        print(f"video:       {logdir / 'video.mp4'}")


def main(arguments: list[str]) -> int:
    use_compilation_cache()
    if {"--add-level", "--from"} & {argument.partition("=")[0] for argument in arguments}:
        return run_addition(arguments)
    config, logdir = parse(arguments)
    make_env = partial(envs.make, config.task, **config.environment)
    with logdir_lock(logdir), Interrupt() as interrupt:
        check_logdir(config, logdir)
        print(json.dumps(flatten(config), indent=1))
        print(
            f"{config.updates_per_agent_step:.3f} updates per agent step = "
            f"{config.updates_per_env_step:.3f} per env step"
        )
        trainer = Trainer(config, logdir, make_env)
        print(f"replay: at most {trainer.ring.nbytes_bound / 1e9:.2g} GB when it is full")
        # only now: what the trainer refuses must not bind the logdir to its config
        write_json(logdir / "config.json", flatten(config))
        try:
            done = trainer.run(interrupt)
            if not done:
                command = shlex.join(["python", sys.argv[0], *arguments])
                print(f"\nsaved at env step {trainer.env_step}; to resume:\n  {command}")
                return 0
            finish(trainer)
        finally:
            trainer.close()
    print(f"TensorBoard: tensorboard --logdir {logdir}")
    print(f"checkpoints: {logdir / 'checkpoints'}")
    return 0


if __name__ == "__main__":
    run_script(main, LogdirBusy, KeepsFailing, NotFinite)
