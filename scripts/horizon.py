"""Error against horizon: record episodes, fit simulators to them, score and compare.

    python scripts/horizon.py record --task cheetah-run --behaviour excited --episodes 300
    python scripts/horizon.py fit --data data/cheetah-run-excited --model mlp_selffed --minutes 8
    python scripts/horizon.py score --data … --model <name, folder of fit, or run> --out results/…
    python scripts/horizon.py compare results/…

`<command> --help` lists the flags of each.
"""

import argparse

from horizon_commands import comparing, judging, making, trusting

from dreamer_h.guard import EnvironmentFault
from dreamer_h.train.runtime import run_script, use_compilation_cache

COMMANDS = {
    "record": (making.add_record, making.run_record, "episodes with the physics' state"),
    "fit": (making.add_fit, making.run_fit, "a simulator to recorded episodes"),
    "score": (judging.add_score, judging.run_score, "a simulator against what happened"),
    "levels": (judging.add_levels, judging.run_levels, "the levels of a simulator with each other"),
    "speed": (judging.add_speed, judging.run_speed, "how long simulators take to imagine"),
    "compare": (comparing.add_compare, comparing.run_compare, "scored simulators with each other"),
    "trust": (trusting.add_trust, trusting.run_trust, "what a simulator says of its own errors"),
    "rank": (trusting.add_rank, trusting.run_rank, "policies, inside a simulator and for real"),
    "exploit": (trusting.add_exploit, trusting.run_exploit, "a simulator, as an optimiser would"),
    "cover": (comparing.add_cover, comparing.run_cover, "what recordings show of a task's states"),
    "overview": (comparing.add_overview, comparing.run_overview, "two of them on many tasks"),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (add, _, text) in COMMANDS.items():
        add(commands.add_parser(name, help=text))
    chosen = parser.parse_args(arguments)
    use_compilation_cache()
    COMMANDS[chosen.command][1](chosen)
    return 0


if __name__ == "__main__":
    run_script(main, EnvironmentFault)
