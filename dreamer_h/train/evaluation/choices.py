"""What a manager chooses where it really stood: how freely, how far from the usual, and what."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.manager import choice_of, macro_of
from dreamer_h.behaviour.replayed import Replayed
from dreamer_h.nn.fsq import LEVELS
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.state import Agent
from dreamer_h.types import Sequence
from dreamer_h.world.upper.hierarchy import Hierarchy


@dataclass(frozen=True)
class Chosen:
    """A manager's macro-actions: M dimensions with C values each, chosen apart."""

    share: Float[np.ndarray, "M C"]  # in which it chooses each value
    usual: Float[np.ndarray, "M C"]  # in which its prior does
    entropy: float  # nats of a whole macro-action, mean over segments
    prior_nats: float  # KL of the choice to the prior, likewise

    @property
    def scalars(self) -> dict[str, float]:
        """For the log; `macro_perplexity` is how many values of a dimension are in use, its mean
        over dimensions."""
        nats = -(self.share * np.log(self.share)).sum(axis=-1)
        return {
            "manager/entropy": self.entropy,
            "manager/prior_nats": self.prior_nats,
            "manager/macro_perplexity": float(np.exp(nats).mean()),
        }


def choices(agent: Agent, episodes: list[Episode]) -> Chosen | None:
    """At the beginning of every whole segment of the sampled episodes; None without a manager, or
    without such a segment."""
    behaviour = agent.behaviour
    if not isinstance(behaviour, ManagerWorker):
        return None
    found: list[list[np.ndarray]] = []
    for number, episode in enumerate(e for e in episodes if e.sampled):
        whole = episode.segments(behaviour.stride)
        if whole is not None:
            sequence, count = whole
            told = _choices(agent, sequence, key=jr.key(number))
            found.append([np.asarray(values)[:count] for values in told])
    if not found:
        return None
    share, usual, entropy, away = map(np.concatenate, zip(*found, strict=True))
    means = float(entropy.mean()), float(away.mean())
    return Chosen(share.mean(axis=0), usual.mean(axis=0), *means)


@jax.jit
def _choices(
    agent: Agent, sequence: Sequence, *, key: Array
) -> tuple[Float[Array, "N M C"], Float[Array, "N M C"], Float[Array, " N"], Float[Array, " N"]]:
    """Probabilities of the manager and of its prior, entropy and KL, for each segment."""
    world, behaviour = agent.world, agent.behaviour
    assert isinstance(world, Hierarchy) and isinstance(behaviour, ManagerWorker)
    seen = world.start(sequence, key=key)
    of_one = jax.tree.map(lambda leaf: leaf[None], (sequence, seen))
    standing = Replayed.of(world, *of_one).post.standing
    policy = behaviour.manager.policy(standing.features)
    usual = behaviour.manager.usual(cast(Array, standing.obs))
    share, of_prior = jnp.exp(policy.log_probs), jnp.exp(usual.log_probs)
    return share, of_prior, policy.entropy(), policy.kl(usual)


def picture(chosen: Chosen) -> Figure:
    """Which macro-actions are used, beside those that replayed segments came to."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    values = np.asarray(macro_of(choice_of(jnp.arange(LEVELS))))
    shown: Any = None
    for axis, name, share in zip(
        axes, ("manager", "prior: what was done"), (chosen.share, chosen.usual), strict=True
    ):
        shown = axis.imshow(share, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(LEVELS), [f"{value:g}" for value in values])
        axis.set_yticks(range(len(share)), [str(1 + i) for i in range(len(share))])
        axis.set_xlabel("value", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("dimension of the macro code", fontsize=8)
    figure.colorbar(shown, ax=axes, label="share of choices")
    return figure
