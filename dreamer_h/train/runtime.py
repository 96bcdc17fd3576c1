"""How python, jax and the C library run in our scripts."""

import os
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jax

HUGE_PAGES = "glibc.malloc.hugetlb=1"


def run_script(main: Callable[[list[str]], int], *problems: type[Exception]) -> NoReturn:
    """Ends the process with what `main(arguments)` returns, run with memory in huge pages.

    A ValueError, an OSError or one of `problems` is one line on stderr and exit code 1.
    """
    with_huge_pages()
    # ffmpeg's process is another program at once; jax warns of those that go on with its threads
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError, *problems) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def with_huge_pages() -> None:
    """Starts the script anew with memory in huge pages; to be called first, where it is run.

    XLA on CPU allocates its buffers anew at every call: on small pages the kernel spends a quarter
    of an update on zeroing them one by one. glibc reads the setting at a process's start only.
    Nothing happens where it is set already, where the variable says something else, or without
    glibc.
    """
    if platform.libc_ver()[0] == "glibc" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = HUGE_PAGES
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)


def use_compilation_cache() -> Path:
    """Keeps compiled programs on disk, so that a second start is quick; returns the folder.

    JAX_COMPILATION_CACHE_DIR chooses another one than `~/.cache/dreamer_h/xla`.
    """
    default = Path.home() / ".cache" / "dreamer_h" / "xla"
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", default))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
