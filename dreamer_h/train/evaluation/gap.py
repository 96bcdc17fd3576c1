"""The exploitation gap: what the simulator promises for the policy, and what reality pays."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.inside import followed
from dreamer_h.behaviour.manager import plan
from dreamer_h.behaviour.returns import survival
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.state import Agent
from dreamer_h.types import Sequence, Stack
from dreamer_h.world.upper.hierarchy import Hierarchy

LENGTH = 64  # agent steps over which rewards are summed
STARTS = (16, 112, 216, 312)  # agent steps into the episode; those that it reaches


@jax.jit
def _promised(
    agent: Agent,
    sequence: Sequence,
    starts: Int[Array, " N"],
    lengths: Int[Array, " N"],
    *,
    key: Array,
) -> dict[str, Float[Array, " N"]]:
    """Imagined rewards summed over `lengths` agent steps, at most LENGTH, from each start; each as
    often as the simulator goes on until there, and discounted as it does."""
    start_key, imagine_key, plan_key = jr.split(key, 3)
    path = agent.world.start(sequence, key=start_key)
    latents = jax.tree.map(lambda leaf: leaf[starts], path)

    def one(latent, length, key):
        imagined, _ = followed(agent.world, agent.behaviour, latent, LENGTH, key=key)
        # index 0 is the start itself: its reward was paid before
        features = imagined.latent.features[1:]
        reward = agent.world.reward_of(features).mean
        alive = survival(agent.world.continue_of(features).mean)
        return jnp.where(jnp.arange(LENGTH) < length, alive * reward, 0.0).sum()

    keys = jr.split(imagine_key, len(starts))
    found = {"imagined": jax.vmap(one)(latents, lengths, keys)}
    if isinstance(agent.behaviour, ManagerWorker):
        found["manager"] = _planned(agent, latents, lengths, plan_key)
    return found


def _planned(
    agent: Agent, stacks: Stack, lengths: Int[Array, " N"], key: Array
) -> Float[Array, " N"]:
    """What level 1 alone promises for so many steps of the manager's choices."""
    world, behaviour = agent.world, agent.behaviour
    assert isinstance(world, Hierarchy) and isinstance(behaviour, ManagerWorker)
    stand_key, key = jr.split(key)
    stand = jax.vmap(lambda stack, key: world.standing(stack, key)[0])
    standing = stand(stacks, jr.split(stand_key, len(lengths)))
    jumps = LENGTH // behaviour.stride
    dreamt = plan(world, behaviour.manager, standing, jumps, lambda_=1.0, reliant=False, key=key)
    within = jnp.arange(jumps)[:, None] * behaviour.stride < lengths
    return jnp.where(within, dreamt.weight * dreamt.reward, 0.0).sum(0)


def promised_and_paid(
    agent: Agent, episodes: list[Episode], horizon: float
) -> dict[str, Float[np.ndarray, " E"]]:
    """Discounted return of LENGTH agent steps of the sampled policy from the same states of each
    sampled episode, the mean of its starts: `imagined` in level 0, `real`, and, of a `manager`, by
    its jumps.

    Where an episode is cut off earlier, so are all sums; where it ends by itself nothing more is
    paid, whatever was promised. `horizon` (agent steps) is the discount's. An episode that does not
    reach the first start is left out; empty if none does.
    """
    found: dict[str, list[float]] = {}
    for number, episode in enumerate(e for e in episodes if e.sampled):
        starts = [start for start in STARTS if start < len(episode.action)]
        if not starts:
            continue
        limit = LENGTH if episode.terminated else 0
        lengths = [min(LENGTH, max(limit, len(episode.action) - start)) for start in starts]
        sequence = episode.beginning(max(starts))
        promised = _promised(
            agent, sequence, jnp.asarray(starts), jnp.asarray(lengths), key=jr.key(number)
        )
        paid = [episode.reward[s + 1 : s + 1 + LENGTH] for s in starts]
        discounts = (1.0 - 1.0 / horizon) ** np.arange(LENGTH)
        real = np.array([rewards @ discounts[: len(rewards)] for rewards in paid])
        for name, values in {**promised, "real": real}.items():
            found.setdefault(name, []).append(float(np.asarray(values).mean()))
    return {name: np.array(values) for name, values in found.items()}
