import jax
import jax.numpy as jnp
import pytest

from dreamer_h.nn.multiply_adds import multiply_adds


def count(function, *inputs):
    return multiply_adds(jax.jit(function).trace(*inputs).jaxpr.jaxpr)


def test_multiply_adds_of_products_loops_and_gradients():
    weight, x = jnp.ones((5, 5)), jnp.ones((3, 5))
    once = 3 * 5 * 5
    assert count(lambda w, x: jax.nn.silu(x @ w), weight, x) == once
    loop = lambda w, x: jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=7)[0]
    assert count(loop, weight, x) == 7 * once
    # backwards: one product for the carry, one for the weight
    assert count(jax.grad(lambda w, x: loop(w, x).sum()), weight, x) == 3 * 7 * once
    batched = jax.vmap(loop, in_axes=(None, 0))
    assert count(batched, weight, jnp.ones((4, 3, 5))) == 4 * 7 * once


def test_multiply_adds_of_a_convolution():
    kernel, images = jnp.ones((5, 5, 3, 8)), jnp.ones((2, 16, 16, 3))
    convolve = lambda kernel, images: jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert count(convolve, kernel, images) == 2 * 16 * 16 * 8 * 5 * 5 * 3


def test_products_in_a_loop_of_unknown_length_are_refused():
    loop = lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c, x)
    with pytest.raises(ValueError, match="while loop"):
        count(loop, jnp.ones((2, 2)))
