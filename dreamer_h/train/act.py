"""Acting: the posterior follows the real observations, one step per environment."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int32, Shaped

from dreamer_h.train.state import Agent
from dreamer_h.types import Latent, Stack
from dreamer_h.world.level import forget


class Memory(eqx.Module):
    """What acting carries from one step to the next, for E environments."""

    latent: Latent | Stack  # (E, ...)
    action: Float[Array, "E A"]  # the last one
    noise: Float[Array, "E A"]  # what it was drawn with, standard normal
    intent: Float[Array, "E V"] | None = None  # the subgoal, where a manager gives one


def init_memory(agent: Agent, environments: int, action: int) -> Memory:
    """Zeros: the first step of an episode forgets anyway."""
    repeated = lambda tree: jax.tree.map(
        lambda leaf: jnp.zeros((environments, *leaf.shape), leaf.dtype), tree
    )
    latent = repeated(agent.world.initial())
    zeros = jnp.zeros((environments, action), jnp.float32)
    behaviour: Any = agent.behaviour  # of either kind: each goes with its own world
    return Memory(latent, zeros, zeros, repeated(behaviour.no_intent(agent.world)))


@partial(jax.jit, static_argnames="seed")
def act(
    agent: Agent,
    memory: Memory,
    obs: Shaped[Array, "E ..."],
    is_first: Bool[Array, " E"],
    sample: Bool[Array, " E"],
    step: Int32[Array, ""],
    correlation: float | Float[Array, ""] = 0.0,
    *,
    seed: int,
) -> tuple[Memory, Float[Array, "E A"]]:
    """Observes, intends and acts. Where `sample` both are drawn, elsewhere they are likeliest.
    `correlation` is that of a draw's noise with the noise of the step before.

    `seed` and the counter `step` make the randomness, so that a resumed run repeats it. Actions
    are clipped to the box [-1, 1], which is also what the replay keeps of them.
    """
    observe_key, act_key = jr.split(jr.fold_in(jr.key(seed), step))
    intend_keys = jr.split(jr.fold_in(act_key, 1), len(obs))
    latent = forget(memory.latent, is_first)
    last_action, last_noise = (
        jnp.where(is_first[:, None], 0.0, last) for last in (memory.action, memory.noise)
    )
    latent = jax.vmap(lambda *inputs, key: agent.world.observe(*inputs, key=key))(
        latent, last_action, obs, key=jr.split(observe_key, len(obs))
    )
    behaviour: Any = agent.behaviour
    intend = lambda *inputs, key: behaviour.intend(agent.world, *inputs, key=key)
    intent = jax.vmap(intend)(latent, memory.intent, sample, key=intend_keys)
    policy = behaviour.acting(latent, intent)
    lean = jnp.where(is_first, 0.0, correlation)[:, None]
    noise = lean * last_noise + jnp.sqrt(1.0 - lean**2) * jr.normal(act_key, last_action.shape)
    action = jnp.where(sample[:, None], policy.draw(noise), policy.mode)
    action = jnp.clip(action, -1.0, 1.0)
    return Memory(latent, action, noise, intent), action
