"""Windows for learning, drawn from the ring of episodes."""

import numpy as np

from dreamer_h.replay.ring import Ring
from dreamer_h.types import Sequence


def sample(
    ring: Ring, rng: np.random.Generator, batch: int, length: int, tick: int = 1
) -> Sequence:
    """Draw `batch` windows of T=`length` agent steps; leaves are (B, T+1, ...), action (B, T, A).

    A window lies inside one episode and starts at a multiple of `tick` agent steps (the coarsest
    level's), counted from the episode's start: so the clocks agree between learning and acting.
    Each agent step of the ring is drawn with equal probability to name its episode. The start is
    uniform over a range that reaches T/2 beyond both ends of the episode, then clipped into it, so
    that steps near the ends are seen about as often as those in the middle, and rounded to the
    nearest tick. The last start is rounded up, so that no episode's tail is left out.
    What lies behind an episode's end (of a last window, or of an episode shorter than T) is zero
    and has mask False. `is_first` is True only at the episode's first observation.

    A function of the ring's contents and of `rng` alone. Raises ValueError if the ring is empty.
    """
    T = length
    if batch < 1 or not 1 <= tick <= T:
        raise ValueError(
            f"batch {batch}, length {T} and tick {tick}: needed are batch >= 1 and length >= tick "
            ">= 1, else steps between two starts are in no window"
        )
    if ring.num_steps == 0:
        raise ValueError(
            "the replay holds no agent step to sample from; collect at least one before the first "
            "update (a longer prefill with random actions)"
        )
    episodes = ring.holding(rng.integers(ring.num_steps, size=batch))
    steps = np.array([len(episode) for episode in episodes])
    starts = _draw_starts(rng, steps, T, tick)

    obs = np.zeros((batch, T + 1, *ring.obs_shape), ring.obs_dtype)
    action = np.zeros((batch, T, ring.action_dim), np.float32)
    reward = np.zeros((batch, T + 1), np.float32)
    is_terminal = np.zeros((batch, T + 1), bool)
    for b, (episode, start) in enumerate(zip(episodes, starts.tolist(), strict=True)):
        stop = min(start + T, len(episode))
        n = stop - start
        obs[b, : n + 1] = episode.obs[start : stop + 1]
        action[b, :n] = episode.action[start:stop]
        reward[b, : n + 1] = episode.reward[start : stop + 1]
        is_terminal[b, : n + 1] = episode.is_terminal[start : stop + 1]
    t = starts[:, None] + np.arange(T + 1)
    return Sequence(obs, action, reward, t == 0, is_terminal, mask=t <= steps[:, None])


def check_window(length: int, tick: int, shortest_episode: int) -> None:
    """Raise ValueError unless `length` agent steps are whole ticks and fit in every episode.

    tick, shortest_episode: agent steps; the shortest episode that a time limit alone ends.
    """
    longest = shortest_episode - shortest_episode % tick
    if longest < 1:
        raise ValueError(
            f"the shortest episode has {shortest_episode} agent steps and the coarsest level ticks "
            f"every {tick}; at least one tick must fit: use fewer levels or smaller strides"
        )
    if length < 1 or length % tick:
        below = length - length % tick
        fits = [n for n in (below, below + tick) if 1 <= n <= longest] or [longest]
        raise ValueError(
            f"window length {length} is not a positive multiple of the tick {tick} (agent steps); "
            f"set --replay.length to {' or '.join(map(str, fits))}"
        )
    if length > shortest_episode:
        raise ValueError(
            f"window length {length} is longer than the shortest episode, {shortest_episode} agent "
            f"steps; set --replay.length to {longest} or a smaller multiple of {tick}"
        )


def _draw_starts(rng: np.random.Generator, steps: np.ndarray, T: int, tick: int) -> np.ndarray:
    last = np.maximum(0, -((T - steps) // tick) * tick)  # L - T, rounded up to a tick
    half = T // 2
    starts = np.clip(rng.integers(-half, last + half + 1), 0, last)
    return (starts + tick // 2) // tick * tick
