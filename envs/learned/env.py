"""The learned simulator as a `gymnasium.Env`."""

from operator import index
from typing import Any, SupportsIndex

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from gymnasium.error import ResetNeeded

from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.nn.coordinates import going_on
from dreamer_h.simulated.episode import Moment, Running, Simulated
from dreamer_h.simulated.starts import behind
from envs.learned.load import load
from envs.learned.picture import Picture

State = dict[str, np.ndarray]  # what `get_state` gives


class LearnedEnv(gym.Env[np.ndarray, np.ndarray]):
    """`run` is a logdir of train.py. Spaces, time limit and scale of reward are the real task's.

    The options are those of `envs.learned.load.load`.
    starts: where episodes begin: "first" where recorded ones did, "anywhere" in them behind 16
    seen agent steps, or "model" where its prior is before anything was seen, which nothing has
    taught where episodes begin.
    data: folder of `horizon.py record` to begin in, instead of what the run remembers.
    level: 0 leaves upper levels out; by default they watch, see `disagreement`. From 1 on a step
    is one jump of that level: its action is a macro-action, one of 5 values for each of 8
    dimensions, and its reward that of the whole jump, discounted inside it.
    truncate_on_trust: ends an episode where observations are, with 90 %, not surely within `trust`
    deviations of the truth any more; of a run without such a radius, where its levels disagree by
    more than that.

    `reset(options=…)` takes {"context": (obs (T+1, …), action (T, A))}, {"episode": i, "t": j} of
    the episodes in `starts`' source, or {"starts": n}, the n-th start.
    `info` holds `steps` since something was really seen, `reward_spread` (the predicted reward's
    deviation), `disagreement` of the levels in deviations of the observation (0 with one level),
    `doubt` in nats since then (0 without an ensemble) and `jump_doubt`, that of level 1 over the
    jumps that have ended, the calibrated `radius` in deviations that
    the truth is within with 90 % (infinite where none was measured), `outside` where a step is
    doubted more than any usual one, and why an episode was cut: `untrusted`, or `invalid` for a
    prediction that is not finite.

    Raises ValueError for what is no run, or none of this version, and CheckpointCorrupt.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}

    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box | gym.spaces.MultiDiscrete  # type: ignore[assignment]

    def __init__(
        self,
        run: str,
        *,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}; it must be None or 'rgb_array'")
        self._asked: dict[str, Any] = {"run": run, **options}
        self.render_mode = render_mode
        self._load()
        self._episode: Running | None = None
        self._over = True

    def _load(self) -> None:
        self._learned = load(**self._asked)
        self.dt = self._learned.dt
        self.episode_limit = self._learned.simulated.limit
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1 / self.dt))}
        self.observation_space = self._learned.observation_space
        self.action_space = self._learned.action_space
        spread, angles = self._learned.simulated.spread, self._learned.simulated.world.angles
        shown = None if spread is None else np.array(spread)
        self._picture = Picture(self._learned.task, shown, angles)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode. Raises ValueError for options that it cannot follow."""
        super().reset(seed=seed)
        key = fresh_key(self.np_random)
        simulated = self._learned.simulated
        if options:
            seen_key, key = jr.split(key)
            episode = _begin(simulated, self._asked_start(options, seen_key), key)
        else:
            episode = _reset(simulated, key)
        self._episode, self._over = episode, False
        return np.array(episode.obs), dict(BEGUN)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step. Raises ResetNeeded outside an episode, ValueError for a bad action."""
        if self._episode is None or self._over:
            raise ResetNeeded("no episode is running; call reset first")
        action = checked(action, self.action_space)
        self._episode, moment = _step(self._learned.simulated, self._episode, action)
        found = jax.device_get(moment)
        self._over = bool(found.terminated | found.truncated)
        info = {name: getattr(found, name).item() for name in BEGUN}
        ended = bool(found.terminated), bool(found.truncated)
        return np.array(found.obs), float(found.reward), *ended, info

    def get_state(self) -> State:
        """Everything that the future depends on, but `np_random`."""
        if self._episode is None:
            raise ResetNeeded("there is no state before the first reset")
        leaves = jax.tree.leaves(_plain(self._episode))
        state = {str(i): np.array(leaf) for i, leaf in enumerate(leaves)}
        return state | {"over": np.array(self._over)}

    def set_state(self, state: State) -> None:
        """Goes to a state of `get_state`. Raises ValueError for one of another simulator."""
        like = jax.eval_shape(lambda: _plain(self._learned.simulated.reset(jr.key(0))))
        leaves, tree = jax.tree.flatten(like)
        found = [np.asarray(state.get(str(i))) for i in range(len(leaves))]
        fits = [
            (a.shape, a.dtype) == (b.shape, b.dtype) for a, b in zip(found, leaves, strict=True)
        ]
        if not all(fits) or len(state) != len(leaves) + 1:
            raise ValueError("the state is of another simulator's get_state")
        plain = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in found])
        self._episode = eqx.tree_at(lambda e: e.key, plain, jr.wrap_key_data(plain.key))
        self._over = bool(state["over"])

    def fork(self) -> "LearnedEnv":
        """Another environment in the same state, which goes its own way from here; its future
        randomness is the same. The simulator itself is shared."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._np_random = np.random.Generator(type(self.np_random.bit_generator)())
        other._np_random.bit_generator.state = self.np_random.bit_generator.state
        other.metadata = dict(self.metadata)
        return other

    def counterfactual(
        self, episode: int, t: int, actions: np.ndarray, *, samples: int = 19, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """What would have followed on agent step `t` of a recorded episode under `actions` (H, A).

        Samples of observations (S, H, …) and rewards (S, H), in physical units, from the latent
        that is inferred from the episode up to t. Leaves the running episode alone.
        """
        obs, action = self._recorded(episode, t)
        real = gym.spaces.Box(-1.0, 1.0, (len(actions), self._learned.action), np.float32)
        given = np.clip(checked(actions, real), -1.0, 1.0)[None]
        world = self._learned.simulated.world
        simulator = LatentSimulator(world)
        state = simulator.start(Context(obs[None], action[None]), seed=seed)
        found = simulator.imagine(state, given, samples, seed=seed)
        assert found.reward is not None
        path = jax.vmap(lambda path: going_on(path, jnp.asarray(obs[-1]), world.angles))
        return np.asarray(path(jnp.asarray(found.obs[:, 0]))), found.reward[:, 0]

    def render(self) -> Any:
        """What the simulator sees now (height, width, 3) uint8; see `Picture`."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: make it with render_mode='rgb_array'")
            return None
        if self._episode is None:
            raise ResetNeeded("there is nothing to see before the first reset")
        return self._picture(np.array(self._episode.obs))

    def __getstate__(self) -> dict[str, Any]:
        # the simulator is read again from its run: jax arrays belong to a process
        kept = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_learned", "_picture")
        }
        return kept | {"_episode": None if self._episode is None else self.get_state()}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        episode = kept.pop("_episode")
        self.__dict__.update(kept, _episode=None)
        self._load()
        if episode is not None:
            self.set_state(episode)

    def _asked_start(self, options: dict[str, Any], key: jax.Array) -> Any:
        simulated = self._learned.simulated
        match options:
            case {"starts": SupportsIndex() as n, **no} if (
                not no and not isinstance(n, bool) and 0 <= index(n) < len(simulated.starts)
            ):
                return jax.tree.map(lambda leaf: leaf[index(n)], simulated.starts)
            case {"episode": SupportsIndex() as i, "t": SupportsIndex() as t, **no} if not no:
                obs, action = self._recorded(index(i), index(t))
            case {"context": (obs, action), **no} if not no:
                obs, action = np.asarray(obs), np.asarray(action, np.float32)
            case _:
                raise ValueError(
                    f"options are {list(options)}; they must be context: (obs, action), episode "
                    f"and t, or starts: a number below {len(simulated.starts)}"
                )
        shapes = self.observation_space.shape, (self._learned.action,)
        if (obs.shape[1:], action.shape[1:]) != shapes or len(obs) != len(action) + 1:
            raise ValueError(
                f"the context has observations {obs.shape} and actions {action.shape}; needed are "
                f"(T+1, {shapes[0]}) and (T, {shapes[1]})"
            )
        obs = obs.astype(self.observation_space.dtype)
        if not (np.isfinite(obs).all() and np.isfinite(action).all()):
            raise ValueError("the context has values that are not finite")
        start = behind(simulated.world, obs[None], action[None], key[None])
        return jax.tree.map(lambda leaf: leaf[0], start)

    def _recorded(self, i: int, t: int) -> tuple[np.ndarray, np.ndarray]:
        episodes = self._learned.episodes
        if not 0 <= i < len(episodes):
            raise ValueError(f"episode is {i}; there are {len(episodes)}, counted from 0")
        if not 0 <= t <= len(episodes[i]):
            raise ValueError(f"t is {t}; episode {i} has {len(episodes[i])} agent steps")
        return episodes[i].obs[: t + 1], episodes[i].action[:t]


# info of a beginning; of a step these are fields of `Moment`
BEGUN: dict[str, Any] = {
    "steps": 0, "reward_spread": 0.0, "disagreement": 0.0, "doubt": 0.0, "jump_doubt": 0.0,
    "radius": 0.0, "outside": False, "untrusted": False, "invalid": False,
}  # fmt: skip


def fresh_words(generator: np.random.Generator) -> np.ndarray:
    """The two words of a fresh threefry key."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


def fresh_key(generator: np.random.Generator) -> jax.Array:
    return jr.wrap_key_data(jnp.asarray(fresh_words(generator)), impl="threefry2x32")


def checked(action: Any, space: gym.Space) -> np.ndarray:
    """An action, or several, of the dtype of its space: a number beyond a box's bounds is one that
    the simulator clips. Raises ValueError for one that is not finite, or names no choice."""
    given, box = np.asarray(action), isinstance(space, gym.spaces.Box)
    number = np.issubdtype(given.dtype, np.number)
    if (
        not number
        or given.shape != space.shape
        or not (np.isfinite(given).all() if box else given in space)
    ):
        raise ValueError(f"action {given} of shape {given.shape}; needed is one of {space}")
    return given.astype(space.dtype)


def _plain(episode: Running) -> Running:
    """With its key as numbers."""
    return eqx.tree_at(lambda e: e.key, episode, jr.key_data(episode.key))


@jax.jit
def _reset(simulated: Simulated, key: jax.Array) -> Running:
    return simulated.reset(key)


@jax.jit
def _begin(simulated: Simulated, start: Any, key: jax.Array) -> Running:
    return simulated.begin(start, key)


@jax.jit
def _step(simulated: Simulated, episode: Running, action: Any) -> tuple[Running, Moment]:
    return simulated.step(episode, action)
