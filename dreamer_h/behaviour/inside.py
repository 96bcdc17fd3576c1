"""Following an agent's policy inside the simulator, one path at a time; `vmap` it for more."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import ActorCritic
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.types import Imagined, Latent, Stack
from dreamer_h.world.upper.hierarchy import AnyWorld

Behaviour = ActorCritic | ManagerWorker


def followed(
    world: AnyWorld,
    behaviour: Behaviour,
    start: Latent | Stack,
    length: int,
    *,
    key: PRNGKeyArray,
) -> tuple[Imagined, Float[Array, "H V"] | None]:
    """H agent steps of level 0 under the sampled policy, and what a manager intended at each.

    A manager sets a subgoal at the start, wherever in a segment that is.
    """
    begin_key, key = jr.split(key)
    yes = jnp.bool_(True)
    # of either kind: each behaviour goes with its own world and latents
    simulator: Any = world
    policies: Any = behaviour
    intent = policies.intend(world, start, None, yes, key=begin_key)

    def step(carried, key):
        latent, intent = carried
        act_key, step_key, intend_key = jr.split(key, 3)
        action = policies.acting(latent, intent).sample(act_key)
        following = simulator.step(latent, action, key=step_key)
        after = policies.intend(world, following, intent, yes, key=intend_key)
        return (following, after), (following, action, intent)

    _, (states, actions, intents) = jax.lax.scan(step, (start, intent), jr.split(key, length))
    path = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states)
    return Imagined(path, actions), intents
