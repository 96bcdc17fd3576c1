"""One process at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LogdirBusy(RuntimeError):
    """Another process holds the folder."""


@contextmanager
def logdir_lock(logdir: Path | str) -> Iterator[None]:
    """Holds `<logdir>/.lock` for the length of the block; creates the folder.

    The lock is the kernel's, not the file's existence: it ends with the process, however it ends.
    A child made by a bare fork shares it, one made by exec (subprocess, spawn) does not.
    Raises LogdirBusy, which names the holder, if it is taken.
    """
    folder = Path(logdir)
    folder.mkdir(parents=True, exist_ok=True)
    # "a+": opening must not wipe the holder's pid
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise LogdirBusy(
                f"{folder} is in use by process {pid}; wait for it, stop it (kill {pid}), "
                f"or choose another --logdir"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        # the file stays: unlinking would let two processes lock two files of one name
        yield
