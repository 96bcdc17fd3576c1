import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.horizon.recorded.layout import Field
from dreamer_h.replay import episode as replay
from dreamer_h.train.evaluation import fidelity
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.world.world import World

LAYOUT = (Field("obs", 0, tiny.OBS, "other"),)


@pytest.fixture(scope="module")
def world():
    return tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)))


def episode(length, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    obs = (scale * rng.normal(size=(length + 1, tiny.OBS))).astype(np.float32)
    action = rng.uniform(-1, 1, (length, tiny.ACTION)).astype(np.float32)
    return Episode(False, obs, action, np.zeros(length + 1, np.float32), None)


def replayed(length, scale=1.0):
    e = episode(length, scale)
    return replay.Episode(e.obs, e.action, e.reward, np.zeros(length + 1, bool), 0)


def test_curves_reach_as_far_as_half_of_the_episodes(world):
    played = [episode(40, seed=1), episode(30, seed=2), episode(17, seed=3)]
    found = fidelity.measure(world, played, [replayed(60)], LAYOUT)
    assert found is not None and found["nrmse"].shape == (8,)  # 16 of context, and 8 of the table
    named = fidelity.scalars(found)
    assert named["horizon/nrmse/h8"] == pytest.approx(float(found["nrmse"][7]))
    assert "horizon/trusted" not in named  # two windows say nothing of nine in ten


def test_ten_episodes_have_a_trusted_horizon(world):
    played = [episode(30, seed=seed) for seed in range(10)]
    found = fidelity.measure(world, played, [replayed(60)], LAYOUT)
    assert found is not None and fidelity.scalars(found)["horizon/trusted"] == 0  # random weights


def test_a_few_long_episodes_do_not_cost_the_radius(world):
    played = [episode(40 if seed < 8 else 30, seed=seed) for seed in range(12)]
    found = fidelity.measure(world, played, [replayed(60)], LAYOUT)
    assert found is not None and found["nrmse"].shape == (8,)
    assert "horizon/trusted" in fidelity.scalars(found)


@pytest.mark.parametrize("played, remembered", [
    ([episode(40)], []),
    ([episode(16)], [replayed(40)]),
    ([], [replayed(40)]),
    ([episode(40, 0.0)], [replayed(40, 0.0)]),
])  # fmt: skip
def test_where_nothing_can_be_said_the_run_goes_on(world, played, remembered):
    assert fidelity.measure(world, played, remembered, LAYOUT) is None
