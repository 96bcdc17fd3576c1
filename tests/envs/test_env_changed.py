"""Suite tasks under another physics."""

import numpy as np
import pytest

import envs
from envs.physics import DmcPhysics


def fallen(**physics) -> float:
    """Metres that a hopper in the air, as a whole, falls in its first agent step."""
    env = DmcPhysics("hopper-hop", **physics).env
    env.physics.data.qpos[1] += 1.0
    env.physics.data.qvel[:] = 0.0
    env.physics.forward()
    height = lambda: float(env.physics.named.data.subtree_com["torso", "z"])
    before = height()
    env.step(np.zeros(env.action_space.shape))
    return before - height()


def test_what_weighs_twice_as_much_falls_twice_as_far():
    assert fallen(gravity=2.0) == pytest.approx(2 * fallen(), rel=0.02)


def test_the_heaviest_body_gets_heavier_and_no_other():
    masses = [
        envs.make("walker-walk", **physics).unwrapped.physics.model.body_mass.copy()
        for physics in ({}, {"mass": 1.5})
    ]
    assert np.flatnonzero(masses[0] != masses[1]).tolist() == [masses[0].argmax()]
    assert masses[1].max() == pytest.approx(1.5 * masses[0].max())


def test_factors_of_one_are_the_task_itself():
    plain, same = (envs.make("walker-walk", **p) for p in ({}, {"gravity": 1.0, "mass": 1.0}))
    first = [env.reset(seed=3)[0] for env in (plain, same)]
    np.testing.assert_array_equal(*first)
    steps = [env.step(np.full(6, 0.3))[0] for env in (plain, same)]
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize("physics", [{"gravity": 0.0}, {"mass": -1.0}, {"mass": float("nan")}])
def test_a_factor_is_above_zero(physics):
    with pytest.raises(ValueError, match="must be above 0"):
        envs.make("walker-walk", **physics)


def test_other_environments_have_one_physics_only():
    with pytest.raises(ValueError, match="only suite tasks"):
        envs.make("Pendulum-v1", gravity=2.0)


def test_a_task_without_gravity_says_so():
    with pytest.warns(UserWarning, match="switched off"):
        envs.make("finger-spin", gravity=1.5)
