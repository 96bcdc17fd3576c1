import errno
import fcntl
import math
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dreamer_h import files
from dreamer_h.train.checkpoints import archive
from dreamer_h.train.checkpoints.archive import CheckpointCorrupt, load, read_manifest, save
from dreamer_h.train.checkpoints.checkpoint import Checkpoints


class State(eqx.Module):
    weight: jax.Array
    moments: tuple
    act: object
    name: str = eqx.field(static=True)


def state(size: int = 5) -> State:
    return State(
        weight=jnp.arange(size, dtype=jnp.float32) / 3,
        moments=(
            (jnp.int32(-7), jnp.uint32(2**32 - 1)),
            {"a/b": jnp.array(True), "half": jnp.ones((2, 3), jnp.bfloat16) / 3},
            [jr.key(3), None, np.arange(3, dtype=np.float64) / 7],
        ),
        act=jax.nn.silu,
        name="flat",
    )


ARRAYS = {
    "episode/0/obs": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "rng": np.array([2**63], np.uint64),
}


def shapes(tree):
    arrays, rest = eqx.partition(tree, lambda x: isinstance(x, jax.Array))
    return eqx.combine(jax.eval_shape(lambda: arrays), rest)


def small(value: int):
    return {"w": np.full(100, value, np.float32)}


@pytest.mark.parametrize("like", [lambda s: s, shapes])
def test_round_trip_keeps_every_bit_dtype_and_kind(tmp_path, like):
    save(tmp_path / "a.ckpt", state(), ARRAYS, {"counts": {"update": 3}, "ids": [1, 2]})
    tree, arrays, manifest = load(tmp_path / "a.ckpt", like(state()))
    assert jax.tree.structure(tree) == jax.tree.structure(state())
    chex.assert_trees_all_equal(tree.moments[2][0], state().moments[2][0])
    for found, need in zip(jax.tree.leaves(tree), jax.tree.leaves(state()), strict=True):
        assert type(found) is type(need)
        if callable(need):
            continue
        assert found.dtype == need.dtype and found.shape == need.shape
        if not jnp.issubdtype(need.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(found, need)
    chex.assert_trees_all_equal(arrays, ARRAYS)
    assert manifest["counts"] == {"update": 3} and manifest["ids"] == [1, 2]
    assert read_manifest(tmp_path / "a.ckpt") == manifest
    assert {"python", "jax", "equinox", "numpy", "mujoco"} <= manifest["versions"].keys()


def test_members_need_no_pickle_and_no_temporary_file_stays(tmp_path):
    save(tmp_path / "a.ckpt", state(), ARRAYS, {})
    with zipfile.ZipFile(tmp_path / "a.ckpt") as file:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in file.infolist())
        for name in file.namelist():
            if name != "manifest.json":
                np.load(file.open(name), allow_pickle=False)
    assert os.listdir(tmp_path) == ["a.ckpt"]
    with pytest.raises(ValueError, match="arrays/x.*object"):
        save(tmp_path / "a.ckpt", {}, {"x": np.array([None])}, {})


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "a.ckpt"
    save(path, {"w": jnp.ones(3), "old": jnp.ones(2)}, {}, {})
    with pytest.raises(ValueError) as error:
        load(path, {"w": jnp.ones(4), "new": jnp.ones(2)})
    assert not isinstance(error.value, CheckpointCorrupt)
    assert "tree['w'] is float32[3], needed float32[4]" in str(error.value)
    assert "tree['new'] is missing" in str(error.value)
    assert "tree['old'] is unexpected" in str(error.value)
    with pytest.raises(ValueError, match=r"tree\['w'\] is float32\[3\], needed int32\[3\]"):
        load(path, {"w": jnp.ones(3, jnp.int32), "old": jnp.ones(2)})
    with pytest.raises(ValueError, match="manifest keys.*format"):
        save(path, {}, {}, {"format": 3})
    with pytest.raises(ValueError, match=r"tree\['w'\] is a float"):
        save(path, {"w": 1.0}, {}, {})


def test_no_flipped_byte_and_no_truncation_passes_unseen(tmp_path):
    path, damaged = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    tree = {"w": np.arange(4, dtype=np.int32)}
    save(path, tree, {"x": np.arange(3)}, {"note": "n"})
    data = path.read_bytes()
    seen = 0
    for i in range(0, len(data), 3):
        damaged.write_bytes(data[:i] + bytes([data[i] ^ 0x41]) + data[i + 1 :])
        try:
            found, arrays, manifest = load(damaged, tree)
        except CheckpointCorrupt as error:
            assert "b.ckpt" in str(error)
            seen += 1
        else:  # a date or an attribute in the zip's own records: no number of ours
            chex.assert_trees_all_equal((found, arrays), (tree, {"x": np.arange(3)}))
            assert manifest["note"] == "n"
    assert seen > 0.8 * len(data) / 3
    for length in range(0, len(data), 31):
        damaged.write_bytes(data[:length])
        with pytest.raises(CheckpointCorrupt, match=r"b\.ckpt"):
            load(damaged, tree)
        with pytest.raises(CheckpointCorrupt, match=r"b\.ckpt"):
            read_manifest(damaged)


