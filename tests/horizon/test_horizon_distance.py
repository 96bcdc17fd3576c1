import numpy as np
import pytest

from dreamer_h.horizon.scoring.distance import energy_distance
from dreamer_h.horizon.statistics import interval, resamples

LINE = np.zeros(3)


def wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def clouds(seed, *, shift=0.0, windows=100):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(19, windows, 3)), rng.normal(size=(windows, 3)) + shift


def test_it_sees_a_shift_and_nothing_where_there_is_none(seed):
    counts = np.ones((1, 600))
    samples, truth = clouds(seed, windows=600)
    assert abs(energy_distance(samples, truth, LINE, counts)[0]) < 0.05
    assert energy_distance(samples, truth + 1.0, LINE, counts)[0] > 0.2


def test_it_is_the_mean_over_pairs_of_different_windows():
    samples, truth = np.array([[[0.0], [1.0]]]), np.array([[3.0], [5.0]])
    found = energy_distance(samples, truth, np.zeros(1), np.ones((1, 2)))
    # between 0 and 5, 1 and 3; within 0 and 1, 3 and 5
    assert found[0] == pytest.approx(2 * (5 + 2) / 2 - 1 - 2)


def test_windows_that_are_drawn_twice_do_not_count_as_near(seed):
    samples, truth = clouds(seed)
    found = energy_distance(samples, truth, LINE, resamples(np.arange(100)))
    assert abs(found[1:].mean() - found[0]) < 0.01  # with pairs of a window and itself it is more
    entry = interval(found)
    assert entry["lo"] < entry["value"] < entry["hi"]


def test_it_takes_the_short_way(seed):
    rng, counts = np.random.default_rng(seed), np.ones((1, 600))
    samples, truth = rng.normal(scale=0.3, size=(5, 600, 1)), rng.normal(scale=0.3, size=(600, 1))
    period = np.array([2 * np.pi])
    turned = wrapped(samples + np.pi)
    assert abs(energy_distance(turned, truth + np.pi, period, counts)[0]) < 0.05
    assert energy_distance(turned, truth, period, counts)[0] > 4  # nearly 2 pi


def test_what_is_not_finite_is_infinitely_far(seed):
    samples, truth = clouds(seed)
    samples[0, 0, 0] = np.nan
    assert np.isinf(energy_distance(samples, truth, LINE, np.ones((2, 100)))).all()
