"""The levels of a simulator next to each other, and simulators pooled."""

import json

import numpy as np
import pytest
import recorded
import tiny

from dreamer_h.horizon.levels import figures as level_figures
from dreamer_h.horizon.levels.report import level_report
from dreamer_h.horizon.levels.views import views
from dreamer_h.horizon.scoring.score import SAMPLES, benchmark
from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.simulators import offline
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.simulators.pooled import Pooled
from dreamer_h.horizon.simulators.yardsticks import YARDSTICKS
from dreamer_h.presets import preset, with_levels, with_settings
from dreamer_h.world.upper.hierarchy import Hierarchy

STRIDE, SAMPLED = 4, 3


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return benchmark(recorded.driven(tmp_path_factory.mktemp("driven") / "data"), {})


@pytest.fixture(scope="module")
def world(bench):
    config = with_levels(preset("debug"), 2, str(STRIDE))
    config = with_settings(config, ["world.residual=true"])
    return tiny.weights(
        lambda: offline.blank(bench.recording.train, (), config, seed=0),
        scale=0.3,
    )


def test_from_true_anchors_every_segment_begins_where_reality_was(bench, world):
    assert isinstance(world, Hierarchy)
    seen = views(world, bench.far, SAMPLED)
    count, horizon = len(bench.far), bench.far.horizon
    assert seen.steps.shape == seen.filled.shape == (SAMPLED, count, horizon, 3)
    assert (
        seen.waypoints[0].shape == seen.true_jumps.shape == (SAMPLED, count, horizon // STRIDE, 3)
    )
    # the network adds little to what it carries: the first filled step stays near the true anchor
    truth = np.concatenate([bench.far.context_obs[:, -1:], bench.far.future_obs], axis=1)
    anchors = truth[:, :-STRIDE:STRIDE]
    near = np.abs(seen.true_filled[:, :, ::STRIDE] - anchors).mean()
    far = np.abs(seen.true_filled[:, :, ::STRIDE] - np.roll(anchors, 5, axis=1)).mean()
    assert near < 0.5 * far
    # the first segment of all has the same start either way
    spread = np.abs(seen.filled[:, :, 0].mean(0) - seen.true_filled[:, :, 0].mean(0)).mean()
    assert spread < 0.2


def test_the_report_says_what_each_level_is_worth(bench, world):
    assert isinstance(world, Hierarchy)
    found = json.loads(json.dumps(level_report(world, bench.far, bench.scale, 0.05, samples=3)))
    steps = list(range(STRIDE, bench.far.horizon + 1, STRIDE))
    assert found["matched"]["level1"]["steps"] == steps
    assert found["matched"]["level1"]["applications"] == list(range(1, len(steps) + 1))
    assert len(found["phase"]["true"]) == len(found["phase"]["predicted"]) == STRIDE
    assert set(found["two_by_two"]) == {
        "steps_from_true", "jump_from_true", "steps_from_predicted", "jump_from_predicted"
    }  # fmt: skip
    gain = 1 - found["jump_gain"]["value"]
    assert gain > 0 and found["jump_gain"]["lo"] <= found["jump_gain"]["hi"]
    assert all(1 <= p <= 5 for p in found["macro"]["perplexity"])
    assert found["macro"]["jumps"] == len(bench.far) * len(steps)
    assert -1 <= found["consistency"]["rank_correlation"] <= 1
    assert found["cost"]["cells"] == {
        "steps": bench.far.horizon, "jumps": len(steps), "jumps_filled": len(steps) + STRIDE
    }  # fmt: skip
    assert found["cost"]["ms_per_second/1"]["steps"] > 0
    assert "| jump gain |" in level_figures.table(found)
    assert len(level_figures.figure(found, "levels").axes) == 4


def test_pooled_simulators_share_the_samples(bench, world):
    members = (LatentSimulator(world), YARDSTICKS["climatology"].fit(
        bench.recording.train, bench.scale))  # fmt: skip
    pooled = Pooled(members)
    context = Context(bench.far.context_obs[:2], bench.far.context_action[:2])
    action = bench.far.action[:2]
    found = pooled.imagine(pooled.start(context, seed=0), action, SAMPLES, seed=0)
    assert found.obs.shape[0] == SAMPLES
    own = members[0].imagine(members[0].start(context, seed=0), action, 10, seed=0)
    np.testing.assert_array_equal(found.obs[:10], own.obs)
    with pytest.raises(ValueError, match="do not reach for 2"):
        pooled.imagine(pooled.start(context, seed=0), action, 1, seed=0)
