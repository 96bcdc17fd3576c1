"""Returns of a trained run in the real environment: `python scripts/evaluate.py runs/walker`.

The mode policy and the sampled policy apart, on seeds never used in training; then what the
simulator promised for the same states and, of a manager, whether its subgoals were reached and what
it chooses.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import envs
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.train.checkpoints.load import load_agent, remembered
from dreamer_h.train.evaluation.choices import choices
from dreamer_h.train.evaluation.evaluate import play_held_out, table
from dreamer_h.train.evaluation.report import report
from dreamer_h.train.evaluation.subgoal_film import film_of
from dreamer_h.train.evaluation.video import write_video
from dreamer_h.train.runtime import run_script, use_compilation_cache


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="logdir of scripts/train.py")
    parser.add_argument("--episodes", type=int, default=10, help="for each of the two policies")
    parser.add_argument("--checkpoint", choices=["latest", "best"], default="latest")
    parser.add_argument("--seed", type=int, default=0, help="of the evaluation's resets")
    parser.add_argument("--json", action="store_true", help="print result rows as JSON only")
    parser.add_argument("--video", action="store_true", help="write a video of the first episode")
    parser.add_argument("--out", type=Path, help="folder of the video; default is the run")
    chosen = parser.parse_args(arguments)
    if chosen.episodes < 1:
        raise ValueError(f"--episodes is {chosen.episodes}; it must be at least 1")
    use_compilation_cache()
    config, agent, manifest = load_agent(chosen.run, chosen.checkpoint)
    make_env = partial(envs.make, config.task, **config.environment)
    film = chosen.video and envs.video_available()
    episodes, fps = play_held_out(
        agent, config, make_env, chosen.episodes, seed=chosen.seed, film=film
    )
    env_step = manifest["agent_step"] * config.action_repeat
    replayed = []  # states of the run, where there are subgoals to be measured by them
    if isinstance(agent.behaviour, ManagerWorker) and len(manifest["observation"]["shape"]) == 1:
        replayed = [episode.obs for episode in remembered(chosen.run)]
        if not replayed:
            print(
                "without the replay, subgoals are measured by what these episodes spread",
                file=sys.stderr,
            )
    env = make_env()
    found = report(agent, env, episodes, choices(agent, episodes), config, env_step, replayed)
    env.close()
    if chosen.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{config.task} at {env_step} env steps ({chosen.checkpoint} checkpoint)")
        print(table(episodes))
        for row in found:
            if row["unit"] == "return":  # the table has it
                continue
            print(f"{row['what']:28}{row['value']:9.3f} {row['unit']}")
    if film and episodes and episodes[0].frames is not None:
        path = (chosen.out or chosen.run) / "evaluation.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        env = make_env()
        write_video(path, cast(Any, film_of(agent, episodes[0], env)), fps)
        env.close()
        print(f"video: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_script(main)
