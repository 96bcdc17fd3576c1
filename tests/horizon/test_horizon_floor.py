from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from dm_control.rl.control import PhysicsError

import envs
from dreamer_h.horizon.recorded.excitation import Excited
from dreamer_h.horizon.recorded.record import Plan, record
from dreamer_h.horizon.recorded.recording import Recording
from dreamer_h.horizon.scoring.floor import (
    LEVELS,
    deviations,
    lyapunov,
    measured,
    replay,
    saturation,
    state_std,
)
from dreamer_h.horizon.scoring.report import against_floor
from dreamer_h.horizon.scoring.score import ask, benchmark, questions, score
from dreamer_h.horizon.simulator import Forecast
from dreamer_h.horizon.simulators.yardsticks import Persistence
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


def test_a_floor_of_another_version_is_not_taken(recording, bench, floor, tmp_path):
    with np.load(recording.folder / "floor.npz") as file:
        old = {name: file[name] for name in file.files if name != "version"}
    np.savez(tmp_path / "floor.npz", **old)

    def again():
        raise InterruptedError("measured again")

    with pytest.raises(InterruptedError):
        measured(again, replace(recording, folder=tmp_path), bench.far, bench.scale, jobs=1)


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


class Brittle(Doubling):
    """Breaks wherever it is beyond its bounds when it should step."""

    def step(self, action):
        if abs(self.x).max() > 1.0:
            self.x = np.full_like(self.x, np.nan)
            raise PhysicsError("broken")
        return super().step(action)


def test_a_displacement_that_breaks_the_physics_is_left_out():
    physics, start = Brittle(0.0, 0.05), {"x": np.array([0.5, 0.5])}
    noise = np.zeros((4, 2))
    noise[1], noise[2] = 0.2, 2.0
    found = replay(physics, start, np.zeros((4, 1)), noise=noise)
    # seen, but not gone on from
    np.testing.assert_allclose(found[:, 0], [0.5, 0.7, 2.7, 0.7])
    found = replay(physics, start, np.zeros((4, 1)), start=np.array([2.0, 0.0]))
    np.testing.assert_allclose(found[:, 0], 0.5)


def test_physics_that_breaks_all_the_same_stays_where_it_was():
    physics, start = Brittle(np.log(2) / 0.05, 0.05), {"x": np.array([0.3, 0.1])}
    found = replay(physics, start, np.zeros((4, 1)), noise=np.zeros((4, 2)))
    np.testing.assert_allclose(found[:, 0], [0.6, 1.2, 1.2, 1.2])


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


class Spun(Recording):
    """The same, but for whole turns of the pendulum."""

    def read(self, number):
        episode, moments = super().read(number)
        physics, rng, turned = MAKE(), np.random.default_rng(number), []
        for moment in moments:
            physics.restore(moment)
            physics.nudge(np.array([2 * np.pi * rng.integers(-9, 10), 0.0]))
            turned.append(physics.moment())
        return episode, turned


def test_whole_turns_are_no_deviation(recording):
    std = state_std(MAKE, Spun(recording.folder, recording.manifest))
    np.testing.assert_allclose(std, state_std(MAKE, recording), rtol=1e-6)
    assert DmcPhysics("cheetah-run", 2).turns().nonzero()[0].tolist() == [2]  # its whole body


def test_the_deviation_of_an_angle_is_bounded(seed):
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.normal(scale=50, size=4000), rng.normal(scale=0.2, size=4000)] * 2, axis=1)
    turns = np.array([True, True, False, False])
    found = deviations(rows, turns)
    assert found[0] == pytest.approx(np.pi / 3**0.5, rel=0.05)
    assert found[1] == pytest.approx(found[3], rel=1e-3)
    np.testing.assert_allclose(found[2:], rows[:, 2:].std(axis=0))
    assert not deviations(np.full((5, 4), 3.0), turns).any()


def test_the_oracle_is_saturated_where_it_levels_off():
    steps = np.arange(1, 401)
    assert saturation(0.8 * (1 - np.exp(-steps / 20))) == (47, False)  # 20 ln 10 = 46.05
    assert saturation(np.minimum(steps / 100, 1.4)) == (100, False)
    for growing in (steps / 1000, np.sqrt(steps) / 100, 1e-3 * np.exp(steps / 100)):
        assert saturation(growing) == (400, True)
    assert saturation(steps / 380) == (380, False)  # late, but as wrong as the mean


def test_a_floor_that_is_not_exact_is_not_silent(bench, floor, recwarn):
    persistence = Persistence.fit(bench.recording.train, bench.scale)
    scored = score(ask(persistence, questions(bench)), bench)
    found = against_floor(scored, replace(bench, floor=floor))
    assert found is not None and found["exact"] == 0 and not recwarn.list
    assert isinstance(found["saturation"], int) and isinstance(found["saturation_censored"], bool)
    wrong = replace(floor, exact=floor.exact + 0.0125)
    with pytest.warns(UserWarning, match=r"by 0.0125 training deviations"):
        against_floor(scored, replace(bench, floor=wrong))
