"""Axes, and the records that cross the borders between rooms.

Axes: B batch, T agent steps of a window (T1 = T + 1 observations), H imagined agent steps
(H1 = H + 1), E environments, S samples, O observation, A action, D deterministic state,
G groups x C classes of a code, F = D + G C features.

Time: `obs[t]` is what the agent sees, `action[t]` is taken *from* `obs[t]`, and `reward[t]` and
`is_terminal[t]` belong to *arriving* at `obs[t]`. Truncation ends an episode and is not terminal.
Written here once; every room relies on it.
"""

from typing import Protocol

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Shaped


class Step(eqx.Module):
    """What one environment step gives an agent (numpy; axes (E, ...) when several act together)."""

    obs: Shaped[np.ndarray, "..."]  # float32 state (O,) or uint8 pixels (height, width, 3)
    reward: Float[np.ndarray, "..."]  # summed over the action repeat; 0 where is_first
    is_first: Bool[np.ndarray, "..."]
    is_terminal: Bool[np.ndarray, "..."]
    is_last: Bool[np.ndarray, "..."]  # terminal or truncated: the next step is a first one


class Sequence(eqx.Module):
    """A window of T+1 observations and the T actions between them, inside one episode.

    `mask[t]` is False in the padding behind an episode's end; padding repeats nothing and is zero.
    """

    obs: Shaped[Array | np.ndarray, "..."]  # (*B, T1, *observation)
    action: Float[Array | np.ndarray, "*B T A"]
    reward: Float[Array | np.ndarray, "*B T1"]
    is_first: Bool[Array | np.ndarray, "*B T1"]
    is_terminal: Bool[Array | np.ndarray, "*B T1"]
    mask: Bool[Array | np.ndarray, "*B T1"]


class Latent(eqx.Module):
    """The simulator's state: a deterministic memory and a discrete code drawn from `logits`."""

    deter: Float[Array, "*B D"]
    code: Float[Array, "*B G C"]  # one-hot, straight-through gradient
    logits: Float[Array, "*B G C"]  # of the distribution that the code was drawn from

    @property
    def features(self) -> Float[Array, "*B F"]:
        """What heads and policies read: memory and code side by side, F = D + G C."""
        code = self.code.reshape(*self.code.shape[:-2], -1)
        return jnp.concatenate([self.deter, code], axis=-1)


class Imagined(eqx.Module):
    """H agent steps without observations. Index 0 is the start; `action[t]` leads to t+1."""

    latent: Latent  # (H+1, ...)
    action: Float[Array, "*B H A"]


class Physics(Protocol):
    """A simulator that can be restarted from a recorded state; dm_control implements it in envs/."""

    def get_state(self) -> dict[str, np.ndarray]: ...

    def set_state(self, state: dict[str, np.ndarray]) -> None: ...


class Policy(Protocol):
    """Acts in E environments side by side; keeps its own memory between calls."""

    def act(self, step: Step) -> Float[np.ndarray, "E A"]: ...


Scalar = Float[Array, ""] | Integer[Array, ""]
