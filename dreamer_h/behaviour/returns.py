"""Returns over imagined and replayed sequences."""

import chex
import jax
from jaxtyping import Array, Float


def lambda_return(
    reward_tp1: Float[Array, "H *B"],
    discount_tp1: Float[Array, "H *B"],
    value_tp1: Float[Array, "H *B"],
    lambda_: float,
) -> Float[Array, "H *B"]:
    """Lambda-return G_t, Sutton & Barto (2018) eq. 12.18 in recursive form. Time comes first.

    G_t = r_{t+1} + d_{t+1} ((1 - λ) v_{t+1} + λ G_{t+1}), and the last step bootstraps from its
    value alone. Discounts already contain the probability to go on.
    """
    chex.assert_equal_shape([reward_tp1, discount_tp1, value_tp1])

    def step(following, inputs):
        reward, discount, value = inputs
        g = reward + discount * ((1.0 - lambda_) * value + lambda_ * following)
        return g, g

    inputs = (reward_tp1, discount_tp1, value_tp1)
    return jax.lax.scan(step, value_tp1[-1], inputs, reverse=True)[1]
