"""The learned simulator behind the interface of gymnax: pure jax, compiled end to end.

gymnax itself is not needed: what its trainers ask of an environment is all here.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr

from dreamer_h.simulated.episode import Running, Simulated
from envs.learned.load import load


class Params(eqx.Module):
    """What gymnax's trainers may set."""

    max_steps_in_episode: int  # agent steps, beside the limit of the real task

    def replace(self, **changes: Any) -> "Params":
        """As gymnax's own."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Box:
    """As gymnax's own: bounds are numbers."""

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = jnp.float32

    def sample(self, key: jax.Array) -> jax.Array:
        """Uniform; of unbounded ones standard normal."""
        if not (abs(self.low) < jnp.inf and abs(self.high) < jnp.inf):
            return jr.normal(key, self.shape, self.dtype)
        return jr.uniform(key, self.shape, jnp.float32, self.low, self.high).astype(self.dtype)

    def contains(self, x: jax.Array) -> jax.Array:
        return jnp.all((x >= self.low) & (x <= self.high))


@dataclass(frozen=True)
class MultiDiscrete:
    """As gymnax's own: `shape` numbers from 0 to n - 1."""

    n: int
    shape: tuple[int, ...]
    dtype: Any = jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """Uniform."""
        return jr.randint(key, self.shape, 0, self.n, self.dtype)

    def contains(self, x: jax.Array) -> jax.Array:
        return jnp.all((x >= 0) & (x < self.n))


@dataclass(frozen=True, eq=False)
class LearnedGymnax:
    """`reset(key, params)` and `step(key, state, action, params)`, which begins anew by itself.

    `done` is a termination or a truncation; info["discount"] is 0 after terminations alone, for
    trainers that bootstrap at truncations.
    """

    simulated: Simulated
    observation: Box
    action: Box | MultiDiscrete

    @property
    def name(self) -> str:
        return "dreamer_h"

    @property
    def num_actions(self) -> int:
        """Entries of an action."""
        return self.action.shape[0]

    @property
    def default_params(self) -> Params:
        limit = self.simulated.limit
        return Params(max_steps_in_episode=10**9 if limit is None else limit)

    def reset(self, key: jax.Array, params: Params | None = None) -> tuple[jax.Array, Running]:
        """The first observation of an episode, and its state."""
        return self.reset_env(key, self._params(params))

    def step(
        self, key: jax.Array, state: Running, action: jax.Array, params: Params | None = None
    ) -> tuple[jax.Array, Running, jax.Array, jax.Array, dict[str, Any]]:
        """(obs, state, reward, done, info); of an episode that is over the next one's beginning."""
        params = self._params(params)
        step_key, reset_key = jr.split(key)
        obs, state, reward, done, info = self.step_env(step_key, state, action, params)
        first, begun = self.reset_env(reset_key, params)
        either = lambda yes, no: jax.tree.map(lambda a, b: jnp.where(done, a, b), yes, no)
        return either(first, obs), either(begun, state), reward, done, info

    def reset_env(self, key: jax.Array, params: Params) -> tuple[jax.Array, Running]:
        state = self.simulated.reset(key)
        return state.obs, state

    def step_env(
        self, key: jax.Array, state: Running, action: jax.Array, params: Params
    ) -> tuple[jax.Array, Running, jax.Array, jax.Array, dict[str, Any]]:
        """A step alone, without a reset."""
        state, moment = self.simulated.step(replace(state, key=key), action)
        done = moment.terminated | moment.truncated | (moment.steps >= params.max_steps_in_episode)
        info = {
            "discount": jnp.where(moment.terminated, 0.0, 1.0),
            "reward_spread": moment.reward_spread,
            "disagreement": moment.disagreement,
            "doubt": moment.doubt,
            "jump_doubt": moment.jump_doubt,
            "radius": moment.radius,
            "outside": moment.outside,
            "invalid": moment.invalid,
        }
        return moment.obs, state, moment.reward, done, info

    def observation_space(self, params: Params | None = None) -> Box:
        return self.observation

    def action_space(self, params: Params | None = None) -> Box | MultiDiscrete:
        return self.action

    def _params(self, params: Params | None) -> Params:
        return self.default_params if params is None else params


def to_gymnax(run: str | Path, **options: Any) -> LearnedGymnax:
    """The simulator of a run; `options` are those of `LearnedEnv` that say how episodes go."""
    found = load(run, **options)
    acts = found.action_space
    if isinstance(acts, gym.spaces.MultiDiscrete):
        action = MultiDiscrete(int(acts.nvec.max()), acts.nvec.shape)
    else:
        action = _box(acts)
    return LearnedGymnax(found.simulated, _box(found.observation_space), action)


def _box(space: gym.spaces.Box) -> Box:
    return Box(float(space.low.min()), float(space.high.max()), space.shape, space.dtype)
