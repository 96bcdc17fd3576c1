"""Environments, numbers, disks and files that fail while a run is training."""

import errno
import os
import warnings
import zipfile

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from dreamer_h.replay import sampler
from dreamer_h.train import loop
from dreamer_h.train.checkpoints.archive import load
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.collect import KeepsFailing
from dreamer_h.train.interrupt import Interrupt
from dreamer_h.train.loop import NotFinite, Trainer

LOST = {
    "raises": "step raised RuntimeError: the motor burnt",
    "nan": r"observation is not finite at \[2\]",
    "outside": "observation is outside its space",
    "shape": r"observation is float32 \(4,\), its space is float32 \(5,\)",
    "nan reward": "reward is nan",
    "huge reward": "reward is 1e.300, not finite in float32",
}


@pytest.fixture(scope="module", autouse=True)
def compile_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_update", toy.shared_update)
        yield


def whole(ring) -> bool:
    return all(
        np.isfinite(episode.obs).all()
        and abs(episode.obs).max() <= 1
        and len(episode) == toy.LENGTH
        for episode in ring.finished()
    )


def finite(tree) -> bool:
    return all(
        bool(jnp.isfinite(leaf).all())
        for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    )


def latest(trainer: Trainer):
    """The newest checkpoint, which must be whole: no warning is allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Checkpoints(trainer.checkpoints.folder).load_latest(trainer.state)
    assert found is not None
    return found


@pytest.mark.parametrize("how", LOST)
def test_a_broken_episode_is_dropped_counted_and_named(tmp_path, how):
    # each environment loses its second episode at step 7, and that alone
    breaks = lambda episode, step: how if (episode, step) == (1, 7) else None
    with pytest.warns(UserWarning, match=f"environment [01] lost its episode: {LOST[how]}") as seen:
        trainer = toy.finish(toy.trainer(tmp_path, lambda: toy.Toy(breaks)))
    assert sum("lost its episode" in str(w.message) for w in seen) == 2
    assert trainer.updates == 19 and finite(trainer.state)
    # 100 steps each: 20 + (7 lost) + 20 + 20 + 20 + 13 in progress
    assert trainer.ring.num_steps == 200 - 2 * 7 and whole(trainer.ring)
    assert len(list(trainer.ring.finished())) == 8
    faults = {
        r["env_step"]: r["collect/faults"] for r in toy.metrics(tmp_path) if "collect/faults" in r
    }
    assert faults[60] == 0 and faults[120] == faults[400] == 2


def test_a_reset_that_raises_is_tried_again(tmp_path):
    breaks = lambda episode, step: "raises" if episode in (0, 2, 3) and step == 0 else None
    with pytest.warns(UserWarning, match="reset raised RuntimeError: the motor burnt"):
        trainer = toy.finish(toy.trainer(tmp_path, lambda: toy.Toy(breaks)))
    assert trainer.collector.faults == 6
    assert trainer.ring.num_steps == 200 and whole(trainer.ring)


@pytest.mark.parametrize("step", [0, 3])
def test_what_keeps_failing_stops_the_run_with_its_state_saved(tmp_path, step):
    broken = {"now": True}
    make = lambda: toy.Toy(lambda e, s: "raises" if broken["now"] and e > 2 and s == step else None)
    trainer = toy.trainer(tmp_path, make, failures=6)
    with (
        pytest.warns(UserWarning, match="lost its episode"),
        pytest.raises(
            KeepsFailing, match="6 episodes in a row .*the motor burnt.*environment [01]"
        ),
    ):
        toy.finish(trainer)
    state, _, manifest = latest(trainer)
    assert manifest["agent_step"] == trainer.agent_step > 48 and finite(state)
    broken["now"] = False  # mended: the same command goes on to the end
    mended = toy.trainer(tmp_path, make, failures=6)
    assert mended.agent_step == trainer.agent_step
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert toy.finish(mended).updates == 19


def test_a_lost_evaluation_episode_leaves_the_training_alone(tmp_path):
    made = []

    def make():
        made.append(None)  # the first two collect, the third plays the mode
        return toy.Toy(
            (lambda e, s: "nan" if s == 4 else None) if len(made) == 3 else lambda e, s: None
        )

    with pytest.warns(UserWarning, match="an evaluation episode was lost: observation is not fin"):
        trainer = toy.finish(toy.trainer(tmp_path, make, eval_every=200))
    others = {"return_sampled", "return_imagined", "return_real", "gap_imagined", "minutes"}
    assert {row["what"] for row in trainer.rows} == others
    assert trainer.updates == 19 and trainer.collector.faults == 0


def spoiled(monkeypatch, updates) -> None:
    """Windows with a NaN for these updates, counted from 0."""
    count = iter(range(10_000))

    def sample(*arguments):
        batch = sampler.sample(*arguments)
        if next(count) in updates:
            batch.reward[0, 1] = np.nan
        return batch

    monkeypatch.setattr(loop, "sample", sample)


def test_an_update_that_is_not_finite_is_skipped_and_counted(tmp_path, monkeypatch):
    spoiled(monkeypatch, {3, 4, 9})
    trainer = toy.finish(toy.trainer(tmp_path, failures=3))
    assert trainer.updates == int(trainer.state.update) == 19
    assert int(trainer.state.skipped) == 3 and int(trainer.state.skipped_in_a_row) == 0
    assert finite(trainer.state)
    assert [r["train/skipped"] for r in toy.metrics(tmp_path) if "train/skipped" in r][-1] == 3


def test_losses_that_stay_not_finite_stop_the_run_with_its_state_saved(tmp_path, monkeypatch):
    spoiled(monkeypatch, range(5, 10_000))
    trainer = toy.trainer(tmp_path, failures=4)
    with pytest.raises(NotFinite, match="updates in a row .*--optimizer.learning_rate"):
        toy.finish(trainer)
    state, _, manifest = latest(trainer)
    assert finite(state) and int(state.skipped) >= 4
    assert manifest["updates"] == int(state.update) == int(state.skipped) + 5 < 19
    monkeypatch.undo()
    resumed = toy.finish(toy.trainer(tmp_path, failures=4))  # with whole windows it learns again
    assert resumed.updates == 19 and int(resumed.state.skipped_in_a_row) == 0


@pytest.mark.parametrize("what", ["fsync", "episodes"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, what):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    save = Trainer.save

    def second(self):
        with monkeypatch.context() as patch:
            if self.agent_step > 50:
                module = os if what == "fsync" else loop.storage
                patch.setattr(module, "fsync" if what == "fsync" else "replacing", full)
            save(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", second)
        trainer = toy.trainer(tmp_path)
        with pytest.raises(OSError, match="space") as error:
            toy.finish(trainer)
    assert error.value.errno == errno.ENOSPC
    assert trainer.agent_step == 100
    assert latest(trainer)[2]["agent_step"] == 50
    assert not list(tmp_path.rglob("*.tmp"))
    resumed = toy.trainer(tmp_path)  # with space again
    assert resumed.agent_step == 50
    assert toy.finish(resumed).updates == 19


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    data = bytearray(path.read_bytes())
    # in an array's numbers: the bytes between members may be anything
    data[largest.header_offset + largest.file_size // 2] ^= 0xFF
    path.write_bytes(data)


def stopped(tmp_path, agent_step: int) -> Trainer:
    """A run that was told to stop: its last checkpoint is at no regular place."""
    interrupt = Interrupt()
    trainer = toy.trainer(tmp_path)
    step = trainer._step

    def until(agent):
        step(agent)
        interrupt.requested = trainer.agent_step >= agent_step

    trainer._step = until  # type: ignore[method-assign]
    assert not trainer.run(interrupt)
    trainer.close()
    return trainer


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(tmp_path, damage):
    stopped(tmp_path, 120)
    newest = Checkpoints(tmp_path / "checkpoints").retained()[-1]
    damage(newest)
    before = "update_000000006.ckpt"
    with pytest.warns(UserWarning, match=f"{newest.name}.*the one before, {before}"):
        resumed = toy.trainer(tmp_path)
    assert resumed.agent_step == 100
    # saves go on although the damaged one would be among those retained
    assert toy.finish(resumed).updates == 19
    toy.finish(toy.trainer(tmp_path / "whole"))
    toy.same_runs(tmp_path, tmp_path / "whole")
    kept = Checkpoints(tmp_path / "checkpoints").retained()
    assert len(kept) == 3 and newest not in kept
    for path in kept:
        load(path, resumed.state)


def test_huge_observations_stay_finite(tmp_path):
    class Huge(toy.Toy):
        def __init__(self):
            super().__init__()
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)

        def _broken(self, reward):
            return (self.obs * 1e37).astype(np.float32), reward * 1e30

    trainer = toy.trainer(tmp_path, Huge)
    try:
        toy.finish(trainer)
    except NotFinite:
        assert int(trainer.state.skipped) >= trainer.config.failures
    assert finite(trainer.state)
    latest(trainer)
