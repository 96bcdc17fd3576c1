"""Names, vectors, and environments that are not ours."""

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.foreign import ForeignEnv


@pytest.mark.parametrize("name", ["walker-walk", "dmc/walker-walk-v0", "envs:dmc/walker-walk-v0"])
def test_make_takes_short_and_registered_names(name):
    env = envs.make(name, seed=1)
    assert env.spec is not None and env.spec.id == "dmc/walker-walk-v0"
    assert json.loads(env.spec.to_json())["kwargs"]["action_repeat"] == 2
    assert env.unwrapped is env, "a wrapper would hide get_state"


def test_gymnasium_imports_envs_by_itself():
    code = "import gymnasium; print(gymnasium.make('envs:dmc/ball_in_cup-catch-v0').spec.id)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "dmc/ball_in_cup-catch-v0"


@pytest.mark.parametrize("name", ["walker-wlak", "dmc/walker-wlak-v0", "walker_walk"])
def test_an_unknown_name_names_its_neighbours(name):
    with pytest.raises(ValueError, match="walker-walk"):
        envs.make(name)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"obs": "image"}, "obs is 'image'"),
        ({"action_repeat": 0}, "action_repeat is 0"),
        ({"camera": "selfie"}, "no camera 'selfie'"),
        ({"render_mode": "human"}, "render"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode")
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("walker-walk", **options)


def test_environment_i_of_a_vector_is_the_single_one_with_seed_plus_i():
    vec = envs.make_vec("cartpole-swingup", 3, seed=10)
    singles = [envs.make("cartpole-swingup", seed=10 + i) for i in range(3)]
    np.testing.assert_array_equal(vec.reset()[0], [env.reset()[0] for env in singles])
    action = np.array([[0.1], [-0.5], [1.0]], np.float32)
    for _ in range(3):
        obs, reward, *_ = vec.step(action)
        steps = [env.step(a) for env, a in zip(singles, action, strict=True)]
        np.testing.assert_array_equal(obs, [step[0] for step in steps])
        np.testing.assert_array_equal(reward, [step[1] for step in steps])


@pytest.mark.filterwarnings("ignore:.*(observation space|Box|render|spec)")
def test_a_foreign_environment_looks_like_ours():
    env = envs.make("Pendulum-v1", seed=4)
    check_env(env, skip_render_check=True)
    env = envs.make("Pendulum-v1", seed=4)
    inner = gym.make("Pendulum-v1")
    np.testing.assert_array_equal(env.reset()[0], inner.reset(seed=4)[0])
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert (env.episode_limit, env.dt) == (100, 0.1)
    obs, reward, terminated, truncated, _ = env.step(np.array([0.5], np.float32))
    steps = [inner.step(np.array([1.0], np.float32)) for _ in range(2)]  # torque is in [-2, 2]
    np.testing.assert_array_equal(obs, steps[1][0])
    assert reward == float(steps[0][1]) + float(steps[1][1])
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
    flags = [env.step(np.zeros(1, np.float32))[3] for _ in range(99)]
    assert flags == [False] * 98 + [True]


def test_a_foreign_environment_without_boxes_is_refused():
    with pytest.raises(ValueError, match="must be a Box"):
        envs.make("CartPole-v1")


def test_pixels_are_for_suite_tasks_only():
    with pytest.raises(ValueError, match="only suite tasks"):
        envs.make("Pendulum-v1", obs="pixels")


def test_a_probe_runs_through_make():
    env = envs.make("probe/action-terminate-v0", action_repeat=1, seed=0)
    assert isinstance(env, ForeignEnv) and env.episode_limit == 5
    env.reset()
    rewards = [env.step(np.array([0.5], np.float32))[1:3] for _ in range(5)]
    assert rewards == [(1.0, False)] * 4 + [(1.0, True)]


@pytest.mark.parametrize(
    "written", ["walker-walk", "dmc/walker-walk-v0", "envs:dmc/walker-walk-v0"]
)
def test_a_task_has_one_short_name(written):
    assert envs.short_name(written) == "walker-walk"


def test_other_ids_stay_as_they_are():
    assert envs.short_name("Pendulum-v1") == "Pendulum-v1"
    assert envs.short_name("dmc/walker-wlk-v0") == "dmc/walker-wlk-v0"
