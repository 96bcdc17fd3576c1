"""Manager and worker: what they are, and what they intend."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import ActorCritic
from dreamer_h.behaviour.manager import Manager, proposed
from dreamer_h.behaviour.subgoal import aimed, aimed_size, subgoal
from dreamer_h.config import BehaviourConfig
from dreamer_h.nn.distributions import BoundedNormal
from dreamer_h.types import Stack
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.upper.jump import anchor_vector

stop = jax.lax.stop_gradient


class ManagerWorker(eqx.Module):
    """The manager intends a subgoal once per segment; the worker acts towards it."""

    manager: Manager
    worker: ActorCritic
    stride: int = eqx.field(static=True)

    def __init__(self, world: Hierarchy, action: int, config: BehaviourConfig, *, key):
        manager_key, worker_key = jr.split(key)
        self.manager = Manager(world, config, key=manager_key)
        self.worker = ActorCritic(aimed_size(world), action, config, key=worker_key)
        self.stride = world.strides[0]

    def no_intent(self, world: Hierarchy) -> Float[Array, " V"]:
        """Before the first observation."""
        level = world.base.level
        return jnp.zeros(level.groups * level.classes + world.base.carried, jnp.float32)

    def intend(
        self,
        world: Hierarchy,
        stack: Stack,
        intent: Float[Array, " V"] | None,
        sample: Bool[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " V"]:
        """The subgoal at one moment: a new one where a segment begins, counted from the episode's
        start, or where there is none yet. Where `sample` the manager's choice is drawn, elsewhere
        its likeliest."""
        stand_key, choose_key, jump_key = jr.split(key, 3)
        standing = world.standing(stack, stand_key)[0]
        policy = self.manager.policy(standing.features)
        choice = jnp.where(sample, policy.sample(choose_key), policy.mode)
        _, outlook = proposed(world.jumps[0], standing, choice, key=jump_key)
        new = subgoal(outlook)
        return new if intent is None else jnp.where(self._phase(stack) == 0, new, intent)

    def acting(self, stack: Stack, intent: Float[Array, "*B V"]) -> BoundedNormal:
        """What the worker does; leading axes are free."""
        return self.worker.policy(aimed(stack.ground, intent, self._phase(stack), self.stride))

    @property
    def actors(self) -> tuple[Head, Head]:
        """Of manager and worker."""
        return self.manager.actor, self.worker.actor

    @property
    def critics(self) -> tuple[Head, Head]:
        """Of manager and worker."""
        return self.manager.critic, self.worker.critic

    def _phase(self, stack: Stack):
        return (stack.steps - 1) % self.stride


def anchors_of(seen: Stack) -> Float[Array, "*B V"]:
    """The likeliest anchor at every moment; leading axes are free."""
    likeliest = jax.nn.one_hot(jnp.argmax(seen.here, axis=-1), seen.here.shape[-1])
    return anchor_vector(likeliest, seen.ground.obs)
