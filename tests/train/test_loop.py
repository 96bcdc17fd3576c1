import dataclasses
import json
import math

import jax
import numpy as np
import pytest
import toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer_h.fields import flatten
from dreamer_h.train import loop
from dreamer_h.train.checkpoints.archive import read_manifest
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.interrupt import Interrupt
from dreamer_h.train.loop import Trainer

COUNTS = ("env_step", "agent_step", "update", "seconds")


@pytest.fixture(scope="module", autouse=True)
def compile_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_update", toy.shared_update)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run, and the env steps at which it saved."""
    logdir, saved = tmp_path_factory.mktemp("whole"), []
    with pytest.MonkeyPatch.context() as patch:
        save = Trainer.save
        patch.setattr(Trainer, "save", lambda self: (saved.append(self.env_step), save(self)))
        trainer = toy.trainer(logdir, eval_every=150)
        toy.finish(trainer)
    return logdir, saved, trainer


def passed(every: int, steps: int = 400) -> list[int]:
    """Where multiples of `every` are first reached, in strides of 2 environments x repeat 2."""
    return sorted({*(math.ceil(k * every / 4) * 4 for k in range(1, steps // every + 1)), steps})


def test_everything_happens_at_the_env_steps_of_the_config(whole):
    logdir, saved, trainer = whole
    records = toy.metrics(logdir)
    logged = [r["env_step"] for r in records if "replay/steps" in r]
    evaluated = [r["env_step"] for r in records if "eval/return_mode" in r]
    assert logged == passed(60) == [60, 120, 180, 240, 300, 360, 400]
    assert evaluated == [0, *passed(150)] == [0, 152, 300, 400]
    assert saved == passed(100) == [100, 200, 300, 400]
    rows = json.loads((logdir / "rows.json").read_text())
    assert rows == trainer.rows
    sums = ("return_imagined", "return_real", "gap_imagined")
    measured = ("return_mode", "return_sampled", *sums, "minutes")
    assert [(row["what"], row["x"]) for row in rows] == [
        (what, x) for x in evaluated for what in measured
    ]


def test_every_record_knows_its_counts(whole):
    logdir, _, trainer = whole
    records = toy.metrics(logdir)
    for record in records:
        assert tuple(record)[:4] == COUNTS
        assert record["env_step"] == 2 * record["agent_step"]
        # floor((agent steps since the prefill of 48) / 8)
        assert record["update"] == max(0, record["agent_step"] - 48) // 8
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds) and seconds[0] >= 0 and seconds[-1] > 0
    assert int(trainer.state.update) == trainer.updates == 19
    assert (
        trainer.config.updates_per_env_step == records[-2]["train/updates_per_env_step"] == 1 / 16
    )
    assert {"world/recon", "world/dyn", "behaviour/policy", "train/loss", "collect/return",
            "collect/faults", "replay/megabytes"} <= records[-2].keys()  # fmt: skip


def test_tensorboard_shows_curves_histograms_the_open_loop_and_the_config(whole):
    logdir, _, trainer = whole
    read = EventAccumulator(str(logdir), {"tensors": 0, "images": 0, "histograms": 0}).Reload()
    tags = read.Tags()
    assert {"train/loss", "world/recon", "eval/return_mode", "collect/return"} <= {*tags["scalars"]}
    assert {"collect/action", "world/code", "world/deter"} <= {*tags["histograms"]}
    assert [p.step for p in read.Images("world/open_loop")] == [0, 152, 300, 400]
    actions = read.Histograms("collect/action")[0].histogram_value
    assert actions.num == 60 / 2 and -1 <= actions.min < 0 < actions.max <= 1
    text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    for name, value in flatten(trainer.config).items():
        assert f"| {name} | {value} |" in text


@pytest.mark.parametrize("prefill, ratio", [(0, 8.0), (7, 20.0), (33, 100.0), (48, 0.0)])
def test_updates_are_exactly_the_agent_steps_times_the_rate(tmp_path, prefill, ratio):
    # prefill 0: the first updates wait until there is something to replay
    trainer = toy.finish(toy.trainer(tmp_path, steps=160, prefill=prefill, replay={"ratio": ratio}))
    assert trainer.updates == int(trainer.state.update) == int((80 - prefill) * ratio / (4 * 16))


class Killed(Exception):
    """As kill -9 within one process: nothing gets the chance to save."""


def killed(trainer: Trainer, monkeypatch, agent_step: int) -> None:
    step = Trainer._step

    def until(self, agent):
        if self.agent_step >= agent_step:
            raise Killed
        step(self, agent)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_step", until)
        trainer.run(Interrupt())


# before the first checkpoint; in the prefill; after an evaluation; twice; just before the end
@pytest.mark.parametrize("moments", [[20], [14 * 4], [82], [110, 160], [198]])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch, whole, moments):
    changes = {"eval_every": 150}
    if moments == [14 * 4]:  # kills after two checkpoints without any update
        changes |= {"prefill": 80, "checkpoint_every": 52}
    if "prefill" in changes:
        toy.finish(toy.trainer(tmp_path / "whole", **changes))
    for moment in moments:
        killed(toy.trainer(tmp_path / "run", **changes), monkeypatch, moment)
    resumed = toy.trainer(tmp_path / "run", **changes)
    lost = moments[-1] - resumed.agent_step
    assert 0 <= lost <= 50 + 2  # 100 env steps between checkpoints
    toy.finish(resumed)
    toy.same_runs(tmp_path / "run", tmp_path / "whole" if "prefill" in changes else whole[0])


def test_an_interrupted_run_saves_where_the_acting_copy_is_made_anew_and_resumes(tmp_path, whole):
    interrupt, changes = Interrupt(), {"eval_every": 150}
    trainer = toy.trainer(tmp_path, **changes)
    step = trainer._step

    def until(agent):
        step(agent)
        interrupt.requested = trainer.agent_step >= 90

    trainer._step = until  # type: ignore[method-assign]
    assert not trainer.run(interrupt)
    trainer.close()
    manifest = read_manifest(Checkpoints(tmp_path / "checkpoints").retained()[-1])
    # no multiple of checkpoint_every, but three times eight vector steps after one
    assert manifest["agent_step"] == 98
    resumed = toy.trainer(tmp_path, **changes)
    assert resumed.agent_step == 98 and resumed.updates == (98 - 48) // 8
    assert toy.finish(resumed).updates == 19
    toy.same_runs(tmp_path, whole[0])
    steps = [r["env_step"] for r in toy.metrics(tmp_path) if "replay/steps" in r]
    assert steps == passed(60)


def test_imagined_paths_last_as_long_as_the_simulator_is_accurate(tmp_path, monkeypatch):
    behaviour = dataclasses.replace(toy.config().behaviour, path_length=20, path_longest=50)
    trainer = toy.trainer(tmp_path, behaviour=behaviour)
    length = lambda trainer: float(trainer.state.paths.length)
    found = [length(trainer)]
    for steps in (0.0, 33.0, 400.0):
        monkeypatch.setattr(trainer, "evaluator", Accurate(trainer.evaluator, steps))
        trainer.evaluate()
        found.append(length(trainer))
    assert found == [20, 20, 33, 50]
    trainer.save()
    trainer.close()
    assert length(toy.trainer(tmp_path, behaviour=behaviour)) == 50  # resumed
    name = "behaviour/path_length"
    assert [r[name] for r in toy.metrics(tmp_path) if name in r] == found[1:]


class Accurate:
    """An evaluator that has measured an accurate horizon."""

    def __init__(self, inner, accurate: float):
        self.inner, self.accurate = inner, accurate

    def __call__(self, *inputs):
        return []

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_an_environment_that_cannot_tell_its_state_keeps_what_was_seen_of_it(tmp_path, monkeypatch):
    # its first episode is unfinished at the checkpoint: without it there was nothing to replay
    long = lambda: toy.Plain(length=150)
    killed(toy.trainer(tmp_path, long), monkeypatch, 120)
    resumed = toy.trainer(tmp_path, long)
    assert resumed.agent_step == resumed.ring.num_steps == 100
    assert [len(episode) for episode in resumed.ring.finished()] == [50, 50]
    assert not any(episode.is_terminal.any() for episode in resumed.ring.finished())
    trainer = toy.finish(resumed)
    assert trainer.updates == 19 and trainer.ring.num_steps == 200


def test_a_window_longer_than_the_shortest_episode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"16 is longer than .* 10 agent .*--replay.length to 10"):
        toy.trainer(tmp_path, lambda: toy.Plain(length=10))


def test_a_replay_smaller_than_the_episodes_in_progress_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--replay.capacity 39 .*set it to at least 40"):
        toy.trainer(tmp_path, replay={"capacity": 39})


def test_old_episodes_leave_the_ring_and_the_disk(tmp_path):
    trainer = toy.finish(toy.trainer(tmp_path, checkpoint_keep=1, replay={"capacity": 60}))
    assert trainer.ring.num_steps <= 60
    files = {path.name for path in (tmp_path / "replay").iterdir()}
    assert files == {f"episode_{e.id:08d}.npz" for e in trainer.ring.finished()}


def test_acting_lags_behind_learning_by_eight_steps_at_most(tmp_path):
    first = lambda agent: np.array(jax.tree.leaves(agent)[0])
    acted, trainer = [], toy.trainer(tmp_path, checkpoint_every=10_000, log_every=10_000)
    past = [first(trainer.state.acting)]
    step = trainer._step

    def watched(agent):
        step(agent)
        lags = [np.array_equal(first(agent), old) for old in reversed(past)]
        acted.append(lags.index(True))
        past.append(first(trainer.state.acting))

    trainer._step = watched  # type: ignore[method-assign]
    toy.finish(trainer)
    assert 4 <= max(acted) < 8  # steps since those parameters were the newest


def test_a_run_goes_on_with_the_angles_that_it_began_with(tmp_path):
    class Turning(toy.Toy):
        layout = (("place", 0, 4, "position"), ("turn", 4, 5, "angle"))

    toy.finish(toy.trainer(tmp_path / "before", steps=100))
    for run, angles in (("before", ()), ("new", (4,))):
        trainer = toy.trainer(tmp_path / run, Turning, steps=120)
        assert trainer.observed.angles == trainer.state.agent.world.angles == angles
        toy.finish(trainer)
        kept = Checkpoints(tmp_path / run / "checkpoints").manifest()
        assert kept is not None and kept["observation"]["angles"] == list(angles)