def test_a_foreign_npz_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(CheckpointCorrupt, match=r"a\.npz.*manifest\.json"):
        load(tmp_path / "a.npz", {})


def test_another_format_is_not_called_corrupt(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT", 2)
    Checkpoints(tmp_path).save(1, small(1), {}, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 2, this code reads 1") as error:
        Checkpoints(tmp_path).load_latest(small(1))
    assert not isinstance(error.value, CheckpointCorrupt)


def test_temporary_files_of_the_dead_are_removed_and_of_the_living_kept(tmp_path):
    dead, living = (tmp_path / f".a.ckpt.{name}.tmp" for name in ("0", "1"))
    dead.touch()
    with open(living, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        save(tmp_path / "a.ckpt", small(1), {}, {})
    assert not dead.exists() and living.exists()


def test_the_last_and_the_best_are_kept_over_restarts(tmp_path):
    scores = [1.0, 5.0, None, math.nan, 4.0, 2.0]
    for update, score in enumerate(scores):
        Checkpoints(tmp_path, keep=2).save(update, small(update), {}, {}, score)
    kept = Checkpoints(tmp_path, keep=2)
    assert [p.name for p in kept.retained()] == ["update_000000004.ckpt", "update_000000005.ckpt"]
    assert load(tmp_path / "best.ckpt", small(0))[0]["w"][0] == 1
    assert kept.best_score() == 5.0
    latest = kept.load_latest(small(0))
    assert latest is not None and latest[0]["w"][0] == 5
    assert latest[2]["checkpoint"] == {"update": 5, "score": 2.0}


def test_best_is_copied_where_links_are_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = Checkpoints(tmp_path).save(1, small(1), {}, {}, 1.0)
    assert load(tmp_path / "best.ckpt", small(0))[0]["w"][0] == 1
    assert not path.samefile(tmp_path / "best.ckpt")
    assert len(os.listdir(tmp_path)) == 2


def test_a_corrupt_newest_is_named_and_the_one_before_is_used(tmp_path):
    kept = Checkpoints(tmp_path, keep=2)
    assert kept.load_latest(small(0)) is None
    for update in (1, 2):
        kept.save(update, small(update), {}, {})
    newest = kept.retained()[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    with pytest.warns(UserWarning, match="update_000000002.*the one before, update_000000001"):
        latest = kept.load_latest(small(0))
    assert latest is not None and latest[0]["w"][0] == 1
    # continuing from 1: the damaged 2 must not count as one of the last two
    kept = Checkpoints(tmp_path, keep=1)
    path = kept.save(1, small(7), {}, {})
    assert kept.retained() == [path]
    path.write_bytes(b"")
    with pytest.raises(CheckpointCorrupt, match="update_000000001"):
        kept.load_latest(small(0))


class FullDisk:
    """A file of which the first 200 bytes fit."""

    def __init__(self, *args):
        self.file = open(*args)

    def write(self, data):
        if self.file.tell() + len(data) > 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["write", "fsync"])
def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch, broken):
    kept = Checkpoints(tmp_path)
    kept.save(1, small(1), {}, {})
    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(files, "open", FullDisk, raising=False)
    with pytest.raises(OSError, match=f"{tmp_path}.* needs [0-9]{{3,}} bytes") as error:
        kept.save(2, small(2), {}, {})
    assert error.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["update_000000001.ckpt"]
    monkeypatch.undo()
    latest = kept.load_latest(small(0))
    assert latest is not None and latest[0]["w"][0] == 1


# The parent forks before jax starts threads; numpy leaves keep jax's backend asleep.
KILLED = """
import itertools, os, signal, sys, time
import numpy as np
from dreamer_h.train.checkpoints.checkpoint import Checkpoints

folder, like = sys.argv[1], {"w": np.zeros(500_000, np.float32)}

def counted(call, countdown):
    def wrapped(*args, **kwargs):
        if next(countdown) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped

def child(start, nth):
    if nth is not None:
        countdown = itertools.count(nth, -1)
        for name in ("fsync", "replace", "link", "unlink"):
            setattr(os, name, counted(getattr(os, name), countdown))
    for update in itertools.count(start):
        tree = {"w": np.full(500_000, update, np.float32)}
        Checkpoints(folder, keep=2).save(update, tree, {}, {}, float(update))

before = 0
plans = [(nth, 5.0) for nth in range(14)] + [(None, 0.02 * i) for i in range(10)]
for nth, seconds in plans:
    pid = os.fork()
    if pid == 0:
        child(before + 1, nth)
    if nth is None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    latest = Checkpoints(folder).load_latest(like)
    if latest is not None:
        update = latest[2]["checkpoint"]["update"]
        assert (latest[0]["w"] == update).all()
        assert update >= before, (update, before)
        before = update
Checkpoints(folder, keep=2).save(before + 1, like, {}, {}, 1e9)
print(before)
"""


def test_kill_at_any_moment_leaves_a_folder_that_loads(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 5
    assert sorted(p.suffix for p in Path(tmp_path).iterdir()) == [".ckpt"] * 3  # 2 and the best
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(tmp_path).best_score() == 1e9
