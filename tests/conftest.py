import fcntl
import gc
import os
import random
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

# before jax is imported: the suite compiles much and runs what it compiled for moments only
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import toy

from dreamer_h.train import loop
from dreamer_h.train.runtime import use_compilation_cache

SCRIPTS = Path(__file__).parents[1] / "scripts"
# 600 agent steps in two environments, past the end of an episode of 250; nothing in step
TINY = (
    "--preset debug --task cartpole-balance --action_repeat 4 --steps 2400 --prefill 100 "
    "--log_every 300 --checkpoint_every 400 --eval_every 1200"
).split()

Cli = Callable[..., int | str]
LONG = ("test_learning.py", "test_train.py")  # begun first: nothing is left to run beside the last


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory) -> Path:
    """One folder for all processes of this session (`pytest -n`)."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(session_folder):
    """One for the session and for the processes that it starts: what compiled once is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            patch.setenv("JAX_COMPILATION_CACHE_DIR", str(session_folder / "xla"))
        yield use_compilation_cache()


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Frees what a file compiled: each program holds memory maps, and Linux allows 65530 of them.

    Past that XLA ends the process with a segmentation fault, where it writes to the cache above.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def seed():
    """Random. A failing test shows it; GETKEY_SEED=… repeats it."""
    seed = int(os.environ.get("GETKEY_SEED", random.randrange(2**31)))
    print(f"\nto repeat the random numbers: GETKEY_SEED={seed}")  # shown only for failures
    return seed


@pytest.fixture
def getkey(seed):
    """A function that returns fresh keys."""
    # compiles faster than threefry; batched draws do not repeat single ones
    keys = [jr.key(seed, impl="unsafe_rbg")]

    def get():
        keys[0], key = jr.split(keys[0])
        return key

    return get


@pytest.fixture
def normal(seed):
    """A function that returns float32 normal draws of a shape: numpy's, which compile nothing."""
    rng = np.random.default_rng(seed)
    return lambda *shape, scale=1.0: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Runs `scripts/<name>` as the shell does, but in this process, which has compiled before.

    Returns what it exits with: a number, or the text that goes to stderr with exit code 1.
    """

    def run(script: str, *arguments: object) -> int | str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GLIBC_TUNABLES", "")  # set: the script does not start this process anew
            patch.setattr(sys, "argv", [script, *map(str, arguments)])
            patch.syspath_prepend(SCRIPTS)  # as Python does
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
    """The logdir of a debug run that reached its end."""
    logdir = session_folder / "finished" / "run"
    return made_once(logdir, lambda: cli("train.py", *TINY, "--logdir", logdir))


@pytest.fixture(scope="session")
def added(cli, finished, session_folder) -> Path:
    """The finished run with a level on top, which two updates taught nothing."""
    logdir = session_folder / "added" / "run"
    flags = ("--from", finished, "--add-level", "--stride", 4, "--updates", 2)
    return made_once(logdir, lambda: cli("train.py", *flags, "--logdir", logdir))


def made_once(logdir: Path, make: Callable[[], int | str]) -> Path:
    """Whoever of the processes asks first makes it; the others wait."""
    logdir.parent.mkdir(exist_ok=True)
    done = logdir.with_name("done")
    with open(logdir.with_name("lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            assert make() == 0
            done.touch()
    return logdir
