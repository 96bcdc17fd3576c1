import numpy as np
import pytest

from dreamer_h.horizon.scoring import trust
from dreamer_h.horizon.scoring.metrics import within
from dreamer_h.horizon.statistics import STATISTICS, interval, iqm, mean, resamples


def test_the_data_itself_is_the_first_resample(seed):
    values = np.random.default_rng(seed).normal(size=40)
    counts = resamples(np.arange(40))
    ranked = np.sort(values)
    assert mean(values, counts)[0] == pytest.approx(values.mean())
    assert STATISTICS["rms"](values, counts)[0] == pytest.approx(np.sqrt((values**2).mean()))
    assert STATISTICS["median"](values, counts)[0] == ranked[19]
    assert STATISTICS["q90"](values, counts)[0] == ranked[35]
    assert iqm(values, counts)[0] == pytest.approx(ranked[10:30].mean())


def test_a_resample_is_a_choice_of_whole_episodes():
    episode = np.repeat(np.arange(7), 3)
    counts = resamples(episode, draws=50)[1:].reshape(50, 7, 3)
    assert (counts == counts[:, :, :1]).all() and (counts[:, :, 0].sum(axis=1) == 7).all()


def test_windows_of_one_episode_are_not_independent(seed):
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.normal(size=30), 10)
    apart, together = (
        interval(mean(values, resamples(episode)))
        for episode in (np.arange(300), np.repeat(np.arange(30), 10))
    )
    assert together["hi"] - together["lo"] > 2 * (apart["hi"] - apart["lo"])


def test_the_interval_covers_the_mean_about_as_often_as_it_says(seed):
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(200):
        found = interval(mean(rng.normal(size=60), resamples(np.arange(60), draws=300)))
        hits += found["lo"] < 0 < found["hi"]
    assert 175 <= hits <= 199  # 190 expected; percentile intervals of 60 are a little short


def test_an_infinite_error_is_not_hidden():
    values = np.array([1.0, 2.0, np.inf, 3.0])
    counts = resamples(np.arange(4), draws=20)
    assert np.isinf(mean(values, counts)[0]) and STATISTICS["median"](values, counts)[0] == 2.0
    assert interval(mean(values, counts))["value"] == np.inf


def test_the_conformal_radius_holds_for_nine_of_ten_new_windows(seed):
    rng = np.random.default_rng(seed)
    inside = []
    for _ in range(300):
        scores = rng.exponential(size=(101, 1))
        inside.append(scores[100, 0] <= trust.conformal_radius(scores[:100])[0])
    assert 0.84 < np.mean(inside) < 0.97
    assert np.isinf(trust.conformal_radius(rng.exponential(size=(8, 3)))).all()  # too few to say


def test_the_radius_scatters_with_the_calibration_windows(seed):
    scores = np.random.default_rng(seed).exponential(size=(100, 1))
    radii = trust.resampled_radii(scores, np.arange(100))
    low, high = np.percentile(radii, (2.5, 97.5))
    assert low < trust.conformal_radius(scores)[0] < high
    assert np.log(10) == pytest.approx((low + high) / 2, abs=1.2)  # where one of ten is beyond


def test_trust_ends_at_the_first_gap():
    assert trust.first_failure(np.array([True, True, False, True])) == 2
    assert trust.first_failure(np.array([True, True])) == 2
    assert trust.first_failure(np.array([False, True])) == 0


def test_the_test_of_coverage_passes_what_is_calibrated_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    good, low, high = (rng.random((200, 200)) < share for share in (0.9, 0.7, 1.1))
    assert trust.calibrated(good, 0.9).mean() > 0.95
    assert trust.calibrated(low, 0.9).mean() < 0.1
    assert not trust.calibrated(high, 0.9).any()  # 200 of 200: much too wide
    assert trust.nominal(19) == 0.9


def test_what_is_calibrated_passes_at_all_steps_together():
    rng, passed = np.random.default_rng(0), 0
    for _ in range(100):
        values = rng.standard_normal((20, 100, 400), dtype=np.float32)
        passed += trust.calibrated(within(values[1:], values[0], rng), 0.9).all()
    assert passed >= 95
    for _ in range(3):
        values = rng.normal(size=(20, 100, 400))
        assert not trust.calibrated(within(values[1:] / 2, values[0], rng), 0.9)[0]  # too sure


def test_skill_needs_to_beat_every_yardstick(seed):
    rng = np.random.default_rng(seed)
    square = rng.exponential(size=(80, 3)) * [0.1, 0.5, 1.0]
    others = {"mean": np.ones((80, 3)), "linear": np.full((80, 3), 0.3)}
    counts = resamples(np.arange(80))
    assert trust.skilful(square, others, counts).tolist() == [True, False, False]
