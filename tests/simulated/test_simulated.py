"""Episodes that a simulator plays, with weights of no meaning: what must hold for any."""

import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.config import JumpConfig, ReplayConfig
from dreamer_h.nn.distributions import TwoHot
from dreamer_h.replay.episode import Episode
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.simulated.episode import Simulated, deviation
from dreamer_h.simulated.starts import CONTEXT, starts_of
from dreamer_h.world.upper.hierarchy import make_world
from dreamer_h.world.world import World

WORLD = dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True, ensemble=2)
CALIBRATION = Calibration(jnp.arange(1.0, 6.0), jnp.float32(0.1), True)


def episodes(count: int = 3, steps: int = 20, obs=tiny.STATE) -> list[Episode]:
    found = []
    for i in range(count):
        window = tiny.window(i, steps, obs) if obs is not tiny.STATE else tiny.window(i, steps)
        found.append(
            Episode(
                np.asarray(window.obs),
                np.asarray(window.action),
                np.asarray(window.reward),
                np.asarray(window.is_terminal),
                id=i,
            )  # fmt: skip
        )
    return found


def make(levels: int, kind="first", obs=tiny.STATE, **changes) -> Simulated:
    jump = JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8)
    config = tiny.config(world=WORLD)
    config = dataclasses.replace(
        config, levels=levels, strides="4,4", jump=jump, replay=ReplayConfig(batch=2, length=16)
    )
    world = tiny.weights(lambda: make_world(obs, tiny.ACTION, config, key=jr.key(0)))
    base = world if levels == 1 else world.base
    tamed = tiny.peaked(base.reward)
    world = eqx.tree_at(lambda w: (w if levels == 1 else w.base).reward, world, tamed)
    fields = {"ends": False, "discount": 0.99, "limit": 10, "trust": None, "calibration": None}
    fields |= changes
    starts = starts_of(world, episodes(), kind, 6, tiny.ACTION, seed=0)
    spread = jnp.ones(tiny.OBS + len(obs.angles))
    return Simulated(world=world, starts=starts, spread=spread, **fields)


@pytest.fixture(scope="module", params=[1, 2])
def simulated(request) -> Simulated:
    return make(request.param)


