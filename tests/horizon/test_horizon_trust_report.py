"""Signals of error, and what is said of how well they tell."""

from dataclasses import replace

import numpy as np
import pytest
import recorded

from dreamer_h.horizon.scoring.score import benchmark
from dreamer_h.horizon.simulators import offline
from dreamer_h.horizon.statistics import spearman
from dreamer_h.horizon.trust.calibrate import Doubted, calibrated, calibrated_alike, doubted
from dreamer_h.horizon.trust.detectors import FAR, SHRUNK, Watched, detectors, watched
from dreamer_h.horizon.trust.error_head import fit, foreseen
from dreamer_h.horizon.trust.report import _coverage, area, odd, rows, says, table, trust_report
from dreamer_h.horizon.trust.signals import signals
from dreamer_h.presets import preset, with_levels, with_settings

SETTINGS = ["world.ensemble=3", "world.residual=True"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return benchmark(recorded.driven(tmp_path_factory.mktemp("driven") / "data"), {})


@pytest.fixture(scope="module")
def levels(bench):
    config = with_settings(with_levels(preset("debug"), 2, "4"), SETTINGS)
    return offline.blank(bench.recording.train, (), config, seed=0)


def known(seed: int, windows: int = 60, horizon: int = 20) -> Doubted:
    """Errors that grow with the time, by a factor that the features tell."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(windows, 1, 4)) * np.ones((1, horizon, 1))
    size = np.exp(features[..., 0] - 2.0) * np.sqrt(np.arange(1, horizon + 1))
    error = size * np.exp(0.1 * rng.normal(size=size.shape))
    return Doubted(error, np.zeros_like(error), np.zeros((windows, horizon, 1)), features)


def test_a_head_foresees_errors_from_where_a_path_is_and_how_long_it_took():
    head, new = fit(known(0), seed=0), known(1)
    told = foreseen(head, new)
    assert told.shape == new.error.shape
    np.testing.assert_allclose(np.median(told / new.error), 1.0, atol=0.15)
    ranks = [spearman(told[:, h], new.error[:, h]) for h in (0, 9, 19)]
    assert min(ranks) > 0.8


def test_paths_that_are_not_finite_teach_nothing():
    found = known(0)
    found.error[3, 5:] = np.inf
    found.features[7] = np.nan
    assert np.isfinite(foreseen(fit(found, seed=0), known(1))).all()


def test_signals_are_numbers_for_every_window_and_step(bench, levels):
    found = doubted(levels, bench.far, bench.scale)
    head = fit(found, seed=0)
    told = signals(levels, found, bench.far, bench.scale, head, seed=0)
    assert set(told) == {"doubt", "spread", "error", "levels", "halves"}
    for name, values in told.items():
        assert values.shape == found.error.shape, name
        known = values[:, 3:] if name in ("levels", "halves") else values
        assert np.isfinite(known).all() and (known >= 0).all(), name
    assert (np.diff(told["doubt"], axis=1) > 0).all()
    for name in ("levels", "halves"):  # known at the end of a jump, until the next
        assert np.isnan(told[name][:, :3]).all() and told[name][:, 3:].all()
        assert not says(told[name], 3) and says(told[name], 4)
        np.testing.assert_array_equal(told[name][:, 3], told[name][:, 6])
        assert (told[name][:, 6] != told[name][:, 7]).all()
    flat = signals(levels.base, found, bench.far, bench.scale, head, seed=0)
    assert set(flat) == {"doubt", "spread", "error"}


def test_an_odd_share_is_improbable_and_a_usual_one_is_not():
    rng, wrong = np.random.default_rng(0), []
    for _ in range(400):
        calibration, test = np.sort(rng.random(100)), rng.random(100)
        radius = calibration[int(np.ceil(101 * 0.9)) - 1]
        wrong.append(odd(int((test <= radius).sum()), 100, 100) < 0.1)
    assert np.mean(wrong) < 0.12  # as often as it says, the shares being whole numbers
    assert odd(50, 100, 100) < 1e-6 and odd(100, 100, 100) < 0.1 and odd(90, 100, 100) > 0.5
    assert odd(5, 5, 8) == 1.0  # nothing was calibrated


def test_the_area_is_how_often_an_odd_window_has_the_larger_signal():
    usual, odd_ones = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    assert area(usual, odd_ones)["value"] == pytest.approx((0.5 + 1 + 3) / 6)
    assert area(odd_ones, odd_ones)["value"] == 0.5


def test_a_report_says_how_far_radii_hold_and_which_signal_ranks(bench, levels):
    report = trust_report(levels, bench, {"other": bench}, seed=0)
    assert list(report["coverage"]) == bench.horizons == list(report["rank"]["doubt"])
    for found in report["coverage"].values():
        assert 0 <= found["held"] <= 1 and 0 <= found["p"] <= 1 and found["radius"] > 0
    other = report["others"]["other"]
    assert other["coverage"] == report["coverage"]  # the same windows
    for name, areas in other["detection"].items():
        assert all(one["value"] == 0.5 for one in areas.values()), name
    made = rows(report, 3)
    assert {row["seed"] for row in made} == {3} and all("value" in row for row in made)
    names = {row["what"] for row in made}
    assert {"within_radius", "rank/levels", "within_radius/other", "auroc/spread/other"} < names
    assert {"within_one_radius", "within_one_radius/doubted_most"} < names
    assert {"auroc/residual/other", "auroc/beyond/other", "auroc/surprise/other"} < names
    text = table(report)
    assert "| rank correlation, halves |" in text and "| AUROC of error, other |" in text


def test_a_radius_that_follows_doubt_holds_where_it_is_large_too(levels):
    def drawn(seed: int) -> Doubted:
        """Errors as large as the root of their doubt."""
        rng = np.random.default_rng(seed)
        doubt = rng.exponential(size=(3000, 1))
        error = np.sqrt(doubt) * np.abs(rng.normal(size=(3000, 1)))
        return Doubted(error, doubt, np.zeros((3000, 1, 1)), np.zeros((3000, 1, 1)))

    known, new = drawn(0), drawn(1)
    held = lambda calibration: _coverage(calibration, new, 3000, [1])[1]
    scaled, alike = held(calibrated(levels, known)), held(calibrated_alike(known))
    for one in (scaled, alike):
        assert one["held"] == pytest.approx(0.9, abs=0.02)
    assert scaled["held_doubted"] == pytest.approx(0.9, abs=0.03)
    assert alike["held_doubted"] < 0.8


def test_windows_of_another_length_are_told_as_far_as_both_reach(bench, levels):
    short = {
        name: getattr(bench.far, name)[:, :2] for name in ("future_obs", "action", "future_reward")
    }
    other = replace(bench, far=replace(bench.far, **short))
    found = trust_report(levels, bench, {"short": other}, seed=0)["others"]["short"]["detection"]
    for name, areas in found.items():
        assert max(areas) == max(h for h in bench.horizons if h <= 2), name
    longer = trust_report(levels, other, {"long": bench}, seed=0)["others"]["long"]["detection"]
    assert longer.keys() == found.keys()


def test_another_world_is_told_by_what_is_seen_in_it(bench, levels):
    """The tenth of a deviation that every other observation is off is nothing that was imagined."""
    calibration = calibrated(levels, doubted(levels, bench.calibration, bench.scale))
    found = doubted(levels, bench.far, bench.scale)
    watch = lambda windows: watched(levels, windows, bench.scale, seed=0)
    before = watch(bench.calibration)
    judge = lambda windows, found: detectors(watch(windows), before, found, calibration)
    usual = judge(bench.far, found)
    assert set(usual) == {"residual", "drift", "beyond", "surprise"}
    off = np.where(np.arange(bench.far.horizon) % 2, 0.5, -0.5)[:, None] * bench.scale.std
    moved = replace(bench.far, future_obs=(bench.far.future_obs + off).astype(np.float32))
    other = judge(moved, doubted(levels, moved, bench.scale))
    for name in ("residual", "surprise"):
        assert usual[name].shape == found.error.shape
        assert area(usual[name][:, -1], other[name][:, -1])["value"] > 0.95, name
    assert (np.diff(usual["beyond"], axis=1) >= 0).all()


def test_errors_to_one_side_are_a_drift_and_larger_ones_are_a_residual(bench, levels):
    calibration = calibrated(levels, doubted(levels, bench.calibration, bench.scale))
    rng = np.random.default_rng(0)
    sizes = np.array([0.1, 1.0, 5.0])  # of three entries
    noise = lambda: rng.normal(size=(80, 40, 3)) * sizes
    error = np.ones((80, 40))
    found = Doubted(error, 0 * error, np.zeros((80, 40, 1)), np.zeros((80, 40, 1)))
    before, after = Watched(noise(), None), noise()
    told = lambda away: detectors(Watched(away, None), before, found, calibration)
    usual, leaning = told(after), told(noise() + 0.8 * sizes * np.array([1.0, 0.0, 0.0]))
    wild = told(1.5 * noise())
    areas = lambda odd: {
        name: area(usual[name][:, -1], odd[name][:, -1])["value"] for name in ("drift", "residual")
    }
    assert areas(leaning)["drift"] > 0.95 > 0.65 > areas(leaning)["residual"]
    assert areas(wild)["residual"] > 0.95 > 0.8 > areas(wild)["drift"]
    # a step that could not be foreseen is an error to that side, and no unit for others
    before.away[3, 5, 1] = FAR
    blind = told(after)["drift"]
    np.testing.assert_allclose(np.median(blind[:, -1] / usual["drift"][:, -1]), 1.0, atol=0.1)
    before.away[3, 5, 1] = 0.1
    usual = told(after)
    # by hand, after ten steps
    size = np.sqrt(np.square(before.away).mean((0, 1)))
    theirs, ours = (np.tanh(one[:, :10] / size).mean(1) for one in (before.away, after))
    spread = np.cov(theirs.T)
    spread = (1 - SHRUNK) * spread + SHRUNK * np.diag(np.diag(spread))
    far = ours - theirs.mean(0)
    wanted = [one @ np.linalg.inv(spread) @ one for one in far]
    np.testing.assert_allclose(usual["drift"][:, 9], wanted, rtol=1e-6)
