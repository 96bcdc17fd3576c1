"""Train an agent inside its learned simulator: `python scripts/train.py --task walker-walk`.

Every field of the config is a flag; `--preset` and `--recipe` choose the rest. The same command on
the same logdir resumes.
"""

import argparse
import json
import shlex
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import tyro

import envs
from dreamer_h.config import Config, flatten
from dreamer_h.files import replacing
from dreamer_h.presets import PRESETS, RECIPES, check_recipe, preset, with_levels
from dreamer_h.train.collect import KeepsFailing
from dreamer_h.train.evaluate import play_held_out, table
from dreamer_h.train.interrupt import Interrupt
from dreamer_h.train.lock import LogdirBusy, logdir_lock
from dreamer_h.train.loop import NotFinite, Trainer
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
    chosen, rest = first.parse_known_args(arguments)
    default = preset(chosen.preset, chosen.recipe, chosen.obs)
    default = with_levels(default, chosen.levels, chosen.strides)
    if chosen.obs is not None:
        rest += ["--obs", chosen.obs]
    config = tyro.cli(
        Config,
        default=default,
        args=rest,
        prog="python scripts/train.py",
        description=f"{__doc__}\n\nBeside the flags below: --preset {{{','.join(PRESETS)}}}, "
        f"--recipe {{{','.join(RECIPES)}}}, --logdir FOLDER (default runs/<task>-<seed>). "
        "With --levels 2 the replay's windows hold four jumps, unless --replay.length is given.",
        config=(tyro.conf.FlagConversionOff, tyro.conf.ConsolidateSubcommandArgs),
    )
    if chosen.recipe is not None:
        check_recipe(config, chosen.recipe)
    logdir = chosen.logdir or f"runs/{config.task.replace('/', '-')}-{config.seed}"
    return config, Path(logdir)


def check_logdir(config: Config, logdir: Path) -> None:
    """Raises ValueError if the logdir is another config's."""
    path = logdir / "config.json"
    if path.exists():
        before, now = json.loads(path.read_text()), flatten(config)
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
    if film and episodes and episodes[0].frames is not None:
        frames = episodes[0].frames
        iio.imwrite(logdir / "video.mp4", frames, fps=fps)
        # TensorBoard holds whole pictures: a quarter of them is enough there
        trainer.logger.video(trainer.counts, "eval/video", frames[::4], fps / 4)
        print(f"video:       {logdir / 'video.mp4'}")


def main(arguments: list[str]) -> int:
    config, logdir = parse(arguments)
    use_compilation_cache()
    make_env = partial(envs.make, config.task, **config.environment)
    with logdir_lock(logdir), Interrupt() as interrupt:
        check_logdir(config, logdir)
        print(json.dumps(flatten(config), indent=1))
        print(
            f"{config.updates_per_agent_step:.3f} updates per agent step = "
            f"{config.updates_per_env_step:.3f} per env step"
        )
        trainer = Trainer(config, logdir, make_env)
        # only now: what the trainer refuses must not bind the logdir to its config
        with replacing(logdir / "config.json") as file:
            file.write(json.dumps(flatten(config), indent=1).encode())
        try:
            done = trainer.run(interrupt)
            if not done:
                command = shlex.join(["python", "scripts/train.py", *arguments])
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
