"""How jax runs in our scripts."""

import os
from pathlib import Path

import jax


def use_compilation_cache() -> Path:
    """Keeps compiled programs on disk, so that a second start is quick; returns the folder.

    JAX_COMPILATION_CACHE_DIR chooses another one than `~/.cache/dreamer_h/xla`.
    """
    default = Path.home() / ".cache" / "dreamer_h" / "xla"
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", default))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
