import json
from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest

import envs
from dreamer_h.guard import EnvironmentFault
from dreamer_h.horizon.recorded.excitation import EXCITATIONS, Excited, Noise
from dreamer_h.horizon.recorded.record import Plan, record
from dreamer_h.horizon.recorded.recording import episode_path, load_recording, split_of
from envs.physics import DmcPhysics

TASK = "cartpole-swingup"


def plan(episodes=3, **changes):
    make_env = partial(envs.make, TASK, action_repeat=20)  # 50 agent steps an episode
    made = Plan(TASK, "excited", episodes, 0, 8, 20, make_env, partial(Excited, 1))
    return replace(made, **changes)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(plan(), tmp_path_factory.mktemp("recorded") / "data", jobs=1)


def test_a_recording_says_what_it_is(recording):
    assert recording.task == TASK and recording.dt == pytest.approx(0.2)
    assert recording.restartable and recording.manifest["versions"]["mujoco"]
    assert [recording.numbers(s) for s in ("train", "calibration", "test")] == [[0], [1], [2]]
    assert [field.name for field in recording.layout] == ["position", "velocity"]
    episode = recording.episode(0)
    assert episode.obs.shape == (51, 5) and episode.action.shape == (50, 1)
    assert len(recording.read(0)[1]) == 7  # at 0, 8, …, 48


def test_physics_goes_on_from_every_recorded_moment_bit_for_bit(recording):
    physics = DmcPhysics(TASK, 20)
    episode, moments = recording.read(2)
    for index in (0, 3, 6):
        physics.restore(moments[index])
        for t in range(8 * index, min(8 * index + 10, len(episode))):
            obs, reward = physics.step(episode.action[t])
            np.testing.assert_array_equal(obs, episode.obs[t + 1])
            assert np.float32(reward) == episode.reward[t + 1]


def test_a_recording_goes_on_where_it_was_stopped(recording, tmp_path):
    folder = tmp_path / "data"
    first = record(plan(), folder, jobs=1)
    assert first.hash == recording.hash  # the same seeds, the same episodes
    episode_path(folder, 1).unlink()
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="the same command goes on"):
        load_recording(folder)
    kept = episode_path(folder, 0).stat().st_mtime_ns
    assert record(plan(), folder, jobs=2).hash == recording.hash
    assert episode_path(folder, 0).stat().st_mtime_ns == kept


def test_another_plan_and_a_changed_file_are_refused(tmp_path):
    folder = tmp_path / "data"
    found = record(plan(), folder, jobs=1)
    with pytest.raises(ValueError, match="holds a recording of"):
        record(plan(seed=1), folder, jobs=1)
    path = episode_path(folder, 2)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="record it anew"):
        found.episode(2)
    with pytest.raises(ValueError, match="at least 3"):
        record(plan(episodes=2), tmp_path / "few", jobs=1)


class Faulty(gym.Wrapper):
    """Its tenth observation is not finite."""

    def reset(self, **options):
        self.count = 0
        return self.env.reset(**options)

    def step(self, action):
        self.count += 1
        obs, *rest = self.env.step(action)
        return (obs * np.nan if self.count == 10 else obs), *rest


def test_an_environment_that_breaks_its_contract_is_named(tmp_path):
    faulty = plan(make_env=lambda: Faulty(envs.make(TASK, action_repeat=20)))
    with pytest.raises(EnvironmentFault, match=f"{TASK}, episode 0: observation is not finite"):
        record(faulty, tmp_path / "data", jobs=1)
    assert not episode_path(tmp_path / "data", 0).exists()


def test_what_was_not_recorded_is_not_recorded_over(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="not recorded here"):
        record(plan(), tmp_path, jobs=1)


def test_no_recording_has_a_plain_error(tmp_path):
    with pytest.raises(ValueError, match="make one with"):
        load_recording(tmp_path / "nothing")


@pytest.mark.parametrize("name", EXCITATIONS)
def test_excitations_repeat_and_fill_the_box(name):
    policy = EXCITATIONS[name](3)

    def episode(seed):
        policy.begin(seed)
        return np.array([policy.act(np.zeros(2)) for _ in range(2000)])

    first = episode(1)
    np.testing.assert_array_equal(first, episode(1))
    assert not np.array_equal(first, episode(2))
    assert first.dtype == np.float32 and np.abs(first).max() <= 1
    assert first.std() > 0.4 and abs(first.mean()) < 0.2
    near = np.corrcoef(first[:-1].ravel(), first[1:].ravel())[0, 1]
    assert near > 0.7  # what follows is like what went before: heavy bodies feel it


def test_noise_is_correlated_as_it_says():
    policy = Noise(50)
    policy.begin(0)
    drawn = np.array([policy.act(np.zeros(1)) for _ in range(400)])
    assert 0.8 < np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1] < 0.95  # 0.9, clipped


def test_the_splits_are_thirds():
    splits = [split_of(number, 301) for number in range(301)]
    assert [splits.count(s) for s in ("train", "calibration", "test")] == [101, 100, 100]
    assert json.dumps(splits) == json.dumps(
        sorted(splits, key=["train", "calibration", "test"].index)
    )


def test_a_nudge_is_a_displacement():
    physics = DmcPhysics("humanoid-walk", 2)  # its root turns freely: a quaternion
    moment, before = physics.moment(), physics.place()
    by = np.random.default_rng(0).normal(size=2 * physics.env.physics.model.nv) * 1e-2
    obs = physics.nudge(by)
    np.testing.assert_allclose(physics.displacement(before), by, rtol=1e-6, atol=1e-9)
    assert np.isfinite(obs).all()
    physics.restore(moment)
    assert not physics.displacement(before).any()
