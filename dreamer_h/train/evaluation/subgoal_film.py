"""An episode with the subgoals that its manager set: beside the state, or as pictures."""

from typing import cast

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped
from matplotlib.figure import Figure

from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.horizon.recorded.layout import fields_of, names_of
from dreamer_h.nn.coordinates import nearest, observation
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.evaluation.openloop_film import swept
from dreamer_h.train.state import Agent
from dreamer_h.world.upper.hierarchy import Hierarchy

SIGNALS = 4  # observation signals drawn
HEIGHT = 192  # pixels of a film of images, at least


def film_of(agent: Agent, episode: Episode, env: gym.Env) -> np.ndarray | None:
    """The film of an episode of this environment: with subgoals, or as the camera saw it."""
    dt = float(getattr(env.unwrapped, "dt", 1.0))
    found = subgoal_film(agent, episode, names_of(fields_of(env)), dt)
    return episode.frames if found is None else found


def subgoal_film(agent: Agent, episode: Episode, names: list[str], dt: float) -> np.ndarray | None:
    """Frames (L+1, height, width, 3) of an episode of L agent steps, `dt` seconds each.

    Of states: the liveliest signals with the subgoals where they should be reached, beside the
    camera where there is one. Of pixels: what is seen, and the decoded subgoal. None without a
    manager.
    """
    if not isinstance(agent.behaviour, ManagerWorker) or episode.intent is None:
        return None
    goals = np.asarray(_decoded(agent, episode.intent, episode.obs[:-1]))
    if episode.obs.ndim == 4:
        return _beside(episode.obs, goals)
    figure = subgoal_picture(episode, goals, names, dt, agent.behaviour.stride)
    return swept(figure, len(episode.obs), dt, episode.frames)


@jax.jit
def _decoded(
    agent: Agent, intent: Float[Array, "L V"], obs: Shaped[Array, "L ..."]
) -> Float[Array, "L ..."]:
    """Observations that the subgoals set at `obs` stand for, in physical units."""
    world = cast(Hierarchy, agent.world)
    if world.base.carried:
        wanted = observation(jnp.asarray(intent)[:, -world.base.carried :], world.angles)
    else:
        standing = jax.vmap(world.jumps[0].begin)(jnp.asarray(intent))
        wanted = world.base.decode(world.ground_at(standing)).obs.mean
    return nearest(wanted, jnp.asarray(obs), world.angles)


def subgoal_picture(
    episode: Episode, goals: np.ndarray, names: list[str], dt: float, stride: int
) -> Figure:
    """Signals over time, and each segment's subgoal (L, O) at the segment's end."""
    shown = np.sort(np.argsort(-episode.obs.std(axis=0), kind="stable")[:SIGNALS])
    figure = Figure(figsize=(6, 1.4 * len(shown) + 0.6), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False).ravel()
    seconds = np.arange(len(episode.obs)) * dt
    begins = np.arange(0, len(goals), stride)
    ends = np.minimum(begins + stride, len(goals))
    for axis, i in zip(axes, shown, strict=True):
        axis.plot(seconds, episode.obs[:, i], color="black", linewidth=1, label="real")
        axis.plot(seconds[ends], goals[begins, i], "D", color="C2", markersize=3, label="subgoal")
        for begin, end in zip(begins, ends, strict=True):  # from where it was set
            line = [episode.obs[begin, i], goals[begin, i]]
            axis.plot(seconds[[begin, end]], line, color="C2", linewidth=0.6, alpha=0.6)
        axis.set_title(names[i], fontsize=9)
        axis.tick_params(labelsize=7)
    axes[-1].set_xlabel("seconds", fontsize=8)
    axes[0].legend(fontsize=7, frameon=False, loc="upper right")
    return figure


def _beside(obs: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """What is seen, and what is wanted at that time; the last subgoal stays to the end."""
    wanted = np.concatenate([goals, goals[-1:]])
    panels = np.clip(np.stack([obs.astype(np.float32), wanted]), 0, 255).astype(np.uint8)
    times = max(1, HEIGHT // panels.shape[2])
    panels = panels.repeat(times, axis=2).repeat(times, axis=3)
    return np.concatenate(list(panels), axis=2)
