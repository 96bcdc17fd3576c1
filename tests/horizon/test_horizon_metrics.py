import itertools

import numpy as np
import pytest
import recorded

from dreamer_h.horizon.recorded.layout import Field
from dreamer_h.horizon.recorded.scale import Scale, wrapped
from dreamer_h.horizon.recorded.windows import Windows, choose
from dreamer_h.horizon.scoring.metrics import crps, energy_score, errors, within
from dreamer_h.horizon.scoring.report import report
from dreamer_h.horizon.scoring.score import ask, benchmark, questions, score
from dreamer_h.horizon.scoring.trust import nominal
from dreamer_h.horizon.simulator import Forecast
from dreamer_h.horizon.simulators.yardsticks import Climatology, Mean
from dreamer_h.replay.episode import Episode


def slow_crps(samples, truth):
    """Ferro (2014), in words."""
    pairs = [abs(a - b) for a, b in itertools.permutations(samples, 2)]
    return np.mean(np.abs(samples - truth)) - np.mean(pairs) / 2


@pytest.mark.parametrize("count", [2, 3, 19])
def test_the_crps_is_that_of_all_pairs(count, seed):
    rng = np.random.default_rng(seed)
    samples, truth = rng.normal(size=(count, 4, 2)), rng.normal(size=(4, 2))
    found = crps(samples - truth, np.zeros(2))
    wanted = [[slow_crps(samples[:, w, k], truth[w, k]) for k in range(2)] for w in range(4)]
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_on_a_circle_the_crps_takes_the_short_way(seed):
    rng = np.random.default_rng(seed)
    samples, truth = rng.uniform(-0.3, 0.3, (7, 5, 1)), rng.uniform(-0.3, 0.3, (5, 1))
    period = np.array([2 * np.pi])
    line = crps(samples - truth, np.zeros(1))
    turned = crps(wrapped(samples + np.pi - (truth + np.pi)), period)
    np.testing.assert_allclose(turned, line, rtol=1e-9)
    # 3.1 and -3.1 are neighbours
    near = crps(wrapped(np.array([[[3.1]], [[-3.1]]]) - np.pi), period)
    assert near.max() < 0.05


def test_the_energy_score_of_one_entry_is_the_crps(seed):
    away = np.random.default_rng(seed).normal(size=(9, 6, 1))
    line = np.zeros(1)
    np.testing.assert_allclose(energy_score(away, line), crps(away, line)[..., 0], rtol=1e-9)


def test_a_fair_crps_does_not_depend_on_the_number_of_samples(seed):
    rng = np.random.default_rng(seed)
    few, many = (crps(rng.normal(size=(n, 20_000, 1)), np.zeros(1)).mean() for n in (2, 30))
    # the truth is zero here: E|x| - E|x - x'| / 2 = 0.798 - 0.564
    assert few == pytest.approx(0.234, abs=0.02) and many == pytest.approx(0.234, abs=0.02)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return benchmark(recorded.stationary(tmp_path_factory.mktemp("still") / "data", count=240), {})


def test_the_mean_scores_one_and_another_window_root_two(bench):
    answers = ask(Mean.fit(bench.recording.train, bench.scale), questions(bench))
    mean = score(answers, bench)
    # 80 windows x 64 steps x 3 entries, all independent
    assert np.sqrt((mean.far["nrmse"] ** 2).mean()) == pytest.approx(1.0, abs=0.03)
    shuffled = Forecast(np.roll(bench.far.future_obs, 1, axis=0)[None], None)
    found = errors(shuffled, bench.far, bench.scale)
    assert np.sqrt((found["nrmse"] ** 2).mean()) == pytest.approx(2**0.5, abs=0.04)


def test_draws_of_the_truth_s_own_distribution_cover_nine_tenths(bench):
    climate = Climatology.fit(bench.recording.train, bench.scale)
    found = score(ask(climate, questions(bench)), bench)
    assert nominal(found.samples) == 0.9
    assert found.far["covered"].mean() == pytest.approx(0.9, abs=0.01)
    said = report("climate", found, {"climatology": found}, bench)
    ratio = [entry["value"] for entry in said["metrics"]["spread_skill"].values()]
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.05)
    entry = said["metrics"]["energy_distance"][8]
    assert entry["lo"] < 0.03 and abs(entry["value"]) < 0.06  # the distribution is the right one


def test_what_is_not_finite_counts_as_infinitely_wrong(bench):
    obs = np.zeros((3, len(bench.far), bench.far.horizon, 3))
    obs[1, 4, 7, 0] = np.nan
    found = errors(Forecast(obs, None), bench.far, bench.scale)
    assert found["finite"][4, 7] == 0 and np.isinf(found["crps"][4, 7])
    assert np.isfinite(found["crps"]).sum() == found["crps"].size - 1


