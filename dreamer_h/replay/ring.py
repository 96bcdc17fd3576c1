"""The replay memory: a ring of episodes, bounded by a number of agent steps."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dreamer_h.replay.episode import Episode, GrowingEpisode
from dreamer_h.replay.queue import EpisodeQueue


class Ring:
    """Finished episodes in the order in which they ended, then those in progress as they began.

    capacity: agent steps, of both kinds together; the oldest finished episodes are dropped whole.
    obs_shape, obs_dtype: of one observation, float32 (state) or uint8 (pixels). action_dim: A.
    Every ValueError leaves the ring as it was.
    """

    def __init__(
        self, capacity: int, obs_shape: tuple[int, ...], obs_dtype: npt.DTypeLike, action_dim: int
    ):
        if capacity < 1:
            raise ValueError(f"capacity is {capacity} agent steps; it must be at least 1")
        if np.dtype(obs_dtype) not in (np.dtype(np.float32), np.dtype(np.uint8)):
            raise ValueError(
                f"obs_dtype is {np.dtype(obs_dtype)}; the replay stores float32 (state) or uint8 "
                "(pixels): cast the observation in the environment's wrapper"
            )
        self.capacity = capacity
        self.obs_shape = tuple(obs_shape)
        self.obs_dtype = np.dtype(obs_dtype)
        self.action_dim = action_dim
        self.next_id = 0
        self.num_steps = 0  # agent steps stored, that is actions; read-only for others
        self._finished = EpisodeQueue()
        self._unfinished: dict[int, GrowingEpisode] = {}  # by environment, in order of beginning

    @property
    def num_episodes(self) -> int:
        """Episodes that hold at least one agent step, finished or in progress."""
        return len(self._finished) + sum(len(growing) > 0 for growing in self._unfinished.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held now."""
        parts = [*self._finished, *self._unfinished.values()]
        return sum(part.nbytes for part in parts)

    @property
    def nbytes_bound(self) -> int:
        """Worst-case bytes of the arrays at capacity: episodes of one agent step, which hold two
        rows each. Episodes of L >> 1 steps need half of it. Beyond the bound are two rows for an
        environment that is still at its first observation."""
        obs = int(np.prod(self.obs_shape)) * self.obs_dtype.itemsize
        row = obs + 4 * self.action_dim + 4 + 1  # + reward, is_terminal
        return 2 * self.capacity * row

    def begin(self, env_index: int, obs: npt.ArrayLike) -> None:
        """Start an episode of environment `env_index` at its first observation.

        Raises ValueError if obs does not fit or is not finite, or the last episode is unfinished.
        """
        if env_index in self._unfinished:
            raise ValueError(
                f"environment {env_index} began an episode while one is in progress; "
                "end it with is_last, or discard it with drop()"
            )
        first_obs = self._checked("obs", obs, self.obs_shape, self.obs_dtype)
        self._unfinished[env_index] = GrowingEpisode(self.next_id, first_obs, self.action_dim)
        self.next_id += 1

    def append(
        self,
        env_index: int,
        action: npt.ArrayLike,
        reward: npt.ArrayLike | float,  # beartype takes no float for numpy's ArrayLike
        obs: npt.ArrayLike,
        is_terminal: bool | np.bool_ | np.ndarray,
        is_last: bool | np.bool_ | np.ndarray,
    ) -> None:
        """Add one agent step: `action`, and the reward, obs and is_terminal that it arrived at.

        Raises ValueError, naming the field, on a wrong shape or a value that is not finite (the
        caller should `drop` the episode); on a terminal step that is not last; without `begin`;
        and if episodes in progress alone are more than the capacity.
        """
        if env_index not in self._unfinished:
            raise ValueError(f"environment {env_index} has no episode in progress; begin() it")
        action = self._checked("action", action, (self.action_dim,), np.dtype(np.float32))
        reward = self._checked("reward", reward, (), np.dtype(np.float32))
        obs = self._checked("obs", obs, self.obs_shape, self.obs_dtype)
        if is_terminal and not is_last:
            raise ValueError("is_terminal is True while is_last is False; a terminal step is last")
        self._make_room(1)
        growing = self._unfinished[env_index]
        growing.append(action, reward, obs, is_terminal)
        self.num_steps += 1
        if is_last:
            del self._unfinished[env_index]
            self._finished.append(growing.view().frozen())

    def drop(self, env_index: int) -> None:
        """Discard the unfinished episode of an environment that failed; no-op if it has none."""
        growing = self._unfinished.pop(env_index, None)
        self.num_steps -= len(growing) if growing is not None else 0

    def add(self, episode: Episode) -> Episode:
        """Add a finished episode whole, as when loading or importing; return the ring's own copy.

        Raises ValueError if an array does not fit or is not finite, or there is no room.
        """
        L = len(episode)
        self._check_episode(episode)
        if L < 1:
            raise ValueError(f"episode {episode.id} has no agent step; leave it out")
        self._make_room(L)
        own = episode.frozen()
        self._finished.append(own)
        self.num_steps += L
        self.next_id = max(self.next_id, episode.id + 1)
        return own

    def resume(self, env_index: int, episode: Episode) -> None:
        """Continue `episode`, saved while in progress, in environment `env_index`.

        Raises ValueError as `add` does, and if that environment has an episode in progress.
        """
        if env_index in self._unfinished:
            raise ValueError(f"environment {env_index} already has an episode in progress")
        self._check_episode(episode)
        self._make_room(len(episode))
        self._unfinished[env_index] = GrowingEpisode.resumed(episode)
        self.num_steps += len(episode)
        self.next_id = max(self.next_id, episode.id + 1)

    def finished(self) -> Iterator[Episode]:
        """Finished episodes, the first to be dropped first."""
        return iter(self._finished)

    def unfinished(self) -> dict[int, Episode]:
        """Episodes in progress by environment, in the order in which they began; views."""
        return {env_index: growing.view() for env_index, growing in self._unfinished.items()}

    def holding(self, steps: np.ndarray) -> list[Episode]:
        """The episode that holds each of `steps`, numbers in [0, num_steps) counted over the ring
        in its order. Views: valid until the ring changes."""
        episodes: list[Episode] = []
        old = self._finished.num_steps
        growing = list(self._unfinished.values())
        ends = np.cumsum([len(episode) for episode in growing], dtype=np.int64) + old
        is_old = steps < old
        found_old = iter(self._finished.holding(steps[is_old]))
        places = np.searchsorted(ends, steps, side="right")
        for old_one, place in zip(is_old.tolist(), places.tolist(), strict=True):
            episodes.append(next(found_old) if old_one else growing[place].view())
        return episodes

    def _make_room(self, num_steps: int) -> None:
        spare = self.capacity - self.num_steps + self._finished.num_steps
        if num_steps > spare:
            raise ValueError(
                f"{num_steps} more agent steps do not fit: the episodes in progress leave "
                f"{max(spare, 0)} of the replay's capacity of {self.capacity}; set the capacity "
                "to at least the number of environments times the longest episode"
            )
        while self.num_steps + num_steps > self.capacity:
            self.num_steps -= len(self._finished.popleft())

    def _check_episode(self, episode: Episode) -> None:
        L = len(episode)
        self._checked("obs", episode.obs, (L + 1, *self.obs_shape), self.obs_dtype)
        for name, shape in (("action", (L, self.action_dim)), ("reward", (L + 1,))):
            self._checked(name, getattr(episode, name), shape, np.dtype(np.float32))

    @staticmethod
    def _checked(
        name: str, value: npt.ArrayLike | float, shape: tuple[int, ...], dtype: np.dtype
    ) -> np.ndarray:
        found = np.asarray(value)
        if found.shape != shape:
            raise ValueError(f"{name} has shape {found.shape}; the replay was made for {shape}")
        if dtype == np.uint8:
            # a silent cast would turn float pixels in [0, 1] into black images
            if found.dtype != dtype:
                raise ValueError(f"{name} has dtype {found.dtype}; the replay was made for uint8")
            return found
        with np.errstate(over="ignore"):  # a value beyond float32 becomes inf and is caught below
            stored = found.astype(np.float32, copy=False)
        if not np.isfinite(stored).all():
            raise ValueError(f"{name} is not finite in float32: {found}; drop this episode")
        return stored
