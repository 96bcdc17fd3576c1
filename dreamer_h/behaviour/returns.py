"""Returns over imagined and replayed sequences."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def survival(discount_tp1: Float[Array, "H *B"]) -> Float[Array, "H *B"]:
    """The probability, times the discount, that a path is still alive at each of its steps, time
    first. The first counts fully: it was visited."""
    before = jnp.concatenate([jnp.ones_like(discount_tp1[:1]), discount_tp1[:-1]])
    return jnp.cumprod(before, axis=0)


def lambda_return(
    reward_tp1: Float[Array, "H *B"],
    discount_tp1: Float[Array, "H *B"],
    value_tp1: Float[Array, "H *B"],
    lambda_: float | Float[Array, "H *B"],
) -> Float[Array, "H *B"]:
    """Lambda-return G_t, Sutton & Barto (2018) eq. 12.18 in recursive form. Time comes first.

    G_t = r_{t+1} + d_{t+1} ((1 - λ) v_{t+1} + λ G_{t+1}), and the last step bootstraps from its
    value alone. Discounts already contain the probability to go on. Where `lambda_` is an array,
    its 0 ends the return: that step bootstraps from its value alone.
    """
    chex.assert_equal_shape([reward_tp1, discount_tp1, value_tp1])

    def step(following, inputs):
        reward, discount, value, mixing = inputs
        g = reward + discount * ((1.0 - mixing) * value + mixing * following)
        return g, g

    inputs = (reward_tp1, discount_tp1, value_tp1, jnp.broadcast_to(lambda_, reward_tp1.shape))
    return jax.lax.scan(step, value_tp1[-1], inputs, reverse=True)[1]
