"""The learned simulator as a `VecEnv` of Stable-Baselines3, which takes none of Gymnasium's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv  # pyright: ignore[reportMissingImports]

from envs.learned.env import BEGUN
from envs.learned.vector import LearnedVectorEnv


class LearnedVecEnv(VecEnv):
    """All of `env` at once, which begins anew in the same step; see `to_sb3`."""

    def __init__(self, env: LearnedVectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode is {env.autoreset_mode.value}; Stable-Baselines3 begins anew in "
                'the same step: make it with autoreset_mode="SameStep"'
            )
        self.env = env
        self._actions = np.zeros(env.action_space.shape or (), np.float32)
        self.render_mode = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        obs, infos = self.env.reset(seed=seeds)
        self.reset_infos = _apart(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, rewards, terminated, truncated, infos = self.env.step(self._actions)
        found = _apart(infos, self.num_envs)
        for i in np.flatnonzero(terminated | truncated):
            found[i] = _apart(infos["final_info"], self.num_envs)[i]
            found[i]["terminal_observation"] = infos["final_obs"][i]
            found[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return obs, rewards.astype(np.float32), terminated | truncated, found

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Of all at once: they are one simulator. Raises ValueError for a part of them."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"they are one simulator: set {attr_name} for all, without indices")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args, indices: Any = None, **kwargs) -> list[Any]:
        """Raises ValueError: none of them has methods of its own."""
        raise ValueError(f"they are one simulator: call {method_name} of `.env`, for all at once")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [None] * self.num_envs


def to_sb3(run: str, num_envs: int, **options: Any) -> LearnedVecEnv:
    """`num_envs` copies of the simulator of a run; `options` are those of `LearnedVectorEnv`."""
    made = LearnedVectorEnv(num_envs, run, autoreset_mode=AutoresetMode.SAME_STEP, **options)
    return LearnedVecEnv(made)


def _apart(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """A dictionary for each environment."""
    columns = {name: infos[name].tolist() for name in BEGUN}
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]
