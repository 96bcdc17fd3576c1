"""Tiny environments with known values, after Andy Jones, "Debugging RL" (2021).

Each isolates one ability. The observation is (signal, time / length); the signal is +1, -1 or 0.

constant     reward 1 at every step: is the value head fitted?
observation  reward = the signal seen, fresh at every step: does the value see the observation?
delayed      reward 1 at the last step only: is the return discounted back?
action       reward 1 - |a - 0.5|: does the policy improve?
cue          a signal s shown at the first step only; reward 1 - |a_0 - s / 2| for the action taken
             there, paid at the last step: observation, memory, action and delay together
"""

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

Name = Literal["constant", "observation", "delayed", "action", "cue"]
Ending = Literal["terminate", "truncate"]
NAMES: tuple[Name, ...] = ("constant", "observation", "delayed", "action", "cue")
ENDINGS: tuple[Ending, ...] = ("terminate", "truncate")


class Probe(gym.Env[np.ndarray, np.ndarray]):
    """Episodes of `length` steps; at the end `ending` says whether the value beyond it is zero.

    Raises ValueError for an unknown name or ending or a length below 1.
    """

    metadata: dict[str, Any] = {"render_modes": []}
    dt = 1.0  # seconds per step, by definition

    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box

    def __init__(
        self,
        name: Name,
        *,
        ending: Ending = "terminate",
        length: int = 5,
        render_mode: str | None = None,
    ) -> None:
        if name not in NAMES or ending not in ENDINGS or length < 1:
            raise ValueError(
                f"probe {name!r}, ending {ending!r}, length {length}; needed a name "
                f"of {NAMES}, an ending of {ENDINGS} and a length of at least 1"
            )
        self.name, self.ending, self.episode_limit = name, ending, length
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._time = length
        self._signal = self._owed = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._time, self._owed = 0, 0.0
        self._signal = self._draw() if self.name in ("observation", "cue") else 0.0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._time >= self.episode_limit:
            raise ResetNeeded("no episode is running; call reset first")
        reward = self._reward(float(np.asarray(action).reshape(())))
        self._time += 1
        last = self._time == self.episode_limit
        self._signal = self._draw() if self.name == "observation" else 0.0
        ends = self.ending == "terminate"
        return self._observation(), reward, last and ends, last and not ends, {}

    def optimal_action(self) -> np.ndarray:
        """The best action now, (1,); 0 where the reward does not depend on it."""
        best = {"action": 0.5, "cue": 0.5 * self._signal}.get(self.name, 0.0)
        return np.array([best], np.float32)

    def optimal_value(self, discount: float) -> float:
        """Discounted sum of the rewards still to come if every action is optimal.

        Beyond a truncation the reward goes on as before. Raises ValueError for the delayed probes
        with a truncation, where what goes on is not defined.
        """
        left = self.episode_limit - self._time
        ends = self.ending == "terminate"
        if self.name in ("constant", "action"):
            return (1 - discount**left if ends else 1.0) / (1 - discount)
        if self.name == "observation":  # later signals are 0 on average
            return self._signal if left or not ends else 0.0
        if not ends:
            raise ValueError(f"the value of {self.name} is defined with ending='terminate' only")
        paid = 1.0 if self.name == "delayed" or self._time == 0 else self._owed
        return discount ** (left - 1) * paid if left else 0.0

    def _reward(self, action: float) -> float:
        last = self._time == self.episode_limit - 1
        if self.name == "cue":
            if self._time == 0:
                self._owed = 1 - abs(action - 0.5 * self._signal)
            return self._owed if last else 0.0
        rewards = {
            "constant": 1.0,
            "observation": self._signal,
            "delayed": float(last),
            "action": 1 - abs(action - 0.5),
        }
        return rewards[self.name]

    def _draw(self) -> float:
        return float(self.np_random.choice((-1.0, 1.0)))

    def _observation(self) -> np.ndarray:
        # without an ending, what lies beyond the limit looks like what was before it
        clock = self._time / self.episode_limit if self.ending == "terminate" else 0.0
        return np.array([self._signal, clock], np.float32)