def play(simulated: Simulated, key, steps: int = 12):
    """Moments of an episode under fixed actions, which end nothing here."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, tiny.ACTION)).astype(np.float32)

    @jax.jit
    def run(simulated, key):
        step = lambda episode, action: simulated.step(episode, action)
        return jax.lax.scan(step, simulated.reset(key), jnp.asarray(actions))[1]

    return run(simulated, key)


@pytest.mark.parametrize("levels", [1, 2])
def test_an_angle_counts_its_turns_from_the_start_and_leads_nowhere_else(levels):
    simulated = make(levels, obs=dataclasses.replace(tiny.STATE, angles=(1,)))
    turns = 2 * np.pi * 5 * jnp.array([0.0, 1.0, 0.0])
    away = eqx.tree_at(lambda s: s.starts.obs, simulated, simulated.starts.obs + turns)
    moments, further = play(simulated, jr.key(3)), play(away, jr.key(3))
    np.testing.assert_allclose(further.obs, moments.obs + turns, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(further.reward, moments.reward)
    steps = np.diff(np.asarray(moments.obs)[:, 1])
    assert (np.abs(steps) <= np.pi + 1e-4).all() and np.ptp(np.asarray(moments.obs)[:, 1]) > 0


def test_an_episode_repeats_and_is_cut_at_its_limit(simulated):
    moments = play(simulated, jr.key(3))
    chex.assert_trees_all_equal(moments, play(simulated, jr.key(3)))
    assert moments.truncated.tolist() == [False] * 9 + [True] * 3
    assert moments.steps.tolist() == list(range(1, 13))
    assert not moments.terminated.any() and not moments.invalid.any()
    assert not np.array_equal(moments.obs, play(simulated, jr.key(4)).obs)


def test_it_begins_where_something_was_seen(simulated):
    first = np.stack([episode.obs[0] for episode in episodes()])
    for seed in range(4):
        begun = simulated.reset(jr.key(seed))
        assert (np.asarray(begun.obs) == first).all(axis=1).any()
        np.testing.assert_allclose(simulated.world.decode(begun.latent).obs.mean, begun.obs, 1e-4)


def test_terminations_come_as_often_as_the_simulator_says():
    simulated = make(1, ends=True, limit=None)
    world = eqx.tree_at(
        lambda w: (w.continue_.output.weight, w.continue_.output.bias), simulated.world,
        replace_fn=jnp.zeros_like,
    )  # fmt: skip
    goes_on = 0.8 * simulated.discount
    bias = jnp.full(1, np.log(goes_on / (1 - goes_on)), jnp.float32)
    world = eqx.tree_at(lambda w: w.continue_.output.bias, world, bias)
    simulated = eqx.tree_at(lambda s: s.world, simulated, world)
    found = jax.vmap(lambda key: play(simulated, key).terminated)(jr.split(jr.key(0), 200))
    assert np.mean(found) == pytest.approx(0.2, abs=0.03)


def test_a_prediction_that_is_not_finite_cuts_and_leaves_everything(simulated):
    begun = simulated.reset(jr.key(0))
    broken = eqx.tree_at(lambda s: s.world, simulated, replace_fn=_without_a_number)
    after, moment = broken.step(begun, jnp.zeros(tiny.ACTION))
    assert moment.invalid and moment.truncated and not moment.terminated
    assert moment.reward == 0.0 and np.isfinite(moment.disagreement)
    chex.assert_trees_all_equal((after.latent, moment.obs), (begun.latent, begun.obs))


def _without_a_number(world):
    base = world.base if hasattr(world, "base") else world
    broken = eqx.tree_at(lambda w: w.reward.output.bias, base, base.reward.output.bias * np.nan)
    return broken if base is world else eqx.tree_at(lambda w: w.base, world, broken)


def test_levels_that_disagree_cut_an_episode_if_asked_to():
    apart = play(make(2), jr.key(0)).disagreement
    assert apart[0] > 0
    least = float(np.sort(apart)[-3])
    moments = play(make(2, trust=least, limit=None), jr.key(0))
    np.testing.assert_array_equal(moments.untrusted, apart > least)
    np.testing.assert_array_equal(moments.truncated, apart > least)
    assert not play(make(1), jr.key(0)).disagreement.any()


def test_doubt_adds_up_along_an_episode_and_its_radius_follows():
    moments = play(make(1, calibration=CALIBRATION), jr.key(0))
    steps = np.diff(np.concatenate([[0.0], moments.doubt]))
    assert (steps > 0).all()
    multiple = np.minimum(moments.steps, 5)
    np.testing.assert_allclose(moments.radius, multiple * np.sqrt(moments.doubt), rtol=1e-3)
    np.testing.assert_array_equal(moments.outside, steps > 0.1)
    assert np.isinf(play(make(1), jr.key(0)).radius).all()
    assert not play(make(1), jr.key(0)).outside.any()


def test_level_1_doubts_each_jump_once_when_it_ends():
    simulated = make(2, limit=None)
    moments = play(simulated, jr.key(0))
    told = np.diff(np.concatenate([[0.0], moments.jump_doubt]))
    # segments are counted from the window that a start was seen in
    begun = int(simulated.reset(jr.key(0)).latent.steps)
    ends = (begun - 1 + moments.steps) % simulated.world.strides[0] == 0
    np.testing.assert_array_equal(told > 0, ends)
    assert 1 < ends.sum() < len(ends)
    assert not play(make(1), jr.key(0)).jump_doubt.any()


@pytest.mark.parametrize("levels", [1, 2])
def test_a_radius_that_is_too_wide_cuts_an_episode_if_asked_to(levels):
    radius = play(make(levels, calibration=CALIBRATION), jr.key(0)).radius
    least = float(np.sort(radius)[-3])
    moments = play(make(levels, calibration=CALIBRATION, trust=least, limit=None), jr.key(0))
    np.testing.assert_array_equal(moments.untrusted, radius > least)
    np.testing.assert_array_equal(moments.truncated, radius > least)


@pytest.mark.parametrize("kind", ["anywhere", "model"])
def test_starts_are_in_the_middle_or_made_up(kind):
    starts = make(2, kind).starts
    assert len(starts) == 6 and np.isfinite(starts.latent.ground.deter).all()
    seen = {row.tobytes() for one in episodes() for row in one.obs}
    known = [np.asarray(row).tobytes() in seen for row in starts.obs]
    assert all(known) if kind == "anywhere" else not any(known)
    steps = CONTEXT + 1 if kind == "anywhere" else 1
    assert (starts.latent.steps == steps).all()


def test_made_up_pictures_are_pictures():
    world = tiny.weights(lambda: World(tiny.PIXELS, tiny.ACTION, tiny.WORLD, key=jr.key(0)))
    starts = starts_of(world, [], "model", 3, tiny.ACTION, seed=0)
    assert starts.obs.dtype == np.uint8 and starts.obs.shape == (3, *tiny.PIXELS.shape)


def test_starts_need_an_episode_that_is_long_enough():
    world = make(1).world
    with pytest.raises(ValueError, match="16 agent steps"):
        starts_of(world, episodes(steps=8), "anywhere", 2, tiny.ACTION, seed=0)


def test_the_spread_of_a_reward_is_that_of_its_bins():
    bins = TwoHot(jnp.zeros(41)).bins
    logits = jnp.full(41, -50.0).at[jnp.asarray([20, 21])].set(jnp.log(jnp.asarray([0.75, 0.25])))
    expected = np.sqrt(0.25 * 0.75) * (bins[21] - bins[20])
    np.testing.assert_allclose(deviation(TwoHot(logits)), expected, rtol=1e-5)
