import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import tiny

from dreamer_h.nn.recurrent import BlockGRU

CODE, ACTION, DETER, HIDDEN, BLOCKS = 4, 2, 6, 5, 3


def make(seed) -> BlockGRU:
    return tiny.weights(lambda: BlockGRU(CODE, ACTION, DETER, HIDDEN, BLOCKS, key=jr.key(0)), seed)


step = jax.jit(lambda cell, deter, code, action: cell(deter, code, cell.embed(action)))


def test_one_step_equals_loops_over_blocks_and_units(seed, normal):
    cell = make(seed)
    deter, code = normal(DETER), normal(CODE)
    action = jnp.asarray([0.4, -3.0])  # the second is beyond the box and is scaled back
    exact = lambda *leaves: tuple(np.float64(leaf) for leaf in leaves)
    layer = lambda block: exact(block.linear.weight, block.linear.bias, block.norm.scale)
    own, own_bias, shared, norm_scale, gates, gates_bias = exact(
        cell.hidden_state.weight,
        cell.hidden_state.bias,
        cell.hidden_embedding,
        cell.hidden_norm.scale,
        cell.gates.weight,
        cell.gates.bias,
    )
    wanted = oracles.block_gru(
        *exact(deter, code, action),
        embed_state=layer(cell.embed_state),
        embed_code=layer(cell.embed_code),
        embed_action=layer(cell.embed_action),
        own=own,
        own_bias=own_bias,
        shared=shared,
        norm_scale=norm_scale,
        gates=gates,
        gates_bias=gates_bias,
    )
    np.testing.assert_allclose(step(cell, deter, code, action), wanted, rtol=1e-4, atol=1e-5)
    # beyond the box an action acts like the edge of the box
    edge = step(cell, deter, code, jnp.asarray([0.4, -1.0]))
    np.testing.assert_allclose(step(cell, deter, code, action), edge, rtol=1e-5, atol=1e-6)


def test_blocks_mix_only_through_the_embedding_and_the_norm(seed, normal):
    cell = make(seed)
    code, action, deter = normal(CODE), normal(ACTION), normal(DETER)
    slope = jax.jit(jax.jacobian(step, argnums=1))
    own = np.kron(np.eye(BLOCKS), np.ones((2, 2))) > 0
    assert np.all(np.asarray(slope(cell, deter, code, action)) != 0.0)
    # deaf to the embedding, and with a norm so small that the state hardly moves it
    deaf = eqx.tree_at(lambda c: c.hidden_embedding, cell, jnp.zeros_like(cell.hidden_embedding))
    deaf = eqx.tree_at(lambda c: c.hidden_state.weight, deaf, 1e-6 * cell.hidden_state.weight)
    across = np.asarray(slope(deaf, deter, code, action))[~own]
    # 1e-6, times the weights of order one
    np.testing.assert_allclose(across, 0.0, atol=1e-4)


def test_start_weights_have_the_fan_in_of_slice_and_embeddings_together(getkey):
    cell = jax.jit(lambda key: BlockGRU(CODE, ACTION, 256, 64, 4, key=key))(getkey())
    std = (256 + 4 * 3 * 64) ** -0.5
    # 16384 draws and more: the standard error is 0.6 % at most
    np.testing.assert_allclose(np.std(cell.hidden_state.weight), std, rtol=0.04)
    np.testing.assert_allclose(np.std(cell.hidden_embedding), std, rtol=0.04)
    np.testing.assert_allclose(np.std(cell.gates.weight), 256**-0.5, rtol=0.04)
