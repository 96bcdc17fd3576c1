"""One zip of `.npy` members and a `manifest.json`: without pickle, replaced whole.

Members: `tree<path>.npy` for the leaves of the train state, `arrays/<name>.npy` for what else is
needed to continue. np.load opens the file too.
"""

import errno
import io
import json
import platform
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dreamer_h.files import remove_stale, replacing

FORMAT = 1
ARRAYS = "arrays/"
PACKAGES = ("jax", "equinox", "numpy", "mujoco", "dm_control", "gymnasium", "dreamer_h")
RESERVED = ("format", "versions", "members", "checkpoint")  # manifest keys that are written here
# .npy has no name for these: they are stored as unsigned integers of the same width
EXTENSION_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")

Loaded = tuple[PyTree, dict[str, np.ndarray], dict[str, Any]]


class CheckpointCorrupt(ValueError):
    """The file is truncated, damaged, or no checkpoint of ours."""


def save(
    path: Path | str,
    tree: PyTree,
    arrays: dict[str, np.ndarray],
    manifest: dict,
    checkpoint: dict | None = None,
) -> None:
    """Writes the leaves of `tree`, the named `arrays` and the JSON-able `manifest` to one file.

    Either the whole file appears under `path` or what was there before stays. Functions among the
    leaves (activations) are code, and are not stored. Raises ValueError for other leaves that are
    no arrays, and OSError with the folder and the needed bytes if the disk is full.
    """
    path = Path(path)
    if taken := sorted(set(RESERVED) & set(manifest)):
        raise ValueError(f"manifest keys {taken} are written by the checkpoint; rename yours")
    members = _named_leaves(tree) | {f"{ARRAYS}{k}": np.asarray(v) for k, v in arrays.items()}
    stored = {name: _to_numpy(leaf) for name, leaf in members.items()}
    for name, array in stored.items():
        if array.dtype.kind in "OV":
            raise ValueError(f"{name} has dtype {array.dtype}, not a plain number; store numbers")
    manifest = {
        **manifest,
        "format": FORMAT,
        "versions": _versions(),
        "checkpoint": checkpoint or {},
        "members": {name: str(leaf.dtype) for name, leaf in members.items()},
    }
    text = json.dumps(manifest, indent=1)
    # 512: the .npy header and the zip's own records
    needed = len(text) + sum(array.nbytes + 512 for array in stored.values())

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("manifest.json", text)
            for name, array in stored.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    remove_stale(path.parent)
    write_or_explain(path, needed, write)


def load(path: Path | str, like: PyTree) -> Loaded:
    """Returns (tree, arrays, manifest); `like` has arrays or ShapeDtypeStructs where `tree` had.

    Leaves become jax arrays, numpy arrays where `like` has those. Raises CheckpointCorrupt for a
    damaged or foreign file, and ValueError naming each leaf that does not fit `like`.
    """
    path = Path(path)
    with _reading(path) as file:
        manifest = _manifest(file)
        stored = {name: _read(file, name, manifest["members"]) for name in manifest["members"]}
    leaves = {name: array for name, array in stored.items() if name.startswith("tree")}
    tree = _restore(path, leaves, manifest["members"], like)
    return tree, _arrays(stored), manifest


def arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Reads only the named arrays. Raises CheckpointCorrupt as `load` does."""
    with _reading(Path(path)) as file:
        members = _manifest(file)["members"]
        stored = {name: _read(file, name, members) for name in members if name.startswith(ARRAYS)}
    return _arrays(stored)


def _arrays(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix(ARRAYS): v for k, v in stored.items() if k.startswith(ARRAYS)}


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Reads only the manifest. Raises CheckpointCorrupt as `load` does."""
    with _reading(Path(path)) as file:
        return _manifest(file)


