"""Radii that hold as often as they say, and the doubt up to which a path is relied upon."""

import json
from dataclasses import fields, replace

import jax.numpy as jnp
import numpy as np
import pytest
import recorded

from dreamer_h.horizon.scoring.score import benchmark
from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.simulators import offline
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.trust.calibrate import (
    NO_LIMIT,
    Doubted,
    calibrated,
    doubted,
    doubted_jumps,
    trusted_doubt,
)
from dreamer_h.presets import preset, with_levels, with_settings
from dreamer_h.simulated.calibration import as_json, from_json

W, H = 400, 6
SETTINGS = ["world.ensemble=3", "world.residual=True"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return benchmark(recorded.driven(tmp_path_factory.mktemp("driven") / "data"), {})


@pytest.fixture(scope="module")
def worlds(bench):
    config = with_settings(preset("debug"), SETTINGS)
    doubting = offline.blank(bench.recording.train, (), config, seed=0)
    trusting = offline.blank(bench.recording.train, (), preset("debug"), seed=0)
    return doubting, trusting


def drawn(seed: int, windows: int = W) -> Doubted:
    """Errors whose size is that of the doubt, which differs from window to window."""
    rng = np.random.default_rng(seed)
    doubt = rng.uniform(0.01, 4.0, (windows, 1)) * np.ones((windows, H))
    error = np.sqrt(np.cumsum(doubt, axis=1)) * np.abs(rng.normal(size=(windows, H)))
    nothing = np.zeros((windows, H, 1))
    return Doubted(error, doubt, nothing, nothing)


def radii(calibration, found: Doubted) -> np.ndarray:
    steps = jnp.broadcast_to(jnp.arange(1, H + 1), found.doubt.shape)
    return np.asarray(calibration.radius(steps, jnp.cumsum(found.doubt, axis=1)))


def test_nine_of_ten_new_windows_are_within_the_radius_at_every_step(worlds):
    for world in worlds:
        calibration = calibrated(world, drawn(0))
        new = drawn(1, 4000)
        held = (new.error <= radii(calibration, new)).mean(axis=0)
        np.testing.assert_allclose(held, 0.9, atol=0.04)


def test_radii_follow_the_doubt_where_there_is_an_ensemble(worlds):
    doubting, trusting = worlds
    new = drawn(1)
    most, least = new.doubt[:, 0] > 3.0, new.doubt[:, 0] < 1.0
    wide = radii(calibrated(doubting, drawn(0)), new)
    assert (wide[most].min(axis=0) > wide[least].max(axis=0)).all()
    held = [(new.error <= wide)[group].mean() for group in (most, least)]
    np.testing.assert_allclose(held, 0.9, atol=0.06)  # of both kinds, not of all together
    same = radii(calibrated(trusting, drawn(0)), new)
    assert (same == same[0]).all()


def test_before_the_first_step_nothing_is_wrong_and_beyond_the_last_no_more_is_known(worlds):
    calibration = calibrated(worlds[1], drawn(0))
    at = lambda steps: float(calibration.radius(jnp.int32(steps), jnp.float32(1.0)))
    assert at(0) == 0.0 and at(H) == at(H + 50) > 0.0


def test_a_step_is_outside_where_it_is_doubted_more_than_any_usual_one(worlds):
    doubting, trusting = worlds
    calibration = calibrated(doubting, drawn(0))
    assert not calibration.outside(jnp.float32(2.0)) and calibration.outside(jnp.float32(5.0))
    assert not calibrated(trusting, drawn(0)).outside(jnp.float32(1e9))


def test_few_windows_say_nothing(worlds):
    few = drawn(0, 8)
    calibration = calibrated(worlds[0], few)
    assert np.isinf(calibration.multiple).all()
    assert trusted_doubt(few, 0.5) == 0.0
    again = from_json(json.loads(json.dumps(as_json(calibration), allow_nan=False)))
    assert again is not None
    np.testing.assert_array_equal(again.multiple, calibration.multiple)
    assert again.scaled and from_json(as_json(None)) is None
    np.testing.assert_allclose(again.usual, calibration.usual)


def test_up_to_the_trusted_doubt_nine_of_ten_paths_never_leave_the_tolerance():
    limit = trusted_doubt(drawn(0), 1.0)
    new = drawn(1, 4000)
    relied = np.cumsum(new.doubt, axis=1) <= limit
    broke = ((new.error > 1.0) & relied).any(axis=1)
    assert broke.mean() == pytest.approx(0.1, abs=0.04)
    assert relied.any()
    assert trusted_doubt(drawn(0), 1e9) == NO_LIMIT


@pytest.mark.parametrize("windows", [9, 10, 19, 20, 29])
def test_one_window_of_ten_may_fail_below_it_counting_the_new_one(windows):
    doubt = 1.0 + np.arange(windows)[:, None]
    all_fail = Doubted(
        np.ones((windows, 1)), doubt, np.zeros((windows, 1, 1)), np.zeros((windows, 1, 1))
    )
    assert int((doubt <= trusted_doubt(all_fail, 0.5)).sum()) == (windows + 1) // 10 - 1
    none_fails = replace(all_fail, error=np.zeros((windows, 1)))
    assert trusted_doubt(none_fails, 0.5) == NO_LIMIT


def test_a_path_is_that_of_its_window_whatever_is_beside_it(bench, worlds):
    whole = doubted(worlds[0], bench.far, bench.scale, seed=2)
    assert whole.error.shape == whole.doubt.shape == bench.far.action.shape[:2]
    assert np.isfinite(whole.error).all() and (whole.doubt > 0).all()
    assert not doubted(worlds[1], bench.far, bench.scale).doubt.any()
    some = {
        field.name: getattr(bench.far, field.name)[:2]
        for field in fields(bench.far) if field.name != "moments"
    }  # fmt: skip
    part = doubted(worlds[0], replace(bench.far, **some, moments=[]), bench.scale, seed=2)
    np.testing.assert_allclose(part.error, whole.error[:2], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(part.doubt, whole.doubt[:2], rtol=1e-2, atol=1e-5)


def test_the_limit_is_below_the_doubt_that_failed_in_the_precision_it_is_compared_in():
    found = drawn(0)
    limit = trusted_doubt(found, 1.0)
    fails = found.error > 1.0
    at = found.gathered[np.arange(W), fails.argmax(axis=1)].astype(np.float32)
    first = np.sort(np.where(fails.any(axis=1), at, np.inf))
    assert np.float32(limit) < first[int(np.floor((W + 1) * 0.1)) - 1]
    assert np.float32(limit) == limit


@pytest.fixture(scope="module")
def levels(bench):
    config = with_settings(with_levels(preset("debug"), 2, "4"), SETTINGS)
    return offline.blank(bench.recording.train, (), config, seed=0)


def test_a_simulator_tells_its_doubt_of_a_step(worlds, levels, bench):
    context = Context(bench.far.context_obs, bench.far.context_action)
    doubting, trusting = worlds
    for world in (doubting, trusting, levels):
        simulator = LatentSimulator(world)
        told = simulator.doubt(simulator.start(context, seed=0), bench.far.action[:, 0])
        np.testing.assert_allclose(
            told, doubted(world, bench.far, bench.scale).doubt[:, 0], rtol=1e-4, atol=1e-7
        )
        assert told.any() == (world is not trusting)


def test_level_1_is_calibrated_on_its_own_jumps(levels, bench):
    world = levels
    found = doubted_jumps(world, bench.far, bench.scale)
    windows, horizon = bench.far.action.shape[:2]
    assert found.error.shape == found.doubt.shape == (windows, horizon // 4)
    assert (found.doubt > 0).all() and np.isfinite(found.error).all()
    assert 0.0 <= trusted_doubt(found, 1.0) < NO_LIMIT
    # of windows that are shorter than a jump nothing is known, and nothing was seen to fail
    short = replace(
        bench.far, action=bench.far.action[:, :3], future_obs=bench.far.future_obs[:, :3]
    )
    assert trusted_doubt(doubted_jumps(world, short, bench.scale), 1.0) == NO_LIMIT
