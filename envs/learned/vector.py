"""Many copies of the learned simulator at once: a native `gymnasium.vector.VectorEnv`."""

from operator import index
from typing import Any, SupportsIndex

import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from dreamer_h.simulated.episode import Moment, Running, Simulated
from dreamer_h.types import either
from envs.learned.env import BEGUN, checked, fresh_words
from envs.learned.load import load


class LearnedVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` of `LearnedEnv`, whose arguments it has, in one compiled step.

    Number i behaves as a single one with seed + i would, whatever their number: each has a
    generator and a stream of keys of its own. `autoreset_mode` is Gymnasium's, or its value
    ("NextStep", "SameStep", "Disabled"); `max_episode_steps` shortens the real task's limit, in
    steps of this environment.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int,
        run: str,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
        if render_mode is not None:
            raise ValueError("render_mode must be None: render a single LearnedEnv")
        found = load(run, **options)
        self.num_envs = num_envs
        self.simulated = found.simulated
        self.dt, self.episode_limit = found.dt, found.simulated.limit
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = found.observation_space
        self.single_action_space = found.action_space
        self.observation_space = batch_space(found.observation_space, num_envs)
        self.action_space = batch_space(found.action_space, num_envs)
        self._seeded = [seeding.np_random(None) for _ in range(num_envs)]
        self._episodes: Running | None = None
        self._over = np.zeros(num_envs, bool)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """One for each sub-environment."""
        return tuple(generator for generator, _ in self._seeded)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(seed for _, seed in self._seeded)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins episodes: all, or those of options["reset_mask"]. Number i gets seed + i."""
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        if options:
            raise ValueError(
                f"options are {list(options)}; many begin by a reset_mask or by nothing: begin at "
                "a given place with a single LearnedEnv"
            )
        seeds = [None] * self.num_envs if seed is None else seed
        if isinstance(seeds, SupportsIndex):
            seeds = [index(seeds) + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"there are {len(seeds)} seeds for {self.num_envs} environments")
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self._seeded[i] = seeding.np_random(seeds[i])
        if self._episodes is None or mask.all():
            episodes = _resets(self.simulated, self._keys(np.ones_like(mask)))
        else:
            episodes = _some_reset(self.simulated, self._episodes, mask, self._keys(mask))
        self._episodes = episodes
        self._over[mask] = False
        infos = {name: np.full(self.num_envs, value) for name, value in BEGUN.items()}
        return np.array(episodes.obs), _marked(infos, mask)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of each. Raises ResetNeeded where one is over and nothing resets it."""
        if self._episodes is None:
            raise ResetNeeded("no episode is running; call reset first")
        actions, mode = checked(actions, self.action_space), self.autoreset_mode
        over, every = self._over, np.ones(self.num_envs, bool)
        if mode == AutoresetMode.DISABLED and over.any():
            raise ResetNeeded(
                f"episodes {np.flatnonzero(over).tolist()} are over; reset them with "
                'options={"reset_mask": …}'
            )
        if mode == AutoresetMode.NEXT_STEP and over.any():
            self._episodes, moments = _steps_or_resets(
                self.simulated, self._episodes, actions, over, self._keys(over)
            )
        else:
            self._episodes, moments = _steps(self.simulated, self._episodes, actions)
        found = jax.device_get(moments)
        infos = {name: np.array(getattr(found, name), type(BEGUN[name])) for name in BEGUN}
        infos = _marked(infos, every)
        obs, terminated, truncated = map(np.array, (found.obs, found.terminated, found.truncated))
        self._over = terminated | truncated
        if mode == AutoresetMode.SAME_STEP and self._over.any():
            ended = self._over
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                final[i] = obs[i].copy()
            last = {
                name: np.where(ended, infos[name], 0).astype(infos[name].dtype) for name in BEGUN
            }
            episodes = _some_reset(self.simulated, self._episodes, ended, self._keys(ended))
            self._episodes, obs = episodes, np.array(episodes.obs)
            for name, value in BEGUN.items():
                infos[name] = np.where(ended, value, infos[name]).astype(infos[name].dtype)
            infos |= {"final_obs": final, "final_info": _marked(last, ended)}
            infos |= {"_final_obs": ended.copy(), "_final_info": ended.copy()}
            self._over = np.zeros(self.num_envs, bool)
        return obs, np.array(found.reward, np.float64), terminated, truncated, infos

    def _mask(self, mask: Any) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != self._over.shape:
            raise ValueError(f"reset_mask must be a bool array of shape {self._over.shape}")
        if not mask.any():
            raise ValueError("reset_mask names no environment")
        return mask

    def _keys(self, mask: np.ndarray) -> np.ndarray:
        """Words (E, 2) of a fresh key for each environment of the mask."""
        words = np.zeros((self.num_envs, 2), np.uint32)
        for i in np.flatnonzero(mask):
            words[i] = fresh_words(self._seeded[i][0])
        return words


def _marked(infos: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """With Gymnasium's masks: which environments have told of each."""
    return infos | {f"_{name}": mask.copy() for name in infos}


def _fresh(simulated: Simulated, words: jax.Array) -> Running:
    keys = jr.wrap_key_data(words, impl="threefry2x32")
    return jax.vmap(simulated.reset)(keys)


@jax.jit
def _resets(simulated: Simulated, words: jax.Array) -> Running:
    return _fresh(simulated, words)


@jax.jit
def _some_reset(simulated: Simulated, episodes: Running, mask: jax.Array, words: jax.Array):
    return either(mask, _fresh(simulated, words), episodes)


@jax.jit
def _steps(simulated: Simulated, episodes: Running, actions: jax.Array) -> tuple[Running, Moment]:
    return jax.vmap(simulated.step)(episodes, actions)


@jax.jit
def _steps_or_resets(simulated, episodes, actions, mask, words) -> tuple[Running, Moment]:
    """As `_steps`, but those of the mask begin, and nothing happens to them."""
    stepped, moments = jax.vmap(simulated.step)(episodes, actions)
    fresh = _fresh(simulated, words)
    nothing = jax.tree.map(jnp.zeros_like, moments)
    nothing = Moment(**{**vars(nothing), "obs": fresh.obs})
    return either(mask, fresh, stepped), either(mask, nothing, moments)
