from functools import partial

import numpy as np
import pytest

import envs
from dreamer_h.horizon.excitation import Excited
from dreamer_h.horizon.floor import LEVELS, lyapunov, measured, state_std
from dreamer_h.horizon.record import Plan, record
from dreamer_h.horizon.score import benchmark, questions, score
from dreamer_h.horizon.simulator import Forecast
from envs.physics import DmcPhysics

TASK = "pendulum-swingup"
MAKE = partial(DmcPhysics, TASK, 10)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    plan = Plan(
        TASK, "excited", 36, 0, 8, 10, partial(envs.make, TASK, action_repeat=10),
        partial(Excited, 1),
    )  # fmt: skip
    return record(plan, tmp_path_factory.mktemp("floor") / "data", jobs=1)


@pytest.fixture(scope="module")
def bench(recording):
    return benchmark(recording, {})


@pytest.fixture(scope="module")
def floor(recording, bench):
    return measured(MAKE, recording, bench.far, bench.scale, jobs=1)


def test_physics_restarted_is_never_wrong(floor):
    assert (floor.exact == 0).all()


def test_rounding_costs_little_where_nothing_is_chaotic(floor):
    assert 0 < floor.float32.max() < 1e-3
    assert np.median(floor.lyapunov) < 2.0  # 1/s; a driven pendulum


def test_more_noise_is_more_wrong(floor):
    first = np.median(floor.noise[:, :, 0], axis=1)
    assert (np.diff(first) > 0).all()
    # a displacement of one deviation in every coordinate is an error of about one
    assert 0.3 < first[-1] / LEVELS[-1] < 3


def test_the_oracle_is_as_wrong_after_one_step_as_it_was_asked(floor):
    root = lambda errors: np.sqrt((errors**2).mean(axis=0))
    for wanted in (2e-3, 0.02, 0.2):
        assert floor.oracle(wanted, root)[0] == pytest.approx(wanted, rel=1e-6)
    assert floor.oracle(1e-9, root) is None and floor.oracle(50.0, root) is None
    # between two measured levels nothing else than between them
    low, high = root(floor.noise[3]), root(floor.noise[4])
    between = floor.oracle(float(np.sqrt(low[0] * high[0])), root)
    assert (between >= np.minimum(low, high) - 1e-12).all()
    assert (between <= np.maximum(low, high) + 1e-12).all()


def test_the_floor_is_measured_once(recording, bench, floor):
    def never():
        raise AssertionError("measured again")

    again = measured(never, recording, bench.far, bench.scale, jobs=1)
    np.testing.assert_array_equal(again.noise, floor.noise)


def test_physics_as_the_model_scores_nothing(bench):
    answers = {}
    for name, windows in questions(bench).items():
        physics, futures = MAKE(), []
        for moment, actions in zip(windows.moments, windows.action, strict=True):
            physics.restore(moment)
            futures.append([physics.step(action) for action in actions])
        obs = np.array([[obs for obs, _ in future] for future in futures])
        reward = np.array([[reward for _, reward in future] for future in futures])
        answers[name] = Forecast(obs[None], reward[None])
    found = score(answers, bench)
    for part in (found.far, found.near, found.calibration):
        assert part["nrmse"].max() == 0 and part["crps"].max() == 0
        assert part["return"].max() < 1e-4  # rewards are recorded in float32
    assert np.median(found.shuffled["nrmse"]) > 0.05  # the actions matter


class Doubling:
    """x' = exp(rate dt) x: its exponent is known."""

    def __init__(self, rate, dt):
        self.factor = np.exp(rate * dt)

    def restore(self, moment):
        self.x = moment["x"].copy()

    def moment(self):
        return {"x": self.x.copy()}

    def step(self, action):
        self.x = self.x * self.factor
        return self.x, 0.0

    def place(self):
        return self.x

    def displacement(self, since):
        return self.x - since

    def nudge(self, by):
        self.x = self.x + by
        return self.x


@pytest.mark.parametrize("rate", [-0.5, 0.0, 1.5])
def test_the_exponent_of_a_known_system(rate):
    physics = Doubling(rate, 0.05)
    start = {"x": np.array([0.3, -0.2])}
    found = lyapunov(
        physics, start, np.zeros((100, 1)), np.array([1.0, 2.0]), 0.05, np.random.default_rng(0)
    )
    assert found == pytest.approx(rate, abs=0.02)


def test_state_deviations_are_those_of_the_recording(recording):
    std = state_std(MAKE, recording)
    assert std.shape == (2,) and (std > 0.1).all()