def test_entries_that_never_move_have_no_error():
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    obs[:, 1] = 7.0
    episode = Episode(obs, np.zeros((49, 1)), np.zeros(50), np.zeros(50, bool), 0)
    scale = Scale.fit([episode], (Field("all", 0, 3, "position"),))
    assert scale.kept.tolist() == [0, 2]
    still = Episode(obs * 0, np.zeros((49, 1)), np.zeros(50), np.zeros(50, bool), 0)
    with pytest.raises(ValueError, match="ever changes"):
        Scale.fit([still], (Field("all", 0, 3, "position"),))


def test_angles_are_measured_the_short_way():
    rng = np.random.default_rng(0)
    obs = (np.pi + 0.2 * rng.normal(size=(500, 1))).astype(np.float32)  # around the seam
    obs = wrapped(obs) + 2 * np.pi * rng.integers(-3, 4, obs.shape)
    episode = Episode(obs, np.zeros((499, 1)), np.zeros(500), np.zeros(500, bool), 0)
    scale = Scale.fit([episode], (Field("turn", 0, 1, "angle"),))
    assert scale.std[0] == pytest.approx(0.2, rel=0.1)
    assert abs(scale.difference(np.array([np.pi - 0.1]), np.array([-np.pi + 0.1]))) < 1.1


def turning(samples, truth):
    """Errors of samples (S, W) of an angle (W,), of which training showed every value; its std."""
    obs = np.linspace(-np.pi, np.pi, 500, endpoint=False).reshape(-1, 1).astype(np.float32)
    episode = Episode(obs, np.zeros((499, 1)), np.zeros(500), np.zeros(500, bool), 0)
    scale = Scale.fit([episode], (Field("turn", 0, 1, "angle"),))
    count = len(truth)
    windows = Windows(
        np.arange(count), np.zeros(count, int), np.zeros((count, 17, 1)), np.zeros((count, 16, 1)),
        np.zeros((count, 1, 1)), truth.reshape(-1, 1, 1), np.zeros((count, 1)), [],
    )  # fmt: skip
    found = errors(Forecast(samples[:, :, None, None], None), windows, scale)
    return {name: value[:, 0] for name, value in found.items()}, scale.std[0]


def test_on_a_circle_nothing_depends_on_where_it_is_cut(seed):
    rng = np.random.default_rng(seed)
    samples, truth = rng.normal(scale=0.3, size=(19, 50)), rng.normal(scale=0.3, size=50)
    here, std = turning(samples, truth)
    assert here["energy"] == pytest.approx(here["crps"])  # of a single entry they are the same
    np.testing.assert_allclose(here["spread"] * std**2, samples.var(axis=0, ddof=1), rtol=1e-6)
    for turn in (1.0, np.pi, 4.0):
        there, _ = turning(wrapped(samples + turn), wrapped(truth + turn))
        for name in ("energy", "crps", "covered", "hit", "spread", "width"):
            np.testing.assert_allclose(there[name], here[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_samples_on_the_other_side_of_the_circle_do_not_cover(seed):
    rng = np.random.default_rng(seed)
    samples = wrapped(np.pi + rng.normal(scale=0.3, size=(19, 200)))
    found, std = turning(samples, rng.normal(scale=0.1, size=200))
    assert not found["covered"].any() and not found["hit"].any()
    assert found["spread"].mean() * std**2 == pytest.approx(0.09, rel=0.2)
    assert found["width"].max() * std < 3


def test_the_energy_score_of_one_angle_is_the_crps(seed):
    samples = np.random.default_rng(seed).uniform(-np.pi, np.pi, (19, 50))
    found, _ = turning(samples, np.zeros(50))
    np.testing.assert_allclose(found["energy"], found["crps"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1.5, 20.0])
def test_on_a_circle_nine_tenths_are_covered_however_wide(scale, seed):
    values = np.random.default_rng(seed).normal(scale=scale, size=(20, 8000))
    found, _ = turning(wrapped(values[1:]), wrapped(values[0]))
    assert found["covered"].mean() == pytest.approx(0.9, abs=0.02)


def test_ties_are_no_hits(seed):
    touch = np.random.default_rng(seed).random((20, 20_000)) < 0.1  # of forces mostly 0
    found = within(touch[1:] * 1.0, touch[0] * 1.0, np.random.default_rng(0))
    assert found.mean() == pytest.approx(0.9, abs=0.015)
    still = within(np.zeros((19, 20_000)), np.zeros(20_000), np.random.default_rng(0))
    assert still.mean() == pytest.approx(0.9, abs=0.015)


def test_windows_begin_at_ticks_behind_their_context(bench):
    windows = choose(bench.recording, "test", 32, 3)
    assert (windows.start % 8 == 0).all() and windows.start.min() >= 16
    assert (windows.start + 32 <= 120).all()
    episode = bench.recording.episode(int(windows.episode[5]))
    start = int(windows.start[5])
    np.testing.assert_array_equal(windows.context_obs[5, -1], episode.obs[start])
    np.testing.assert_array_equal(windows.future_obs[5, 0], episode.obs[start + 1])
    np.testing.assert_array_equal(windows.action[5, 0], episode.action[start])
    assert windows.future_reward[5, 0] == episode.reward[start + 1]
