"""A run whose simulator has levels, from the command's config to its last record."""

import json

import numpy as np
import pytest
import toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer_h.fields import flatten
from dreamer_h.train.checkpoints.load import load_agent
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.evaluation.openloop import open_loop
from dreamer_h.world.upper.hierarchy import Hierarchy


@pytest.mark.slow
def test_a_run_with_two_levels_trains_saves_and_comes_back(tmp_path):
    trainer = toy.trainer(
        tmp_path, levels=2, strides="4", replay={"length": 8, "batch": 4}, steps=160, prefill=40,
        video=True,
    )  # fmt: skip
    toy.finish(trainer)
    (tmp_path / "config.json").write_text(json.dumps(flatten(trainer.config)))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {name: value for record in records for name, value in record.items()}
    for name in ("obs", "code", "selffed", "dyn"):
        assert np.isfinite(found[f"world/level1/{name}"]), name
    assert found["train/skipped"] == 0 and np.isfinite(found["world/arrive"])
    for name in ("manager/policy", "manager/prior_nats", "worker/policy", "worker/attained"):
        assert np.isfinite(found[f"behaviour/{name}"]), name
    assert 0 < found["behaviour/worker/attained_real"] <= 1  # of real segments
    assert 0 <= found["eval/attained/real"] <= 1
    assert 0 < found["eval/manager/entropy"] <= 8 * np.log(5)
    assert found["eval/manager/prior_nats"] > 0
    gap = found["eval/return_manager"] - found["eval/return_real"]
    assert found["eval/gap_manager"] == pytest.approx(gap, abs=1e-4)
    shown = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload().Tags()["images"]
    assert {"eval/macro_actions", "eval/subgoals"} <= set(shown)
    assert all(np.isfinite(found[f"eval/return_{who}"]) for who in ("manager", "imagined", "real"))
    config, agent, manifest = load_agent(tmp_path)
    assert config.levels == 2 and isinstance(agent.world, Hierarchy)
    # measured once the run is done, and kept
    assert [one["level"] for one in manifest["crossovers"]] == [1]


@pytest.mark.slow
def test_a_run_of_images_trains_and_imagines_with_two_levels(tmp_path):
    trainer = toy.trainer(
        tmp_path, toy.Images, levels=2, strides="4", replay={"length": 8, "batch": 4},
        steps=160, prefill=40, obs="pixels", size=16,
    )  # fmt: skip
    toy.finish(trainer)
    world = trainer.state.acting.world
    assert isinstance(world, Hierarchy) and world.two_frames and not trainer.crossovers
    episode = next(trainer.ring.finished())
    played = Episode(False, episode.obs, episode.action, episode.reward, None)
    loop = open_loop(world, played, [], 1.0, context=4, length=12, crossovers=(4,))
    assert loop.imagined.shape == (8, 13, 16, 16, 3) and np.isfinite(loop.imagined).all()
    assert [list(mark.steps) for mark in loop.marks] == [[4, 8, 12]]
    assert loop.marks[0].obs.shape == (8, 3, 16, 16, 3)
