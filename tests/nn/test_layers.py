import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
import tiny

from dreamer_h.nn.convolution import Conv, max_pool, upsample
from dreamer_h.nn.layers import MLP, Block, BlockLinear, JointBlock, Linear, RMSNorm

KEY = jr.key(0)


def test_start_weights_keep_the_variance_and_lie_within_two_deviations(getkey):
    weight = np.asarray(Linear(256, 400, key=getkey()).weight)
    std = 1 / np.sqrt(256)
    # 102400 draws: the standard deviation's own standard error is 0.2 %
    np.testing.assert_allclose(weight.std(), std, rtol=0.015)
    assert np.abs(weight).max() <= 2 * 1.1368 * std * 1.0001
    assert np.abs(np.asarray(Linear(4, 5, scale=0.0, key=getkey()).weight)).max() == 0.0


def test_block_linear_start_weights_count_the_full_input_as_fan_in(getkey):
    weight = np.asarray(BlockLinear(512, 512, 8, key=getkey()).weight)
    np.testing.assert_allclose(weight.std(), 1 / np.sqrt(512), rtol=0.03)  # 32768 draws


def test_block_linear_is_a_block_diagonal_matrix(seed, normal):
    layer = tiny.weights(lambda: BlockLinear(6, 9, 3, key=KEY), seed)
    x = normal(5, 6)
    matrix = np.zeros((6, 9))
    for g in range(3):
        matrix[2 * g : 2 * g + 2, 3 * g : 3 * g + 3] = layer.weight[g]
    np.testing.assert_allclose(layer(x), x @ matrix + np.asarray(layer.bias), rtol=1e-4, atol=1e-5)


def test_block_linear_refuses_sizes_that_do_not_divide():
    with pytest.raises(AssertionError):
        BlockLinear(6, 9, 4, key=KEY)


def test_rms_norm_follows_its_equation_and_keeps_the_dtype(seed, normal):
    norm = tiny.weights(lambda: RMSNorm(7), seed)
    x = normal(3, 7, scale=5.0)
    wanted = [oracles.rms_norm(row, norm.scale) for row in x]
    np.testing.assert_allclose(norm(x), wanted, rtol=1e-5)
    assert norm(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    np.testing.assert_array_equal(norm(jnp.zeros(7)), 0.0)  # no 0 / 0


def test_a_block_is_linear_then_norm_then_silu_and_an_mlp_is_blocks_in_a_row(seed, normal):
    mlp = tiny.weights(lambda: MLP(4, 5, 2, key=KEY), seed)
    x = normal(4)
    wanted = np.asarray(x)
    for block in mlp.blocks:
        linear = block.linear
        wanted = oracles.dense(wanted, np.asarray(linear.weight), np.asarray(linear.bias))
        wanted = oracles.silu(oracles.rms_norm(wanted, block.norm.scale))
    np.testing.assert_allclose(mlp(x), wanted, rtol=1e-4, atol=1e-5)


def test_a_joint_block_equals_a_block_on_the_concatenation(seed, normal):
    joint = tiny.weights(lambda: JointBlock((3, 4), 5, key=KEY), seed)
    block = tiny.weights(lambda: Block(7, 5, key=KEY))
    values = (jnp.concatenate(joint.weights), joint.bias, joint.norm)
    block = eqx.tree_at(lambda b: (b.linear.weight, b.linear.bias, b.norm), block, values)
    x, y = normal(6, 3), normal(6, 4)
    found = joint(joint.share(0, x), joint.share(1, y))
    np.testing.assert_allclose(found, block(jnp.concatenate([x, y], -1)), rtol=1e-4, atol=1e-5)


def test_a_convolution_sums_over_its_neighbourhood_with_zeros_around(seed, normal):
    conv = tiny.weights(lambda: Conv(2, 3, key=KEY), seed)
    images = normal(2, 2, 6, 4, 2)
    found, weight, bias = np.asarray(conv(images)), np.asarray(conv.weight), np.asarray(conv.bias)
    for i in range(2):
        for j in range(2):
            wanted = oracles.conv_same(np.asarray(images[i, j]), weight, bias)
            np.testing.assert_allclose(found[i, j], wanted, rtol=1e-4, atol=1e-5)


def test_pooling_takes_the_maximum_of_squares_and_upsampling_makes_squares():
    image = jnp.arange(16.0).reshape(4, 4, 1)
    np.testing.assert_array_equal(max_pool(image)[..., 0], [[5, 7], [13, 15]])
    grown = upsample(max_pool(image))
    np.testing.assert_array_equal(grown[:2, :2], 5)
    np.testing.assert_array_equal(grown[2:, 2:], 15)
    np.testing.assert_array_equal(max_pool(upsample(image)), image)
