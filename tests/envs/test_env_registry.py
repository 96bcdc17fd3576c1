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
from envs.quantities import quantities


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


class Endless(gym.Env):
    """Hands back the action that it is given; nobody says how long it lasts or how it is drawn."""

    def __init__(self, low: float = -1.0, high: float = 1.0):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = gym.spaces.Box(low, high, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.asarray(action), 0.0, False, False, {}


LARGE = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    "low, high, lowest, highest",
    [
        (0.0, np.inf, 0.0, 2.0),
        (-np.inf, -3.0, -5.0, -3.0),
        (-LARGE, LARGE, -1.0, 1.0),
        (-np.inf, np.inf, -1.0, 1.0),
        (-0.5, 4.0, -0.5, 4.0),
    ],
)
def test_actions_are_within_whatever_bounds_there_are(low, high, lowest, highest):
    env = ForeignEnv(Endless(low, high), action_repeat=1)
    env.reset()
    reached = [env.step(np.array([a], np.float32))[0][0] for a in (-1.0, 1.0)]
    assert reached == [np.float32(lowest), np.float32(highest)]


def test_an_environment_that_never_ends_is_cut_off_and_says_so():
    env = ForeignEnv(Endless(), action_repeat=3)
    assert env.episode_limit is None
    for _ in range(2):  # the count begins anew
        env.reset()
        with pytest.warns(UserWarning, match="cut off after 1000 env steps.*max_episode_steps"):
            flags = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(334)]
        assert flags == [(False, False)] * 333 + [(False, True)]


def test_what_knows_no_render_mode_can_be_made_and_a_module_may_be_named(tmp_path, monkeypatch):
    code = "import gymnasium\nfrom test_env_registry import Endless\n"
    code += "gymnasium.register('mine/Endless-v0', Endless, max_episode_steps=7)\n"
    (tmp_path / "registers_endless.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    env = envs.make("registers_endless:mine/Endless-v0")
    assert env.episode_limit == 4
    with pytest.raises(ValueError, match="No module named 'nothing_there'"):
        envs.make("nothing_there:mine/Endless-v0")


@pytest.mark.parametrize("rate", [None, 0, 50])
def test_seconds_are_said_or_guessed(rate):
    inner = Endless()
    inner.metadata = {"render_fps": rate}
    assert ForeignEnv(inner, action_repeat=1).dt == pytest.approx(1 / (rate or 30))


def test_another_walker_has_no_quantities_of_the_suites():
    assert set(quantities("walker-walk", ())) == {"speed", "height", "uprightness"}
    assert quantities("walker-terrain-v0", ()) == {}
