"""The block GRU: a recurrent cell whose state is split into groups that mix through its inputs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.nn.layers import Block, BlockLinear, RMSNorm, truncated_normal


class BlockGRU(eqx.Module):
    """Recurrent core of the RSSM, as DreamerV3's current code has it.

    The state, the code and the action are embedded apart. Every block of the state sees its own
    slice of the state and all embeddings, goes through one hidden layer, and is gated.
    """

    embed_state: Block
    embed_code: Block
    embed_action: Block
    hidden_state: BlockLinear  # own slice of the state -> hidden, per block
    hidden_embedding: Float[Array, "embedding D"]  # the shared embeddings -> hidden
    hidden_norm: RMSNorm
    gates: BlockLinear
    blocks: int = eqx.field(static=True)

    def __init__(
        self, code: int, action: int, deter: int, hidden: int, blocks: int, *, key: PRNGKeyArray
    ):
        state_key, code_key, action_key, own_key, shared_key, gate_key = jr.split(key, 6)
        self.embed_state = Block(deter, hidden, key=state_key)
        self.embed_code = Block(code, hidden, key=code_key)
        self.embed_action = Block(action, hidden, key=action_key)
        # Together these two are one block-diagonal layer on [slice, embeddings]; apart, the shared
        # half is a single matrix product. Fan-in is that of the joint layer.
        fan_in = deter + blocks * 3 * hidden
        own = BlockLinear(deter, deter, blocks, key=own_key)
        self.hidden_state = eqx.tree_at(
            lambda layer: layer.weight, own, own.weight * (deter / fan_in) ** 0.5
        )
        self.hidden_embedding = truncated_normal(shared_key, (3 * hidden, deter), fan_in)
        self.hidden_norm = RMSNorm(deter)
        self.gates = BlockLinear(deter, 3 * deter, blocks, key=gate_key)
        self.blocks = blocks

    def embed(self, action: Float[Array, "*B A"]) -> Float[Array, "*B hidden"]:
        """The part that does not depend on the state: computed once for a whole sequence."""
        return self.embed_action(boxed(action))

    def __call__(
        self,
        deter: Float[Array, " D"],
        code: Float[Array, " GC"],
        action_embedding: Float[Array, " hidden"],
    ) -> Float[Array, " D"]:
        embedding = jnp.concatenate(
            [self.embed_state(deter), self.embed_code(code), action_embedding], axis=-1
        )
        hidden = self.hidden_state(deter) + embedding @ self.hidden_embedding
        gates = self.gates.by_block(jax.nn.silu(self.hidden_norm(hidden)))
        # Gated block by block, [reset | candidate | update] in each: gathering the gates of all
        # blocks first is four times slower on CPU.
        states = jnp.split(deter, self.blocks, axis=-1)
        return jnp.concatenate(list(map(_gated, states, gates)), axis=-1)


def _gated(state: Float[Array, "*B d"], gates: Float[Array, "*B 3*d"]) -> Float[Array, "*B d"]:
    reset, candidate, update = jnp.split(gates, 3, axis=-1)
    candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
    update = jax.nn.sigmoid(update - 1.0)  # starts by remembering
    return update * candidate + (1.0 - update) * state


def boxed(action: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """What an action comes to: entries beyond the box are scaled back to its edge, without a
    gradient for being there. Policies draw such actions, and replayed ones never are."""
    return action / jax.lax.stop_gradient(jnp.maximum(1.0, jnp.abs(action)))


def frugal(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a scan that keeps for its gradient what the matrix products gave, and no more.

    What lies between them is computed again: on CPU that is cheaper than storing it, which takes
    half of a step's operations.
    """
    policy = jax.checkpoint_policies.dots_saveable
    return jax.checkpoint(step, policy=policy, prevent_cse=False)
