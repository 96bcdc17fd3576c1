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
STARTS = (16, 116, 216, 316)  # agent steps into the episode


@jax.jit
def _promised(
    agent: Agent, sequence: Sequence, starts: Int[Array, " N"], *, key: Array
) -> Float[Array, " N"]:
    start_key, imagine_key = jr.split(key)
    path = agent.world.start(sequence, key=start_key)

    def one(start, key):
        latent = jax.tree.map(lambda leaf: leaf[start], path)
        policy = lambda latent, key: agent.behaviour.policy(latent.features).sample(key)
        imagined = agent.world.imagine(latent, policy, LENGTH, key=key)
        # index 0 is the start itself: its reward was paid before
        return agent.world.reward_of(imagined.latent.features[1:]).mean.sum()

    return jax.vmap(one)(starts, jr.split(imagine_key, len(starts)))


def imagined_and_real(agent: Agent, episodes: list[Episode]) -> tuple[float, float] | None:
    """Mean return over LENGTH agent steps of the sampled policy, imagined and real.

    Both from the same states of the sampled episodes. None if no episode is long enough.
    """
    promised, paid = [], []
    for episode in episodes:
        starts = [start for start in STARTS if start + LENGTH <= len(episode.action)]
        if not episode.sampled or len(starts) < len(STARTS):
            continue
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
        found = _promised(agent, sequence, jnp.asarray(starts), key=jr.key(len(promised)))
        promised += np.asarray(found).tolist()
        paid += [float(episode.reward[s + 1 : s + 1 + LENGTH].sum()) for s in starts]
    if not promised:
        return None
    return float(np.mean(promised)), float(np.mean(paid))
