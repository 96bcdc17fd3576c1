from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import recorded
from dm_control.rl.control import PhysicsError

from dreamer_h.horizon.policies.closed_loop import closed_loop, imagined_episodes
from dreamer_h.horizon.policies.decisions import judge
from dreamer_h.horizon.recorded.layout import Field
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.scoring.score import benchmark

REST = (Field("place", 1, 2, "position"), Field("speed", 2, 3, "velocity"))


class Still:
    """Simulator: nothing moves, and a reward of 1; window 0 is not finite from its fifth step."""

    paid = 1.0

    def start(self, context, *, seed):
        return 0, context.obs[:, -1]

    def imagine(self, state, action, samples, *, seed):
        raise AssertionError("a policy acts inside, step by step")

    def step(self, state, action, *, seed):
        age, obs = state
        seen = np.array(obs, np.float64)
        if age >= 4:
            seen[0] = 1e300  # beyond float32
        return (age + 1, obs), seen, None if self.paid is None else np.full(len(obs), self.paid)


class Broken:
    """Physics: nothing moves, and a reward of 2; it fails in window 1 at its third step."""

    def restore(self, moment):
        self.number, self.age = int(moment["number"]), 0

    def step(self, action):
        assert np.isfinite(action).all()
        self.age += 1
        if self.number == 1 and self.age == 3:
            raise PhysicsError("BADQACC")
        return np.zeros(3, np.float32), 2.0

    def moment(self):
        raise NotImplementedError

    place = turns = moment

    def displacement(self, since):
        raise NotImplementedError

    def nudge(self, by):
        raise NotImplementedError


class Zero:
    def begin(self, seed):
        pass

    def act(self, obs):
        assert np.isfinite(obs).all()
        return np.zeros(2, np.float32)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = benchmark(recorded.driven(tmp_path_factory.mktemp("driven") / "data", count=12), {})
    moments = [{"number": np.array(w)} for w in range(len(made.far))]
    return replace(made, far=replace(made.far, moments=moments))


def test_diverged_windows_are_frozen_and_counted(bench):
    windows = bench.far
    found = closed_loop(Still(), Zero, Broken(), windows, bench.scale, bench.horizons)
    count, steps = len(windows), windows.horizon
    assert found["diverged"] == 2
    ends = [4, 2] + [steps] * (count - 2)
    assert found["return_imagined"]["value"] == pytest.approx(np.mean(ends))
    assert found["return_repeated"]["value"] == pytest.approx(2 * np.mean(ends))
    # in reality window 0 goes on
    real = [2 * end for end in [steps, 2] + [steps] * (count - 2)]
    assert found["windows"]["return_real"] == real
    assert found["gap"]["value"] == pytest.approx(np.mean(ends) - np.mean(real))
    assert np.isfinite(found["nrmse_median"][8]["value"])  # of four windows, two are left


class Unsure(Still):
    """The same, and it doubts each step by a nat."""

    def doubt(self, state, action):
        return np.ones(len(action))


def test_doubt_is_gathered_until_a_window_diverges(bench):
    windows = bench.far
    of = lambda simulator: closed_loop(
        simulator, Zero, Broken(), windows, bench.scale, bench.horizons
    )["windows"]
    assert of(Unsure())["doubt"] == [4.0, 2.0] + [windows.horizon] * (len(windows) - 2)
    assert "doubt" not in of(Still())


def test_a_policy_sees_angles_go_on_turning(bench):
    class Turning(Still):
        """A turn of 2 radians a step, told from -pi to pi."""

        def step(self, state, action, *, seed):
            (age, obs), found, reward = super().step(state, action, seed=seed)
            turned = np.array(found)
            turned[:, 0] = (obs[:, 0] + 2.0 * age + np.pi) % (2 * np.pi) - np.pi
            return (age, obs), jnp.asarray(turned), reward  # as simulators in jax may answer

    class Watching(Zero):
        def begin(self, seed):
            self.seen = []

        def act(self, obs):
            self.seen.append(obs[0])
            return super().act(obs)

    made = []
    make = lambda: made.append(Watching()) or made[-1]
    scale = Scale.fit(bench.recording.train, (Field("turn", 0, 1, "angle"), *REST))
    imagined_episodes(Turning(), make, bench.far, scale, seed=0)
    steps = np.diff([watching.seen for watching in made[1:]], axis=1)  # the first diverges
    np.testing.assert_allclose(steps, 2.0, atol=1e-4)


def places(bench):
    return Unsure(), Broken(), bench


def test_policies_are_judged_alike_in_one_process_and_in_two(bench):
    policies = {f"run/{number}": Zero for number in range(3)}
    alone, together = (
        judge(partial(places, bench), policies, bench.far.episode, jobs=jobs) for jobs in (1, 2)
    )
    assert repr(alone) == repr(together)  # nan, of what diverged, too
    assert list(together["closed_loop"]) == list(policies)
    assert together["decisions"]["error_told"]["value"] == 0.0  # all are alike


def test_a_simulator_without_rewards_is_refused(bench):
    silent = Still()
    silent.paid = None
    with pytest.raises(ValueError, match="Still predicts no reward"):
        closed_loop(silent, Zero, Broken(), bench.far, bench.scale, bench.horizons)
