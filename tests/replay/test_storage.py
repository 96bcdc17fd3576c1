import errno
import hashlib
import io
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamer_h.replay.sampler import sample
from dreamer_h.replay.storage import ReplayCorrupt, in_progress, load, prune, save
from tests.replay.fake import make_ring, play, step

LEAVES = ("obs", "action", "reward", "is_first", "is_terminal", "mask")


def through_json_and_npz(index, unfinished):
    buffer = io.BytesIO()
    np.savez(buffer, **unfinished)
    buffer.seek(0)
    return json.loads(json.dumps(index)), dict(np.load(buffer, allow_pickle=False))


def reload(ring, folder):
    return load(folder, *through_json_and_npz(save(ring, folder), in_progress(ring)))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_samples(a, b):
    rng_a, rng_b = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(4):
        x, y = sample(a, rng_a, 16, 16, 4), sample(b, rng_b, 16, 16, 4)
        for name in LEAVES:
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name))


def go_on(ring, ids, times):
    """Finish the unfinished episodes and play more, past the capacity."""
    for env_index, id in ids.items():
        for t in range(times[env_index] + 1, 41):
            step(ring, env_index, id, t, is_last=t == 40)
    for length in (30, 17, 25):
        play(ring, length)


@pytest.mark.parametrize("pixels", [False, True])
def test_loaded_ring_goes_on_exactly_like_the_uninterrupted_one(tmp_path, pixels):
    ring = make_ring(capacity=180, pixels=pixels)
    for length in (30, 40, 25, 33):
        play(ring, length)
    times = {2: 20, 0: 7, 1: 0}
    ids = {k: play(ring, n, env_index=k, ends="not") for k, n in times.items()}
    play(ring, 3, env_index=5, ends="not")
    ring.drop(5)  # its id must stay used
    loaded = reload(ring, tmp_path)
    assert loaded.next_id == ring.next_id
    assert loaded.num_steps == ring.num_steps
    assert loaded.num_episodes == ring.num_episodes
    assert list(loaded.unfinished()) == list(ring.unfinished())
    assert_same_samples(ring, loaded)
    for r in (ring, loaded):
        go_on(r, ids, times)
    assert [e.id for e in loaded.finished()] == [e.id for e in ring.finished()]
    assert_same_samples(ring, loaded)
    assert_same_samples(ring, reload(loaded, tmp_path))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    finished=st.lists(st.integers(1, 20), max_size=5),
    going=st.lists(st.integers(0, 20), max_size=4),
)
def test_any_ring_survives_the_round_trip(tmp_path_factory, finished, going):
    ring = make_ring(capacity=100)
    for length in finished:
        play(ring, length)
    for env_index, length in enumerate(going):
        play(ring, length, env_index=env_index, ends="not")
    loaded = reload(ring, tmp_path_factory.mktemp("ring"))
    for a, b in (
        (ring.finished(), loaded.finished()),
        (ring.unfinished().values(), loaded.unfinished().values()),
    ):
        for x, y in zip(a, b, strict=True):
            assert x.id == y.id
            for name in ("obs", "action", "reward", "is_terminal"):
                np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
                assert getattr(x, name).dtype == getattr(y, name).dtype
    assert (loaded.num_steps, loaded.next_id) == (ring.num_steps, ring.next_id)


def test_each_finished_episode_is_written_once(tmp_path):
    ring = make_ring()
    play(ring, 4)
    play(ring, 5, env_index=1, ends="not")
    first = save(ring, tmp_path)
    assert names(tmp_path) == ["episode_00000000.npz"]
    inode = (tmp_path / "episode_00000000.npz").stat().st_ino
    play(ring, 6)
    second = save(load(tmp_path, first, in_progress(ring)), tmp_path)
    assert second == first | {"next_id": 2}
    third = save(ring, tmp_path)
    assert [entry["length"] for entry in third["episodes"]] == [4, 6]
    assert names(tmp_path) == ["episode_00000000.npz", "episode_00000002.npz"]
    assert (tmp_path / "episode_00000000.npz").stat().st_ino == inode
    (tmp_path / "episode_00000000.npz").unlink()
    assert save(ring, tmp_path) == third  # a file that vanished is written again
    assert_same_samples(ring, load(tmp_path, third, in_progress(ring)))


def test_files_that_a_killed_run_left_are_not_mistaken_for_new_episodes(tmp_path):
    ring = make_ring()
    play(ring, 8)
    index, unfinished = through_json_and_npz(save(ring, tmp_path), in_progress(ring))
    play(ring, 9)
    save(ring, tmp_path)  # id 1 is on disk, and the run dies before its checkpoint
    resumed = load(tmp_path, index, unfinished)
    assert play(resumed, 12) == 1
    again = load(tmp_path, save(resumed, tmp_path), in_progress(resumed))
    assert [len(e) for e in again.finished()] == [8, 12]


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "bit", "other"])
def test_damaged_file_is_refused_by_name(tmp_path, damage):
    ring = make_ring()
    for _ in range(3):
        play(ring, 10)
    index = save(ring, tmp_path)
    path = tmp_path / "episode_00000001.npz"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        path.write_bytes((tmp_path / "episode_00000002.npz").read_bytes())
    else:
        flipped = bytes([content[300] ^ 1])
        path.write_bytes(
            {"cut": content[:-20], "empty": b"", "bit": content[:300] + flipped + content[301:]}[
                damage
            ]
        )
    with pytest.raises(ReplayCorrupt, match="episode_00000001.npz"):
        load(tmp_path, index, in_progress(ring))
    assert issubclass(ReplayCorrupt, ValueError)


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_full_disk_leaves_older_files_and_the_next_save_completes(tmp_path, monkeypatch, call):
    ring = make_ring()
    play(ring, 10)
    before = save(ring, tmp_path)
    old = (tmp_path / "episode_00000000.npz").read_bytes()
    unfinished = in_progress(ring)
    play(ring, 11)
    play(ring, 12)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr("builtins.open", full)
        else:
            patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            save(ring, tmp_path)
    assert names(tmp_path) == ["episode_00000000.npz"]  # neither a half file nor a temporary one
    assert (tmp_path / "episode_00000000.npz").read_bytes() == old
    assert load(tmp_path, before, unfinished).num_steps == 10
    after = save(ring, tmp_path)
    assert_same_samples(ring, load(tmp_path, after, in_progress(ring)))


def test_prune_deletes_what_no_checkpoint_needs_and_nothing_else(tmp_path):
    ring = make_ring(capacity=30)
    play(ring, 10)
    play(ring, 10)
    save(ring, tmp_path)
    for _ in range(2):
        play(ring, 10)
    index = save(ring, tmp_path)
    assert len(names(tmp_path)) == 4  # an episode that left the ring stays for older checkpoints
    (tmp_path / ".episode_00000009.npz.0.tmp").write_bytes(b"left by a crash")
    (tmp_path / "notes.txt").write_text("mine")
    save(ring, tmp_path)
    prune(tmp_path, [entry["id"] for entry in index["episodes"]])
    assert names(tmp_path) == [f"episode_0000000{i}.npz" for i in (1, 2, 3)] + ["notes.txt"]
    assert_same_samples(ring, load(tmp_path, index, in_progress(ring)))


def test_no_pickle_is_read(tmp_path):
    ring = make_ring()
    play(ring, 3)
    index = save(ring, tmp_path)
    path = tmp_path / "episode_00000000.npz"
    np.savez(path, obs=np.array([{}], object))
    index["episodes"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ReplayCorrupt, match="not an episode"):
        load(tmp_path, index, in_progress(ring))
