"""Files that appear whole or not at all, also when the process is killed or the disk is full."""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path`, durably, once the block ends without an error.

    On an error it is removed. While it is written it is flocked: so a temporary file that nobody
    locks is one that a killed process left.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Text as the whole content of `path`."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, tree: Any) -> None:
    """What JSON can hold as the whole content of `path`."""
    write_text(path, json.dumps(tree, indent=1) + "\n")


def remove_stale(folder: Path) -> None:
    """Deletes the temporary files that killed processes left in `folder`."""
    for path in folder.glob(".*.tmp"):
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its writer is alive
            path.unlink(missing_ok=True)
