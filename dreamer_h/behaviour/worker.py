"""The policy of level 0 under a manager: it learns in short segments, each with a subgoal."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import ActorCritic, Rollout
from dreamer_h.behaviour.attitude import INDIFFERENT, Attitude
from dreamer_h.behaviour.manager import Manager, proposed
from dreamer_h.behaviour.returns import lambda_return, survival
from dreamer_h.behaviour.subgoal import aimed, distance, subgoal
from dreamer_h.nn.distributions import BoundedNormal, TwoHot
from dreamer_h.nn.recurrent import frugal
from dreamer_h.types import Latent
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.upper.jump import anchor_vector

stop = jax.lax.stop_gradient


class Post(eqx.Module):
    """Where a segment may begin: level 0, and what level 1 stands on there."""

    ground: Latent  # (B, ...)
    standing: Latent  # (B, ...)
    doubt: Float[Array, "*B"]  # nats of level 0 since something was seen

    @classmethod
    def seen(cls, ground: Latent, standing: Latent) -> "Post":
        """Where something was seen just now."""
        return cls(ground, standing, jnp.zeros(ground.deter.shape[:-1], jnp.float32))


class Segment(eqx.Module):
    """Where a worker is sent from, and the subgoal."""

    post: Post
    goal: Float[Array, "B V"]
    told: Float[Array, " B"]  # nats of level 1's doubt in the jump that led to the subgoal


class Attempt(eqx.Module):
    """How B segments went."""

    before: Float[Array, " B"]  # distance from the subgoal where they began
    after: Float[Array, " B"]  # and where they ended
    post: Post  # there
    discount: Float[Array, "K B"]  # probability to go on, times the discount, of each step
    worth: Float[Array, " B"]  # to the manager: what is paid on the way and its value at the end
    relied: Bool[Array, " B"]  # where they ended


def attempt(
    world: Hierarchy,
    worker: ActorCritic,
    manager: Manager,
    segment: Segment,
    spread: Float[Array, " X"] | None,
    *,
    goal_weight: Float[Array, ""],
    within: Float[Array, ""],
    gradient: Literal["reinforce", "dynamics"],
    lambda_: float,
    attitude: Attitude = INDIFFERENT,
    key: PRNGKeyArray,
) -> tuple[Rollout, Attempt]:
    """Follows the worker in level 0 for one segment from every start (B, ...), and scores it.

    The return is the task's reward, `goal_weight` times the progress to the subgoal until it is
    `within` that distance, where it counts as reached, and, at the segment's end, the worker's own
    value under what the manager would ask for next: the manager's value knows nothing finer than a
    jump, and moves as much by its draws as by eight actions.
    Gradients, and an end where level 0 is not relied upon any more, as in `actor_critic.imagine`.
    """
    world, manager, segment, critic = stop((world, manager, segment, worker.critic))
    actor = worker.actor if gradient == "dynamics" else stop(worker.actor)
    stride, count = world.strides[0], len(segment.goal)
    roll_key, end_key, ask_key = jr.split(key, 3)

    def step(ground, inputs):
        phase, key = inputs
        act_key, step_key = jr.split(key)
        features = aimed(ground, segment.goal, jnp.full(count, phase), stride)
        action = BoundedNormal.from_outputs(actor(features)).sample(act_key)
        keys = jr.split(step_key, count)
        following = jax.vmap(lambda *inputs, key: world.base.step(*inputs, key=key))(
            ground, action, key=keys
        )
        return following, (features, action, ground, following)

    inputs = (jnp.arange(stride), jr.split(roll_key, stride))
    last, (features, action, before, path) = jax.lax.scan(frugal(step), segment.post.ground, inputs)
    reward = world.base.reward_of(path.features).mean
    discount = world.base.continue_of(path.features).mean
    goal = jnp.broadcast_to(segment.goal, (stride, *segment.goal.shape))
    away = distance(world, path, goal, spread)
    first = distance(world, segment.post.ground, segment.goal, spread)
    lacking = jnp.maximum(jnp.concatenate([first[None], away]) - within, 0.0)
    progress = lacking[:-1] - lacking[1:]

    stood = _stood_after(world, segment.post.standing, action, last, end_key)
    asked = jax.vmap(lambda standing, key: _asked(world, manager, standing, key))(
        stood, jr.split(ask_key, count)
    )
    onward = aimed(last, asked, jnp.zeros(count, jnp.int32), stride)
    value, end = TwoHot(critic(features)).mean, TwoHot(critic(onward)).mean
    following = jnp.concatenate([value[1:], end[None]])
    worth, mixing, alive, doubt = reward, lambda_, survival(discount), segment.post.doubt
    weight = alive
    if attitude.cares:
        told = world.information_of(before.features, action)
        worth, since = attitude.worth(reward, told), doubt + jnp.cumsum(told, axis=0)
        mixing, weight = attitude.ended(since, lambda_, alive)
        doubt = since[-1]
    returns = lambda_return(worth + goal_weight * progress, discount, following, mixing)
    paid = attitude.worth((alive * reward).sum(0), segment.told)
    whole = paid + alive[-1] * discount[-1] * manager.value(stood.features).mean
    rollout = Rollout(features, action, reward, value, returns, stop(weight))
    post, relied = Post(last, stood, doubt), attitude.relied(doubt)
    return rollout, stop(Attempt(first, away[-1], post, discount, whole, relied))


def _asked(
    world: Hierarchy, manager: Manager, standing: Latent, key: PRNGKeyArray
) -> Float[Array, " V"]:
    """A subgoal that the manager would set there."""
    choose_key, jump_key = jr.split(key)
    choice = manager.policy(standing.features).sample(choose_key)
    return subgoal(proposed(world.jumps[0], standing, choice, key=jump_key)[1])


def _stood_after(
    world: Hierarchy, standing: Latent, action: Float[Array, "K B A"], last: Latent, key
) -> Latent:
    """Level 1 (B, ...) where a segment has led level 0."""
    jump = world.jumps[0]

    def one(standing, actions, ground, key):
        code_key, key = jr.split(key)
        vector = anchor_vector(world.drawn(world.arrived(ground), code_key), ground.obs)
        return jump.observe(standing, jump.chunk.of(actions, standing.obs), vector, key=key)

    keys = jr.split(key, action.shape[1])
    return jax.vmap(one)(standing, jnp.moveaxis(action, 1, 0), last, keys)
