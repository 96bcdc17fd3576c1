"""Whether a worker really gets to where an episode went: the same moments again, in the real task.

A subgoal that was reached once can be reached; who fails with it is the worker.
"""

from typing import Any, cast

import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Shaped

from dreamer_h.behaviour.hierarchical import anchors_of
from dreamer_h.behaviour.subgoal import distance
from dreamer_h.guard import EnvironmentFault, checked_reset, checked_step
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.state import Agent
from dreamer_h.types import Sequence, Stack


def really_tried(
    agent: Agent,
    env: gym.Env,
    episode: Episode,
    spread: Float[Array, " X"] | None,
    *,
    key: Array,
) -> np.ndarray:
    """Distances at the end, one for each whole segment of the episode, from where it went, in units
    of `spread`.

    The sampled worker begins where each segment of the episode began. `env` is one of the task that
    can be put back (`get_state`, `set_state`); it is left anywhere. Segments in which it fails are
    left out.
    """
    stride = agent.behaviour.stride  # pyright: ignore[reportAttributeAccessIssue]
    bare: Any = env.unwrapped
    count = len(episode.action) // stride
    begin_key, *keys = jr.split(key, 1 + stride)
    stacks, goals = _set_out(agent, episode.beginning(count * stride), key=begin_key)
    moments, whole = list(episode.moments[:count]), np.ones(count, bool)
    try:
        checked_reset(env, 0)  # before which nobody may step; the moments overwrite all of it
    except EnvironmentFault:
        return np.empty(0)
    obs = episode.obs[: count * stride : stride].copy()
    for step_key in keys:
        act_key, see_key = jr.split(step_key)
        action = np.asarray(_acted(agent, stacks, goals, key=act_key))
        for n in np.flatnonzero(whole):
            bare.set_state(moments[n])
            try:
                obs[n], *_ = checked_step(env, action[n].reshape(env.action_space.shape or ()))
            except EnvironmentFault:
                whole[n] = False
                continue
            moments[n] = bare.get_state()
        stacks = _seen(agent, stacks, action, obs, key=see_key)
    return np.asarray(distance(cast(Any, agent.world), stacks.ground, goals, spread))[whole]


@jax.jit
def _set_out(agent: Agent, sequence: Sequence, *, key: Array) -> tuple[Stack, Float[Array, "N V"]]:
    """The states where segments begin, and the anchors where the next ones do."""
    stride = cast(Any, agent.behaviour).stride
    seen = cast(Stack, agent.world.start(sequence, key=key))
    begins = jax.tree.map(lambda leaf: leaf[:-1:stride], seen)
    return begins, anchors_of(seen)[stride::stride]


@jax.jit
def _acted(agent: Agent, stacks: Stack, goals: Float[Array, "N V"], *, key: Array):
    policy = cast(Any, agent.behaviour).acting(stacks, goals)
    return jnp.clip(policy.sample(key), -1.0, 1.0)


@jax.jit
def _seen(
    agent: Agent,
    stacks: Stack,
    action: Float[Array, "N A"],
    obs: Shaped[Array, "N ..."],
    *,
    key: Array,
) -> Stack:
    observe = lambda *inputs, key: cast(Any, agent.world).observe(*inputs, key=key)
    return jax.vmap(observe)(stacks, action, obs, key=jr.split(key, len(obs)))
