"""What any simulator must beat: forecasts that need no learning, or one matrix of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.simulator import Context, Forecast
from dreamer_h.replay.episode import Episode

ANALOG_ACTIONS = 5  # agent steps of action by which a past situation is recognised
RIDGE = 1e-3
BOUND = 10.0  # deviations; an unstable linear model stays within them


@dataclass(frozen=True)
class Mean:
    """The training mean, whatever happens: nrmse 1 by construction."""

    obs: np.ndarray  # (O,)
    reward: float

    @classmethod
    def fit(cls, episodes: list[Episode], scale: Scale) -> "Mean":
        obs = np.concatenate([episode.obs for episode in episodes]).mean(axis=0, dtype=np.float64)
        obs[scale.kept] = scale.mean
        return cls(obs, _mean_reward(episodes))

    def start(self, context: Context, *, seed: int) -> None:
        return None

    def imagine(self, state: None, action: np.ndarray, samples: int, *, seed: int) -> Forecast:
        lead = (1, *action.shape[:2])
        return Forecast(
            np.broadcast_to(self.obs, (*lead, len(self.obs))), np.full(lead, self.reward)
        )

    def step(self, state: None, action: np.ndarray, *, seed: int):
        lead = len(action)
        return None, np.tile(self.obs, (lead, 1)), np.full(lead, self.reward)


@dataclass(frozen=True)
class Climatology:
    """Random observations of the training data: the sampler that knows nothing of the present."""

    obs: np.ndarray  # (N, O)
    reward: np.ndarray  # (N,)

    @classmethod
    def fit(cls, episodes: list[Episode], scale: Scale) -> "Climatology":
        obs = np.concatenate([episode.obs[1:] for episode in episodes])
        return cls(obs, np.concatenate([episode.reward[1:] for episode in episodes]))

    def start(self, context: Context, *, seed: int) -> None:
        return None

    def imagine(self, state: None, action: np.ndarray, samples: int, *, seed: int) -> Forecast:
        lead = (samples, *action.shape[:2])
        drawn = np.random.default_rng(seed).integers(len(self.obs), size=lead)
        return Forecast(self.obs[drawn], self.reward[drawn])

    def step(self, state: None, action: np.ndarray, *, seed: int):
        drawn = np.random.default_rng(seed).integers(len(self.obs), size=len(action))
        return None, self.obs[drawn], self.reward[drawn]


@dataclass(frozen=True)
class Persistence:
    """Everything stays as it is; the reward is the training mean."""

    reward: float

    @classmethod
    def fit(cls, episodes: list[Episode], scale: Scale) -> "Persistence":
        return cls(_mean_reward(episodes))

    def start(self, context: Context, *, seed: int) -> np.ndarray:
        return context.obs[:, -1]

    def imagine(
        self, state: np.ndarray, action: np.ndarray, samples: int, *, seed: int
    ) -> Forecast:
        obs = np.broadcast_to(state[:, None], (*action.shape[:2], state.shape[-1]))
        return Forecast(obs[None], np.full((1, *action.shape[:2]), self.reward))

    def step(self, state: np.ndarray, action: np.ndarray, *, seed: int):
        return state, state, np.full(len(state), self.reward)


@dataclass(frozen=True)
class Linear:
    """Linear dynamics with control (DMDc): (1, x, a) -> (x', reward) in training deviations."""

    scale: Scale
    rest: np.ndarray  # (O,) what the entries without a scale always are
    weight: np.ndarray  # (1 + K + A, K + 1)

    @classmethod
    def fit(cls, episodes: list[Episode], scale: Scale) -> "Linear":
        inputs, targets = [], []
        rest = episodes[0].obs[0].astype(np.float64)
        for episode in episodes:
            x = scale.deviations(episode.obs)
            step = scale.difference(episode.obs[1:], episode.obs[:-1])
            inputs.append(_affine(x[:-1], episode.action))
            targets.append(np.concatenate([step, episode.reward[1:, None]], axis=1))
        left, right = np.concatenate(inputs), np.concatenate(targets)
        gram = left.T @ left
        weight = np.linalg.solve(gram + RIDGE * np.eye(len(gram)) * len(left), left.T @ right)
        return cls(scale, rest, weight)

    def start(self, context: Context, *, seed: int) -> np.ndarray:
        return context.obs[:, -1].astype(np.float64)

    def imagine(
        self, state: np.ndarray, action: np.ndarray, samples: int, *, seed: int
    ) -> Forecast:
        obs, reward = [], []
        for t in range(action.shape[1]):
            state, seen, paid = self.step(state, action[:, t], seed=seed)
            obs.append(seen)
            reward.append(paid)
        return Forecast(np.stack(obs, axis=1)[None], np.stack(reward, axis=1)[None])

    def step(self, state: np.ndarray, action: np.ndarray, *, seed: int):
        x = self.scale.deviations(state)
        out = _affine(x, action) @ self.weight
        x = np.clip(x + out[:, :-1], -BOUND, BOUND)
        obs = self.scale.physical(x, self.rest)
        return obs, obs, out[:, -1]


@dataclass(frozen=True)
class Nearest:
    """Analogs: the most similar moments of the training data, and what came after them.

    Similar in the observation and the next few actions; the `samples` nearest ones are the samples.
    """

    scale: Scale
    episodes: list[Episode]

    @classmethod
    def fit(cls, episodes: list[Episode], scale: Scale) -> "Nearest":
        return cls(scale, episodes)

    def start(self, context: Context, *, seed: int) -> np.ndarray:
        return context.obs[:, -1]

    def imagine(
        self, state: np.ndarray, action: np.ndarray, samples: int, *, seed: int
    ) -> Forecast:
        length = action.shape[1]
        seen = min(ANALOG_ACTIONS, length)
        keys, places = [], []
        for number, episode in enumerate(self.episodes):
            for t in range(len(episode) - length + 1):
                keys.append(self._key(episode.obs[t], episode.action[t : t + seen]))
                places.append((number, t))
        if not places:
            raise ValueError(f"no training episode has {length} agent steps to be an analog of")
        table, obs, reward = np.stack(keys), [], []
        for window, now in enumerate(state):
            key = self._key(now, action[window, :seen])
            order = np.argsort(((table - key) ** 2).sum(axis=1), kind="stable")[:samples]
            futures = [(self.episodes[n], t) for n, t in (places[i] for i in order)]
            obs.append([episode.obs[t + 1 : t + 1 + length] for episode, t in futures])
            reward.append([episode.reward[t + 1 : t + 1 + length] for episode, t in futures])
        return Forecast(np.swapaxes(np.array(obs), 0, 1), np.swapaxes(np.array(reward), 0, 1))

    def step(self, state: np.ndarray, action: np.ndarray, *, seed: int) -> Any:
        found = self.imagine(state, action[:, None], 1, seed=seed)
        assert found.reward is not None
        return found.obs[0, :, 0], found.obs[0, :, 0], found.reward[0, :, 0]

    def _key(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        x = obs[self.scale.kept]
        turn = self.scale.circular
        # an angle enters as a point on the circle
        parts = [self.scale.deviations(obs)[~turn], np.sin(x[turn]), np.cos(x[turn])]
        return np.concatenate([*parts, action.ravel()])


YARDSTICKS = {
    "mean": Mean,
    "climatology": Climatology,
    "persistence": Persistence,
    "linear": Linear,
    "nearest": Nearest,
}


def _mean_reward(episodes: list[Episode]) -> float:
    return float(np.concatenate([episode.reward[1:] for episode in episodes]).mean())


def _affine(x: np.ndarray, action: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(x), 1)), x, action], axis=1)
