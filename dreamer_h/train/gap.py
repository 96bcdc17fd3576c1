"""The exploitation gap: what the simulator promises for the policy, and what reality pays."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dreamer_h.train.evaluate import Episode
from dreamer_h.train.state import Agent
from dreamer_h.types import Sequence

LENGTH = 64  # agent steps over which rewards are summed, without a discount
STARTS = (16, 116, 216, 316)  # agent steps into the episode; those that it reaches


@jax.jit
def _promised(
    agent: Agent,
    sequence: Sequence,
    starts: Int[Array, " N"],
    lengths: Int[Array, " N"],
    *,
    key: Array,
) -> Float[Array, " N"]:
    """Imagined rewards summed over `lengths` agent steps, at most LENGTH, from each start."""
    start_key, imagine_key = jr.split(key)
    path = agent.world.start(sequence, key=start_key)

    def one(start, length, key):
        latent = jax.tree.map(lambda leaf: leaf[start], path)
        policy = lambda latent, key: agent.behaviour.policy(latent.features).sample(key)
        imagined = agent.world.imagine(latent, policy, LENGTH, key=key)
        # index 0 is the start itself: its reward was paid before
        reward = agent.world.reward_of(imagined.latent.features[1:]).mean
        return jnp.where(jnp.arange(LENGTH) < length, reward, 0.0).sum()

    return jax.vmap(one)(starts, lengths, jr.split(imagine_key, len(starts)))


def imagined_and_real(agent: Agent, episodes: list[Episode]) -> tuple[float, float] | None:
    """Mean return of LENGTH agent steps of the sampled policy, imagined and real.

    Both from the same states of the sampled episodes. Where an episode ends earlier, so do both
    sums; the means are per LENGTH steps all the same. None if no episode reaches the first start.
    """
    promised, paid, steps = [], [], 0
    for episode in episodes:
        starts = [start for start in STARTS if start < len(episode.action)]
        if not episode.sampled or not starts:
            continue
        lengths = [min(LENGTH, len(episode.action) - start) for start in starts]
        upto = max(starts)
        falses = np.zeros(upto + 1, bool)
        sequence = Sequence(
            obs=episode.obs[: upto + 1],
            action=episode.action[:upto],
            reward=episode.reward[: upto + 1],
            is_first=np.arange(upto + 1) == 0,
            is_terminal=falses,
            mask=~falses,
        )
        key = jr.key(len(promised))
        found = _promised(agent, sequence, jnp.asarray(starts), jnp.asarray(lengths), key=key)
        promised += np.asarray(found).tolist()
        paid += [float(episode.reward[s + 1 : s + 1 + LENGTH].sum()) for s in starts]
        steps += sum(lengths)
    if not promised:
        return None
    return float(np.sum(promised)) * LENGTH / steps, float(np.sum(paid)) * LENGTH / steps
