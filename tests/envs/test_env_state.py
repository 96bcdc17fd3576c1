"""get_state and set_state: a restored environment cannot be told from the original."""

import subprocess
import sys

import numpy as np
import pytest

import envs
from envs import DmcEnv, state

TASKS = envs.tasks()
CUT = 12  # environment steps per episode here, so that the replay crosses an episode's end


def short(task: str, seed: int):
    env = DmcEnv(task, seed=seed)
    env._dm._step_limit = CUT
    return env


def replay(env, actions) -> list[np.ndarray]:
    """Everything seen while acting; resets where the episode ends."""
    seen = []
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        seen += [obs, np.array([reward, terminated, truncated])]
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("task", TASKS)
def test_a_restored_state_replays_bit_for_bit(task):
    rng = np.random.default_rng(0)
    env = short(task, seed=1)
    actions = rng.uniform(-1, 1, (10, *env.action_space.shape)).astype(np.float32)
    env.reset()
    replay(env, actions[:3])
    saved, obs = env.get_state(), env.observation()
    assert all(type(value) is np.ndarray for value in saved.values())
    seen = replay(env, actions[3:])

    other = short(task, seed=2)  # fresh, with another target, terrain, step count and stream
    other.reset()
    replay(other, actions[:1])
    other.set_state(saved)
    np.testing.assert_array_equal(other.observation(), obs)
    assert_same(replay(other, actions[3:]), seen)
    left, right = env.get_state(), other.get_state()
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)

    # and back into the environment it came from
    env.set_state(saved)
    assert_same(replay(env, actions[3:]), seen)


def test_a_state_goes_through_a_file_into_another_process(tmp_path):
    for task in ("reacher-hard", "quadruped-escape", "hopper-hop"):
        env = DmcEnv(task, seed=5)
        env.reset()
        actions = np.random.default_rng(1).uniform(-1, 1, (6, *env.action_space.shape))
        replay(env, actions)
        np.savez(tmp_path / f"{task}.npz", **env.get_state())  # pyright: ignore[reportArgumentType]
        seen = [*replay(env, actions), env.reset()[0]]  # the next episode, too
        np.savez(tmp_path / f"{task}-seen.npz", *seen)
        np.save(tmp_path / f"{task}-actions.npy", actions)
    code = """
import sys, numpy as np, envs
folder = sys.argv[1]
for task in ("reacher-hard", "quadruped-escape", "hopper-hop"):
    env = envs.make(task)
    with np.load(f"{folder}/{task}.npz") as file:
        env.set_state(dict(file))
    seen = []
    for action in np.load(f"{folder}/{task}-actions.npy"):
        obs, *rest = env.step(action)
        seen += [obs, np.array(rest[:3])]
    seen.append(env.reset()[0])
    with np.load(f"{folder}/{task}-seen.npz") as file:
        assert len(file) == len(seen)
        for i, value in enumerate(seen):
            np.testing.assert_array_equal(file[f"arr_{i}"], value)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def test_a_state_right_after_construction_starts_the_same_episode():
    env, other = DmcEnv("reacher-easy", seed=1), DmcEnv("reacher-easy")
    other.set_state(env.get_state())
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_the_state_keeps_the_generator_and_its_seed():
    env, other = DmcEnv("walker-walk", seed=7), DmcEnv("walker-walk")
    env.reset()
    env.np_random.random(3)
    other.set_state(env.get_state())
    assert other.np_random_seed == env.np_random_seed == 7
    assert other.np_random.random() == env.np_random.random()


@pytest.mark.parametrize(
    "task, fields",
    [
        ("walker-walk", set()),
        ("reacher-hard", {"geom_pos", "geom_size"}),
        ("finger-spin", {"dof_damping", "site_rgba"}),
        ("manipulator-bring_ball", {"body_pos", "body_quat"}),
        ("stacker-stack_2", {"body_pos"}),
        ("point_mass-hard", {"wrap_prm"}),
        ("quadruped-escape", {"hfield_data"}),
    ],
)
def test_the_model_arrays_drawn_at_reset_are_found(task, fields):
    assert fields == set(state.randomised_fields(task))
    assert {f"model/{f}" for f in fields} <= set(DmcEnv(task).get_state())


def test_states_of_one_task_can_be_stacked():
    env = DmcEnv("hopper-hop", seed=0)
    states = [env.get_state()]
    env.reset()
    for _ in range(3):
        env.step(env.action_space.sample())
        states.append(env.get_state())
    for name in states[0]:
        np.stack([s[name] for s in states])


def test_a_saved_state_does_not_change_afterwards():
    env = DmcEnv("finger-turn_easy", seed=0)
    env.reset()
    saved = env.get_state()
    before = {name: value.copy() for name, value in saved.items()}
    env.step(env.action_space.sample())
    env.reset()
    for name, value in before.items():
        np.testing.assert_array_equal(saved[name], value)


def test_the_state_of_another_task_is_refused():
    with pytest.raises(ValueError, match="the state is of cheetah-run"):
        DmcEnv("walker-walk").set_state(DmcEnv("cheetah-run").get_state())
