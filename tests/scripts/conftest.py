import fcntl
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from dreamer_h.train import loop

SCRIPTS = Path(__file__).parents[2] / "scripts"
# 600 agent steps in two environments, past the end of an episode of 250; nothing in step
TINY = (
    "--preset debug --task cartpole-balance --action_repeat 4 --steps 2400 --prefill 100 "
    "--log_every 300 --checkpoint_every 400 --eval_every 1200"
).split()

Cli = Callable[..., int | str]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Runs `scripts/<name>` as the shell does, but in this process, which has compiled before.

    Returns what it exits with: a number, or the text that goes to stderr with exit code 1.
    """

    def run(script: str, *arguments: object) -> int | str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GLIBC_TUNABLES", "")  # set: the script does not start this process anew
            patch.setattr(sys, "argv", [script, *map(str, arguments)])
            patch.setattr(loop, "make_update", toy.shared_update)
            with pytest.raises(SystemExit) as end:
                runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        code = end.value.code
        return 0 if code is None else code

    return run


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    return TINY


@pytest.fixture(scope="session")
def finished(cli, session_folder) -> Path:
    """The logdir of a debug run that reached its end; whoever asks first lets it run."""
    logdir = session_folder / "finished" / "run"
    logdir.parent.mkdir(exist_ok=True)
    with open(logdir.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (logdir / "rows.json").exists():
            assert cli("train.py", *TINY, "--logdir", logdir) == 0
    return logdir
