import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from dreamer_h.nn.optimizer import clip_per_tensor, laprop

NUMBERS = dict(clip=0.3, warmup=4, decay=0.99, momentum=0.8, eps=1e-20)


def test_several_updates_equal_the_equations_tensor_after_tensor(normal):
    # a large and a small tensor, one at zero (its norm counts as 1e-3), one never touched
    params = [normal(3, 4, scale=10.0), normal(5, scale=0.1), jnp.zeros(3), jnp.ones(2)]
    sizes = [1.0, 10.0, 1.0, 0.0]  # below the clip, far above it, above it, no gradient at all
    oracle = oracles.LaProp(params, 0.05, **NUMBERS)
    chain = laprop(0.05, **NUMBERS)
    state, update = chain.init(params), jax.jit(chain.update)
    for i in range(7):
        gradient = [normal(*p.shape, scale=s) for s, p in zip(sizes, params, strict=True)]
        if i == 5:
            gradient = [jnp.zeros_like(g) for g in gradient]
        steps, state = update(gradient, state, params)
        params = [p + s for p, s in zip(params, steps, strict=True)]
        for found, wanted in zip(params, oracle.update(gradient), strict=True):
            # each step has size about the learning rate; float32 rounding, seven times over
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(params[3], 1.0)


def test_the_clip_scales_a_whole_tensor_and_leaves_small_gradients_alone():
    params = {"w": jnp.full((2, 2), 2.0), "zero": jnp.zeros(2)}  # norms 4 and 0
    gradient = {"w": jnp.asarray([[3.0, 0.0], [0.0, 4.0]]), "zero": jnp.asarray([3.0, 4.0])}
    clip = clip_per_tensor(0.5)
    found, _ = clip.update(gradient, clip.init(params), params)
    np.testing.assert_allclose(found["w"], gradient["w"] * 2.0 / 5.0, rtol=1e-6)
    np.testing.assert_allclose(found["zero"], gradient["zero"] * 0.5e-3 / 5.0, rtol=1e-6)
    small = jax.tree.map(lambda g: 1e-5 * g, gradient)
    found, _ = clip.update(small, clip.init(params), params)
    np.testing.assert_array_equal(found["w"], small["w"])


@pytest.mark.parametrize("warmup", [0, 1])
def test_the_shortest_warm_ups_reach_the_full_learning_rate(warmup):
    params = jnp.ones(3)
    chain = laprop(0.1, warmup=warmup)
    state = chain.init(params)
    for _ in range(2):
        steps, state = chain.update(jnp.full(3, 0.01), state, params)
    # equal gradients: the root mean square divides them out
    np.testing.assert_allclose(steps, -0.1, rtol=1e-4)
