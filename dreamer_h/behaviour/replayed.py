"""The segments of replayed windows: where they began, what was done, and what it paid."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dreamer_h.behaviour.actor_critic import value_loss
from dreamer_h.behaviour.attitude import Attitude
from dreamer_h.behaviour.hierarchical import anchors_of
from dreamer_h.behaviour.manager import Manager, choice_of, decided
from dreamer_h.behaviour.returns import lambda_return
from dreamer_h.behaviour.worker import Post
from dreamer_h.config import BehaviourConfig
from dreamer_h.nn import fsq
from dreamer_h.types import Sequence, Stack, merged
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.upper.outcome import Outcome

stop = jax.lax.stop_gradient


class Replayed(eqx.Module):
    """The N segments of each of B replayed windows, side by side (B N, ...)."""

    post: Post  # where they begin
    reached: Float[Array, "M V"]  # the likeliest anchor where they ended
    did: Float[Array, "M K C"]  # the choice that the actions come to
    real: Bool[Array, " M"]  # began before the end
    known: Bool[Array, " M"]  # and were seen to theirs

    @classmethod
    def of(cls, world: Hierarchy, batch: Sequence, seen: Stack) -> "Replayed":
        """`seen` are the posteriors (B, T+1, ...) of the windows."""
        jump, stride = world.jumps[0], world.strides[0]
        # what level 1 stands on where a segment begins is known one step later
        standing = jax.tree.map(lambda leaf: merged(leaf[:, 1::stride]), seen.above[0])
        chunk = jax.vmap(jump.chunk.code)(merged(seen.chunks[0][:, stride::stride]))
        real = (batch.mask & ~batch.is_terminal)[:, :-1:stride].reshape(-1)
        return stop(
            cls(
                post=Post.seen(
                    jax.tree.map(lambda leaf: merged(leaf[:, :-1:stride]), seen.ground), standing
                ),
                reached=merged(anchors_of(seen)[:, stride::stride]),
                did=choice_of(fsq.index(jump.macro.encode(chunk, standing.obs))),
                real=real,
                known=real & batch.mask[:, stride::stride].reshape(-1),
            )
        )


def replay_value(
    dream: Hierarchy,
    manager: Manager,
    slow_critic: Head,
    replayed: Replayed,
    batch: Sequence,
    promised: Float[Array, " M"],
    attitude: Attitude,
    config: BehaviourConfig,
) -> Float[Array, "B N"]:
    """The manager's critic held to what replayed segments paid; the returns `promised` from where
    segments begin stand for the values beyond."""
    bootstrap, stride = promised.reshape(len(batch.mask), -1), dream.strides[0]
    begins = np.arange(bootstrap.shape[1]) * stride
    full = jnp.full(bootstrap.shape[1], stride)
    outcome = jax.vmap(lambda one: Outcome.of(one, begins, full, stride, config.horizon))(batch)
    paid = outcome.reward
    if attitude.pessimism:
        jump, standing = dream.jumps[0], replayed.post.standing
        told = jump.information_of(standing, decided(jump, standing, replayed.did))
        paid = attitude.worth(paid, stop(told).reshape(paid.shape))
    # the last segment of a window has nothing to bootstrap from
    following = jnp.concatenate([bootstrap[:, 1:], jnp.zeros_like(bootstrap[:, :1])], axis=1)
    usable = outcome.way.at[:, -1].set(outcome.way[:, -1] & outcome.ended[:, -1])
    goes_on = jnp.concatenate([usable[:, 1:], jnp.zeros_like(usable[:, :1])], axis=1)
    turned = lambda leaf: jnp.moveaxis(leaf, 1, 0)
    returns = lambda_return(
        turned(paid), turned(outcome.continue_), turned(following),
        turned(config.lambda_ * goes_on),
    )  # fmt: skip
    features = replayed.post.standing.features.reshape(*bootstrap.shape, -1)
    loss = value_loss(manager.value(features), slow_critic, features, turned(returns), config)
    return jnp.where(usable, loss, 0.0)