def write_or_explain(path: Path, needed: int, write: Callable[[IO[bytes]], Any]) -> None:
    """Replaces `path` by what `write` writes; a full disk is told with the bytes that it lacks."""
    try:
        with replacing(path) as file:
            write(file)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"no space for {path.name} in {path.parent}: it needs {needed} bytes, "
            f"{shutil.disk_usage(path.parent).free} are free; free some space and start again, "
            "the checkpoints before it are kept",
        ) from error


class _OtherFormat(Exception):
    """The file is whole, but of a format that this code does not read."""


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except CheckpointCorrupt as error:
            raise CheckpointCorrupt(f"{path}: {error}") from error
        except _OtherFormat as error:
            raise ValueError(f"{path}: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # a damaged zip fails in a dozen ways, each of them means this
            reason = f"{type(error).__name__}: {error}"
            raise CheckpointCorrupt(f"{path} is damaged or no checkpoint ({reason})") from error


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    if "manifest.json" not in archive.namelist():
        raise CheckpointCorrupt("has no manifest.json, so it is no checkpoint of dreamer_h")
    manifest = json.loads(archive.read("manifest.json"))
    if manifest["format"] != FORMAT:
        raise _OtherFormat(
            f"has format {manifest['format']}, this code reads {FORMAT}; "
            f"use dreamer_h {manifest['versions'].get('dreamer_h')}, which wrote it"
        )
    return manifest


def _read(archive: zipfile.ZipFile, name: str, dtypes: dict[str, str]) -> np.ndarray:
    # ZipFile.read checks the CRC, which reading the array from the open member might not reach
    data = io.BytesIO(archive.read(f"{name}.npy"))
    array = np.lib.format.read_array(data, allow_pickle=False)
    return array.view(jnp.dtype(dtypes[name])) if dtypes[name] in EXTENSION_DTYPES else array


def _to_numpy(leaf: Any) -> np.ndarray:
    if _is_key(leaf):
        return np.asarray(jax.random.key_data(leaf))
    array = np.asarray(leaf)
    extension = array.dtype.name in EXTENSION_DTYPES
    return array.view(f"u{array.dtype.itemsize}") if extension else array


def _restore(path: Path, stored: dict[str, np.ndarray], dtypes: dict, like: PyTree) -> PyTree:
    wanted = _named_leaves(like)
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    problems += [f"{name} is unexpected" for name in stored if name not in wanted]
    for name in wanted.keys() & stored.keys():
        leaf = wanted[name]
        shape = jax.eval_shape(jax.random.key_data, leaf).shape if _is_key(leaf) else leaf.shape
        if (stored[name].shape, dtypes[name]) != (shape, str(leaf.dtype)):
            found = f"{dtypes[name]}{list(stored[name].shape)}"
            problems.append(f"{name} is {found}, needed {leaf.dtype}{list(shape)}")
    if problems:
        raise ValueError(
            f"{path} does not fit this configuration: {'; '.join(sorted(problems))}; "
            "run with the configuration in its manifest, or start in an empty folder"
        )

    def restore(keys: tuple, leaf: Any) -> Any:
        if callable(leaf):
            return leaf
        array = stored[_name(keys)]
        if isinstance(leaf, np.ndarray | np.generic):
            return array
        # a copy: jax on the CPU may alias a numpy buffer, and the train step donates its state
        data = jnp.array(array, copy=True)
        if _is_key(leaf):
            return jax.random.wrap_key_data(data, impl=_key_impl(leaf))
        return data

    return jax.tree_util.tree_map_with_path(restore, like)


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    leaves = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if callable(leaf):
            continue
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise ValueError(
                f"{_name(keys)} is a {type(leaf).__name__}, a checkpoint holds arrays; "
                "make it an array or a static field"
            )
        leaves[_name(keys)] = leaf
    return leaves


def _name(keys: tuple) -> str:
    return "tree" + jax.tree_util.keystr(keys)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(leaf: Any) -> Any:
    found = []  # a ShapeDtypeStruct tells its generator only under a trace
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), leaf)
    return found[0]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
