"""Frames where there is OpenGL; training where there is none."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs

# stands in for a machine without the libraries: PyOpenGL finds nothing to load
MISSING = """
import ctypes
dlopen = ctypes._dlopen
def without_gl(name, *args):
    if name and "GL" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    return dlopen(name, *args)
ctypes._dlopen = without_gl
"""

TRAIN = """
import sys, warnings
import envs
assert "OpenGL" not in sys.modules, "import envs touched OpenGL"
for task in ("walker-walk", "quadruped-escape"):
    env = envs.make(task, seed=0, render_mode="rgb_array")
    env.reset()
    env.step(env.action_space.sample())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert [envs.video_available() for _ in range(3)] == [False] * 3
assert len(caught) == 1 and "libegl1" in str(caught[0].message), caught
for fail in (env.render, lambda: envs.make("walker-walk", obs="pixels")):
    try:
        fail()
    except RuntimeError as error:
        assert "libegl1" in str(error)
    else:
        raise AssertionError("rendered without OpenGL")
"""


def run(code: str, gl: str | None) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    env |= {} if gl is None else {"MUJOCO_GL": gl}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_state_tasks_train_where_rendering_is_switched_off():
    run(TRAIN, gl="disable")


@pytest.mark.parametrize("gl", [None, "egl"])
def test_state_tasks_train_where_the_library_is_missing(gl):
    run(MISSING + TRAIN, gl)


def need_gl() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not envs.video_available():
            pytest.skip("no OpenGL library: install libegl1 and set MUJOCO_GL=egl")


@pytest.mark.filterwarnings("ignore:.*observation space (minimum|maximum) value is.*infinity")
def test_check_env_with_rendering():
    need_gl()
    env = envs.make("walker-walk", seed=0, render_mode="rgb_array")
    check_env(env)
    env.reset()
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    assert frame.shape == (240, 320, 3) and frame.dtype == np.uint8 and frame.std() > 1
    env.close()
    env.close()


def test_pixels_have_the_size_and_camera_chosen():
    need_gl()
    env = envs.make("walker-walk", obs="pixels", size=32, seed=0)
    other = envs.make("walker-walk", obs="pixels", size=32, camera="back", seed=0)
    first = env.reset()[0]
    assert first in env.observation_space and first.shape == (32, 32, 3)
    assert not np.array_equal(first, other.reset()[0])
    assert env.layout == ()
    assert not np.array_equal(first, env.step(env.action_space.sample())[0])


def test_a_restored_terrain_is_drawn():
    need_gl()
    env = envs.DmcEnv("quadruped-escape", obs="pixels", seed=0)
    first, saved = env.reset()[0], env.get_state()
    assert not np.array_equal(env.reset()[0], first)
    env.set_state(saved)
    np.testing.assert_array_equal(env.observation(), first)
