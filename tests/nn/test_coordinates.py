"""Observations as networks see them: compressed, angles as points on a circle, and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamer_h.nn.coordinates import coordinates, going_on, nearest, observation, symlog
from dreamer_h.nn.distributions import Symlog

OBS = jnp.array([[0.5, -40.0, 3.0], [-2.0, 1.0, -3.0]])


def test_without_angles_they_are_symlog():
    np.testing.assert_array_equal(coordinates(OBS), symlog(OBS))
    np.testing.assert_allclose(observation(coordinates(OBS)), OBS, rtol=1e-5)


def test_an_angle_is_a_point_on_a_circle_and_comes_back_on_the_first_turn():
    found = coordinates(OBS, (1, 2))
    assert found.shape == (2, 5)
    np.testing.assert_allclose(found[:, 1] ** 2 + found[:, 3] ** 2, 1.0, rtol=1e-6)
    np.testing.assert_allclose(found[:, 2], np.cos(OBS[:, 2]), rtol=1e-6)
    back = np.asarray(observation(found, (1, 2)))
    np.testing.assert_allclose(back[:, 0], OBS[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.sin(back[:, 1:]), np.sin(OBS[:, 1:]), atol=1e-5)
    np.testing.assert_allclose(np.cos(back[:, 1:]), np.cos(OBS[:, 1:]), atol=1e-5)
    assert (np.abs(back[:, 1:]) <= np.pi + 1e-6).all()


@pytest.mark.parametrize("turns", [-3, 0, 7])
def test_whole_turns_change_nothing(turns):
    away = OBS + 2 * np.pi * turns * jnp.array([0.0, 1.0, 1.0])
    np.testing.assert_allclose(coordinates(away, (1, 2)), coordinates(OBS, (1, 2)), atol=1e-4)
    told = Symlog(coordinates(OBS, (1, 2)), None, (1, 2))
    np.testing.assert_allclose(told.loss(away), 0.0, atol=1e-6)
    assert Symlog(symlog(OBS)).loss(away).max() > (0.1 if turns else -1.0)


def test_the_nearest_is_less_than_half_a_turn_away():
    other = OBS + jnp.array([[9.0, 50.0, -30.0], [9.0, -1.0, 3.5]])
    found = nearest(OBS, other, (1, 2))
    np.testing.assert_array_equal(found[:, 0], OBS[:, 0])
    assert (np.abs(found - other)[:, 1:] <= np.pi + 1e-4).all()
    turns = np.asarray(found - OBS)[:, 1:] / (2 * np.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)


def test_a_path_counts_its_turns_on_from_where_it_began():
    turned = jnp.linspace(-20.0, -32.0, 25)
    path = jnp.stack([jnp.ones(25), turned], axis=1)
    wrapped = observation(coordinates(path, (1,)), (1,))
    assert np.abs(np.asarray(wrapped)[:, 1]).max() < 3.2
    found = going_on(wrapped[1:], path[0], (1,))
    np.testing.assert_allclose(found, path[1:], rtol=1e-4)
    np.testing.assert_array_equal(going_on(wrapped, wrapped[0], ()), wrapped)
