"""The learned simulator keeps to Gymnasium's contract, alone."""

import json
import pickle
import shutil
import warnings
from functools import partial

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import NormalizeObservation, RecordEpisodeStatistics, RecordVideo

import envs
from dreamer_h.train.checkpoints.archive import CheckpointCorrupt
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from envs.learned import LearnedEnv
from envs.learned.picture import Picture, Pose, bars

ID = "dreamer_h/Learned-v0"


@pytest.fixture(scope="module")
def env(run) -> LearnedEnv:
    return LearnedEnv(run, render_mode="rgb_array")


def actions(env, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, *env.action_space.shape)).astype(np.float32)


def played(env, given) -> list:
    return [env.step(action) for action in given]


def same(left, right) -> bool:
    return all(
        np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(left, right, strict=True)
    )


def test_gymnasium_finds_no_fault(run):
    made = gym.make(ID, run=run, disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*observation space m.* value is")  # as the real
        check_env(made.unwrapped, skip_render_check=not envs.video_available())


def test_it_looks_like_the_real_task(env):
    real = envs.make("cartpole-balance", action_repeat=4)
    assert env.observation_space == real.observation_space
    assert env.action_space == real.action_space
    assert env.observation_space.dtype == real.observation_space.dtype
    assert (env.episode_limit, env.dt) == (real.episode_limit, real.dt) == (250, 0.04)
    assert env.metadata["render_fps"] == 25
    assert not env._learned.simulated.ends  # the real one never does


def test_an_episode_is_cut_at_the_real_time_limit(env):
    env.reset(seed=0)
    steps = played(env, actions(env, env.episode_limit))
    assert [step[3] for step in steps] == [False] * (env.episode_limit - 1) + [True]
    assert not any(step[2] for step in steps) and steps[-1][4]["steps"] == env.episode_limit
    with pytest.raises(ResetNeeded):
        env.step(actions(env, 1)[0])


def test_seeds_repeat_and_differ(env):
    runs = []
    for seed in (5, 5, 6):
        first, _ = env.reset(seed=seed)
        runs.append([(first,), *played(env, actions(env, 5))])
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_a_state_brings_back_the_future(env, tmp_path):
    env.reset(seed=1)
    played(env, actions(env, 3))
    path = tmp_path / "state.npz"
    np.savez(path, **env.get_state())
    future = played(env, actions(env, 5, seed=1))
    env.reset(seed=9)
    with np.load(path) as state:  # plain numbers: nothing is pickled
        env.set_state(dict(state))
    assert same(future, played(env, actions(env, 5, seed=1)))
    with pytest.raises(ValueError, match="another simulator"):
        env.set_state({"0": np.zeros(2)})


def test_a_fork_goes_its_own_way(env):
    env.reset(seed=1)
    other = env.fork()
    future = played(env, actions(env, 5))
    assert same(future, played(other, actions(env, 5)))
    assert np.array_equal(env.reset()[0], other.reset()[0])  # np_random is a copy, too
    env.step(actions(env, 1)[0])
    assert other._episode.steps == 0


def test_a_pickled_one_goes_on(env):
    env.reset(seed=2)
    played(env, actions(env, 3))
    other = pickle.loads(pickle.dumps(env))
    assert same(played(env, actions(env, 5)), played(other, actions(env, 5)))
    assert np.array_equal(env.reset()[0], other.reset()[0])


def test_it_begins_where_it_is_told(env):
    episode = env._learned.episodes[0]
    obs, _ = env.reset(options={"episode": np.int32(0), "t": 7})
    np.testing.assert_array_equal(obs, episode.obs[7])
    context = (episode.obs[:4], episode.action[:3])
    assert np.array_equal(env.reset(options={"context": context})[0], episode.obs[3])
    third = env._learned.simulated.starts.obs[3]
    for number in (3, np.int64(3)):
        assert np.array_equal(env.reset(options={"starts": number})[0], third)
    for wrong, message in (
        ({"starts": 10**6}, "a number below"),
        ({"episode": -1, "t": 0}, "counted from 0"),
        ({"episode": 0, "t": 10**6}, "agent steps"),
        ({"context": (episode.obs[:4], episode.action[:4])}, "needed are"),
        ({"context": (np.nan * episode.obs[:1], episode.action[:0])}, "not finite"),
        ({"weather": "rain"}, "must be context"),
        ({"starts": 0, "weather": "rain"}, "must be context"),
        ({"starts": True}, "must be context"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=wrong)


def test_other_actions_lead_elsewhere_and_the_same_ones_do_not(env):
    episode = env._learned.episodes[0]
    taken, other = episode.action[7:12], np.clip(episode.action[7:12] + 1.0, -1.0, 1.0)
    obs, reward = env.counterfactual(0, 7, taken, samples=4)
    assert obs.shape == (4, 5, 5) and reward.shape == (4, 5) and np.isfinite(obs).all()
    again = env.counterfactual(0, 7, taken, samples=4)
    np.testing.assert_array_equal(obs, again[0])
    assert not np.array_equal(obs, env.counterfactual(0, 7, other, samples=4)[0])
    with pytest.raises(ValueError, match="agent steps"):
        env.counterfactual(0, 10**6, taken)


def test_several_share_what_they_read(env, run):
    assert LearnedEnv(run)._learned is env._learned
    assert LearnedEnv(run, starts="anywhere")._learned is not env._learned


def test_bad_actions_are_refused(env):
    env.reset(seed=0)
    shape = env.action_space.shape
    for action in (np.zeros(7, np.float32), np.full(shape, np.nan), np.full(shape, "left")):
        with pytest.raises(ValueError, match="needed is one of Box"):
            env.step(action)


def test_the_spec_survives_json(run):
    made = gym.make(ID, run=run, starts="model", max_episode_steps=3)
    assert isinstance(made.spec, EnvSpec)
    text = made.spec.to_json()
    again = gym.make(EnvSpec.from_json(text))
    assert json.loads(text)["kwargs"]["starts"] == "model"
    for one in (made, again):
        one.reset(seed=0)
    assert same(played(made, actions(made, 3)), played(again, actions(made, 3)))


def test_wrappers_work(run):
    made = NormalizeObservation(RecordEpisodeStatistics(gym.make(ID, run=run, max_episode_steps=4)))
    made.reset(seed=0)
    last = played(made, actions(made, 4))[-1]
    assert last[3] and last[4]["episode"]["l"] == 4


def test_episodes_are_filmed(run, tmp_path):
    made = gym.make(ID, run=run, max_episode_steps=4, render_mode="rgb_array")
    made = RecordVideo(made, str(tmp_path / "a film"), episode_trigger=lambda i: i == 0)
    made.reset(seed=0)
    played(made, actions(made, 4))
    made.close()
    shown = iio.imread(next((tmp_path / "a film").glob("*.mp4")))
    assert shown.shape == (5, 240, 320, 3) and shown.std() > 1


def test_processes_of_its_own_are_spawned(run):
    make = partial(gym.make, f"envs:{ID}", run=run)  # imports what registers it
    several = gym.vector.AsyncVectorEnv([make] * 2, context="spawn")
    alone, given = gym.make(ID, run=run), actions(several, 3)
    try:
        obs, _ = several.reset(seed=[3, 4])
        np.testing.assert_array_equal(obs[1], alone.reset(seed=4)[0])
        for action in given:
            obs = several.step(action)[0]
            np.testing.assert_allclose(obs[1], alone.step(action[1])[0], 1e-5)
    finally:
        several.close()


def test_bars_are_drawn_of_coordinates():
    turned = np.array([0.5, 40.0], np.float32)
    draw = Picture("Pendulum-v1", np.ones(3, np.float32), (1,))
    assert np.array_equal(draw(turned), bars(np.array([np.log1p(0.5), np.cos(40), np.sin(40)])))


def test_it_can_be_drawn(env):
    env.reset(seed=0)
    frame = env.render()
    assert frame.shape == (240, 320, 3) and frame.dtype == np.uint8 and frame.std() > 1


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"starts": "last"}, "first, anywhere, model"),
        ({"level": 1}, "has level 0 alone"),
        ({"truncate_on_trust": True}, "calibrated radius, or two levels"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"max_episode_steps": 3.5}, "a whole number"),
        ({"data": "nowhere"}, "no finished recording"),
    ],
)
def test_what_the_run_cannot_give_is_refused(run, wrong, message):
    with pytest.raises(ValueError, match=message):
        LearnedEnv(run, **wrong)


