"""How jax runs in our scripts."""

import ctypes
import os
from pathlib import Path

import jax


def prepare() -> None:
    """To be called first by every script that trains or imagines."""
    keep_freed_memory()
    use_compilation_cache()


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed memory instead of returning it to the kernel; elsewhere nothing.

    XLA on CPU allocates its buffers anew at every call. By default glibc maps and unmaps the large
    ones, and the kernel then zeroes every page again: a third of an update on two cores.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # from malloc.h
    mallopt(arena_max, 1)  # other arenas are too small for large buffers, and would map them
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)


def use_compilation_cache() -> Path:
    """Keeps compiled programs on disk, so that a second start is quick; returns the folder.

    JAX_COMPILATION_CACHE_DIR chooses another one than `~/.cache/dreamer_h/xla`.
    """
    default = Path.home() / ".cache" / "dreamer_h" / "xla"
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", default))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
