from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamer_h.behaviour.returns import lambda_return

LAMBDAS = (0.0, 0.95, 1.0)
compiled = {value: jax.jit(partial(lambda_return, lambda_=value)) for value in LAMBDAS}


@st.composite
def paths(draw):
    """(rewards, discounts, values): 1 to 5 steps, some of them terminal."""
    steps = draw(st.integers(1, 5))
    numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
    discounts = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.5, 1.0, width=32))
    array = lambda elements: draw(hnp.arrays(np.float32, steps, elements=elements))
    return array(numbers), array(discounts), array(numbers)


@settings(deadline=None, max_examples=60)
@given(paths(), st.sampled_from(LAMBDAS))
def test_the_recursion_equals_the_mixture_of_n_step_returns(path, lambda_):
    found = compiled[lambda_](*map(jnp.asarray, path))
    # sums of up to 6 numbers of 1e3 that may cancel
    np.testing.assert_allclose(found, oracles.lambda_return(*path, lambda_), rtol=1e-4, atol=5e-3)


def test_nothing_behind_a_terminal_step_counts():
    reward, value = jnp.asarray([1.0, 2.0, 4.0, 8.0]), jnp.asarray([5.0, 6.0, 7.0, 8.0])
    discount = jnp.asarray([0.9, 0.0, 0.9, 0.9])
    found = compiled[0.95](reward, discount, value)
    other = compiled[0.95](reward.at[2:].set(1e6), discount, value.at[1:].set(-1e6))
    np.testing.assert_array_equal(found[:2], other[:2])
    assert float(found[1]) == 2.0


@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_the_true_value_of_a_constant_reward_is_a_fixed_point(lambda_):
    ones = jnp.ones(5)
    found = compiled[lambda_](ones, 0.9 * ones, 10.0 * ones)
    np.testing.assert_allclose(found, 10.0, rtol=1e-6)


def test_unequal_lengths_are_refused():
    with pytest.raises(Exception, match="shape|H"):
        lambda_return(jnp.ones(3), jnp.ones(3), jnp.ones(4), 0.95)