def test_an_option_that_is_none_is_named(run):
    with pytest.raises(TypeError, match="no option start; there are data, level"):
        LearnedEnv(run, start="first")


def test_a_damaged_newest_checkpoint_is_passed_over(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = Checkpoints(copy / "checkpoints").retained()[-1]
    before = newest.with_name("update_000000000.ckpt")  # older, and whole
    shutil.copy(newest, before)
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match="the one before is used"):
        LearnedEnv(str(copy)).reset(seed=0)
    for path in Checkpoints(copy / "checkpoints").retained()[:-1]:
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointCorrupt), pytest.warns(UserWarning):
        LearnedEnv(str(copy))


def test_what_is_no_run_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        gym.make(ID, run=str(tmp_path))
    (tmp_path / "config.json").write_text('{"task": "walker-walk"}')
    with pytest.raises(ValueError, match="another version"):
        gym.make(ID, run=str(tmp_path))


@pytest.mark.skipif(not envs.video_available(), reason="needs OpenGL")
def test_a_state_is_drawn_as_the_pose_that_it_is_of():
    real = envs.make("walker-walk")
    real.reset(seed=1)
    pose, rng = Pose("walker-walk"), np.random.default_rng(0)
    for _ in range(10):
        obs = real.step(rng.uniform(-1, 1, 6))[0]
    assert pose.takes(obs)
    there, here = (env.physics.data.qpos[2:] for env in (real, pose.env))
    np.testing.assert_allclose(np.cos(here - there), 1.0, atol=1e-3)  # turns cannot be seen
    assert not pose.takes(obs + 1.0)  # no walker looks like that
    assert bars(np.array([3.0, -3.0, 0.0])).shape == (240, 320, 3)
