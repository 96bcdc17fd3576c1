"""Imagined paths that go on from one gradient step to the next."""

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.behaviour.paths import Paths
from dreamer_h.types import Latent
from dreamer_h.world.world import World

P, N, H, HORIZON = 4, 6, 3, 100.0
LENGTH = 40


def latent(values) -> Latent:
    """One that tells its number in every leaf."""
    world = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)))
    filled = lambda leaf: jnp.stack([jnp.full(leaf.shape, float(value)) for value in values])
    return jax.tree.map(filled, world.initial())


def numbers(latent: Latent) -> list[float]:
    return latent.deter[:, 0].tolist()


SEEN = latent(range(10, 10 + N))


@pytest.fixture
def going() -> Paths:
    return Paths(latent(range(P)), jnp.zeros(P, bool), jnp.float32(LENGTH))


def test_none_has_begun_and_all_begin_where_something_was_seen():
    world = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)))
    paths = Paths.init(world.initial(), P, LENGTH)
    chex.assert_trees_all_equal_shapes_and_dtypes(paths.state, latent(range(P)))
    real = jnp.asarray([False, True, False, True, True, False])
    found = set()
    for seed in range(20):
        begun = paths.begun(SEEN, real, 0, key=jr.key(seed))
        start = begun.state
        assert begun.real.all() and begun.anew.all()
        assert numbers(start) == [10.0 + i for i in begun.chosen.tolist()]
        for leaf in jax.tree.leaves(start):  # all of a state, not a mixture
            np.testing.assert_array_equal(leaf.reshape(P, -1)[:, 0], start.deter[:, 0])
        found |= set(numbers(start))
    assert found == {11.0, 13.0, 14.0}


def test_those_that_are_over_begin_anew_and_so_does_a_share_of_the_others(going):
    real = jnp.ones(N, bool)
    begun = going.begun(SEEN, real, 0, key=jr.key(0))
    assert numbers(begun.state) == [0, 1, 2, 3] and begun.real.all() and not begun.anew.any()
    over = Paths(going.state, jnp.asarray([False, True, False, False]), going.length)
    start = over.begun(SEEN, real, 0, key=jr.key(0)).state
    assert numbers(start)[1] >= 10 and [numbers(start)[i] for i in (0, 2, 3)] == [0, 2, 3]
    anew = [
        np.mean(
            np.array(numbers(going.begun(SEEN, real, LENGTH // 4, key=jr.key(seed)).state)) >= 10
        )
        for seed in range(200)
    ]
    assert np.mean(anew) == pytest.approx(0.25, abs=0.05)


def test_a_batch_without_any_state_begins_nothing(going):
    real = jnp.zeros(N, bool)
    over = Paths(going.state, jnp.asarray([True, False, False, True]), going.length)
    begun = over.begun(SEEN, real, 0, key=jr.key(0))
    assert begun.real.tolist() == [False, True, True, False]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(begun.state))


def test_paths_end_as_often_as_the_simulator_says(going):
    goes_on = 1.0 - 1.0 / HORIZON
    discount = jnp.stack([jnp.full(P, goes_on)] * (H - 1) + [goes_on * jnp.asarray([1, 0, 0.5, 1])])
    real = jnp.asarray([True, True, True, False])
    over = np.array([
        going.after(latent(range(P)), discount, real, HORIZON, key=jr.key(seed)).over
        for seed in range(200)
    ])  # fmt: skip
    assert not over[:, 0].any() and over[:, 1].all() and over[:, 3].all()
    assert over[:, 2].mean() == pytest.approx(0.5, abs=0.1)


def test_no_path_goes_on_from_what_is_not_finite(going):
    last = latent([5.0, np.nan, 7.0, np.inf])
    discount = jnp.full((H, P), 1.0 - 1.0 / HORIZON)
    after = going.after(last, discount, jnp.ones(P, bool), HORIZON, key=jr.key(0))
    assert after.over.tolist() == [False, True, False, True]
    assert numbers(after.state) == [5.0, 1.0, 7.0, 3.0]
