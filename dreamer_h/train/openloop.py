"""The open-loop picture: what the simulator says from a context on, beside what happened."""

from collections.abc import Sequence as Names
from typing import cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Shaped
from matplotlib.figure import Figure

from dreamer_h.train.evaluate import Episode
from dreamer_h.train.state import Agent
from dreamer_h.types import Latent, Sequence

CONTEXT = 16  # agent steps that the simulator sees before it goes on alone
SAMPLES = 8
SIGNALS = 7  # observation signals drawn beside the reward


@jax.jit
def predict(
    agent: Agent,
    obs: Shaped[Array, "C1 ..."],
    action: Float[Array, "T A"],
    *,
    key: Array,
) -> tuple[Float[Array, "S H1 ..."], Float[Array, "S H1"]]:
    """Decoded observations and rewards in physical units, from the context's end on.

    `obs` are the C+1 observations of the context, `action` all T actions; H = T - C.
    """
    context = len(obs) - 1
    falses = jnp.zeros(context + 1, bool)
    sequence = Sequence(
        obs=obs,
        action=action[:context],
        reward=jnp.zeros(context + 1, jnp.float32),
        is_first=falses.at[0].set(True),
        is_terminal=falses,
        mask=~falses,
    )

    def sample(key):
        start_key, imagine_key = jr.split(key)
        latent = jax.tree.map(lambda leaf: leaf[-1], agent.world.start(sequence, key=start_key))
        imagined = agent.world.imagine(latent, action[context:], key=imagine_key)
        prediction = agent.world.decode(cast(Latent, imagined.latent))
        return prediction.obs.mean, prediction.reward.mean

    return jax.vmap(sample)(jr.split(key, SAMPLES))


def picture(
    agent: Agent, episode: Episode, names: Names[str], dt: float, *, length: int = 128
) -> Figure:
    """Real against imagined over time: signals for states; real, imagined, error for pixels.

    `names` are those of the observation's entries, `dt` seconds per agent step. The window is the
    episode's start, `length` agent steps or what there is.
    """
    length = min(length, len(episode.action))
    context = min(CONTEXT, max(1, length // 2))
    obs, reward = predict(
        agent,
        jnp.asarray(episode.obs[: context + 1]),
        jnp.asarray(episode.action[:length]),
        key=jr.key(0),
    )
    real = episode.obs[: length + 1]
    draw = _frames if real.ndim == 4 else _signals
    return draw(real, np.asarray(obs), episode.reward[: length + 1], np.asarray(reward), names, dt)


def _signals(real, imagined, reward, imagined_reward, names, dt) -> Figure:
    # the liveliest signals say most
    shown = np.sort(np.argsort(-real.std(axis=0), kind="stable")[:SIGNALS])
    columns = 2
    rows = -(-(len(shown) + 1) // columns)
    figure = Figure(figsize=(9, 1.5 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    seconds = np.arange(len(real)) * dt
    context = len(real) - imagined.shape[1]
    panels = [("reward", reward, imagined_reward)]
    panels += [(names[i], real[:, i], imagined[:, :, i]) for i in shown]
    for axis, (name, truth, samples) in zip(axes, panels, strict=False):
        ahead = seconds[context:]
        low, high = samples.min(axis=0), samples.max(axis=0)
        axis.fill_between(ahead, low, high, color="C1", alpha=0.25, linewidth=0)
        axis.plot(ahead, samples.mean(axis=0), color="C1", label="imagined (mean, range)")
        start = 1 if name == "reward" else 0  # nothing is earned by beginning
        axis.plot(seconds[start:], truth[start:], color="black", linewidth=1, label="real")
        axis.axvline(seconds[context], color="gray", linestyle=":", linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(panels) - columns) : len(panels)]:
        axis.set_xlabel("seconds", fontsize=8)
    axes[0].legend(fontsize=7, frameon=False)
    figure.suptitle("open loop: no observation right of the dotted line", fontsize=10)
    return figure


def _frames(real, imagined, reward, imagined_reward, names, dt) -> Figure:
    context = len(real) - imagined.shape[1]
    shown = np.linspace(0, imagined.shape[1] - 1, 8).round().astype(int)
    mean = imagined.mean(axis=0)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(3, len(shown))
    for column, i in enumerate(shown):
        truth, guess = real[context + i].astype(np.float32), mean[i]
        error = np.abs(truth - guess).mean(axis=-1)
        axes[0, column].imshow(truth.astype(np.uint8))
        axes[1, column].imshow(np.clip(guess, 0, 255).astype(np.uint8))
        axes[2, column].imshow(error, cmap="magma", vmin=0, vmax=128)
        axes[0, column].set_title(f"+{i * dt:.2f} s", fontsize=8)
    for row, name in enumerate(("real", "imagined", "error")):
        axes[row, 0].set_ylabel(name, fontsize=9)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"open loop after {context - 1} steps of context", fontsize=10)
    return figure
