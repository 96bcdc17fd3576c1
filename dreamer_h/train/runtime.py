"""How python, jax and the C library run in our scripts."""

import os
import platform
import sys
from pathlib import Path

import jax

HUGE_PAGES = "glibc.malloc.hugetlb=1"


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
