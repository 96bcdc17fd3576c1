import numpy as np
import pytest
import tiny

from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.train.attainment import attainment, brier, calibration_error
from dreamer_h.train.evaluate import Episode
from dreamer_h.train.gap import promised_and_paid
from dreamer_h.train.state import Agent, init_agent

K = 2
CONFIG = Config(
    levels=2, strides=str(K), world=tiny.WORLD, behaviour=tiny.BEHAVIOUR,
    jump=JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8),
    replay=ReplayConfig(batch=2, length=8),
)  # fmt: skip


@pytest.fixture(scope="module")
def agent() -> Agent:
    return tiny.weights(lambda: init_agent(tiny.STATE, tiny.ACTION, CONFIG))


def episode(steps: int, sampled: bool = True) -> Episode:
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    anchor = tiny.WORLD.groups * tiny.WORLD.classes
    return Episode(
        sampled, normal(steps + 1, 3), np.tanh(normal(steps, 2)), normal(steps + 1), None,
        normal(steps, anchor),
    )  # fmt: skip


def test_attainment_is_of_whole_segments_of_sampled_episodes(agent):
    assert attainment(agent, [episode(1), episode(9, sampled=False)], 0.3) == {}
    found = attainment(agent, [episode(9), episode(9, sampled=False)], 0.3)
    assert {name.removeprefix("attained/") for name in found} == {
        "real", "simulated", "oracle_simulated", "foretold", "brier", "calibration_error"
    }  # fmt: skip
    assert all(0 <= value <= 1 for value in found.values())
    everywhere = attainment(agent, [episode(9)], 1e9)
    assert all(everywhere[f"attained/{name}"] == 1 for name in ("real", "simulated"))


def test_a_manager_promises_a_return_of_its_own(agent):
    found = promised_and_paid(agent, [episode(40)], 10.0)
    assert found.keys() == {"imagined", "manager", "real"}
    assert np.all(np.isfinite(list(found.values())))


def test_calibrated_probabilities_have_no_calibration_error():
    rng = np.random.default_rng(0)
    told = rng.uniform(size=20_000)
    happened = rng.uniform(size=len(told)) < told
    assert calibration_error(told, happened) < 0.02
    assert brier(told, happened) == pytest.approx(1 / 6, abs=0.01)  # of E[p (1 - p)]
    assert calibration_error(np.full(100, 0.9), np.zeros(100, bool)) == pytest.approx(0.9)
