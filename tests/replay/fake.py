"""Episodes whose every number says which episode and step it belongs to."""

import numpy as np

from dreamer_h.replay.ring import Ring

SCALE = 1024  # more than any episode here; exact in float32 for the few thousand episodes made


def make_ring(capacity=10_000, pixels=False):
    return Ring(capacity, (2, 2, 3), np.uint8, 1) if pixels else Ring(capacity, (2,), np.float32, 1)


def obs_at(ring, id, t):
    if ring.obs_dtype == np.uint8:
        return np.full(ring.obs_shape, (7 * id + t) % 256, np.uint8)
    return np.array([id, t], np.float32)


def action_at(id, t):
    return np.array([SCALE * id + t + 0.25], np.float32)


def reward_at(id, t):
    return np.float32(SCALE * id + t + 0.5)


def step(ring, env_index, id, t, is_terminal=False, is_last=False):
    """Arrive at obs t of episode `id`."""
    ring.append(
        env_index, action_at(id, t - 1), reward_at(id, t), obs_at(ring, id, t), is_terminal, is_last
    )


def play(ring, length, env_index=0, ends="terminal"):
    """Append an episode; `ends` is "terminal", "time" or "not". Returns its id."""
    id = ring.next_id
    ring.begin(env_index, obs_at(ring, id, 0))
    for t in range(1, length + 1):
        last = t == length and ends != "not"
        step(ring, env_index, id, t, last and ends == "terminal", last)
    return id


def assert_window_is_one_episode(seq, b, lengths, tick):
    """Every number of window b is that of one episode's successive steps; returns its id.
    lengths: agent steps of each terminal episode, by id."""
    id, start = (int(x) for x in seq.obs[b, 0])
    L = lengths[id]
    assert start % tick == 0
    assert 0 <= start < L
    now = start + np.arange(seq.obs.shape[1])
    inside = now <= L
    expected = {
        "mask": inside,
        "is_first": now == 0,
        "is_terminal": now == L,
        "obs": np.where(inside[:, None], np.stack([np.full_like(now, id), now], 1), 0),
        "reward": np.where(inside & (now > 0), SCALE * id + now + 0.5, 0),
        "action": np.where(now < L, SCALE * id + now + 0.25, 0)[:-1, None],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(seq, name)[b], values, err_msg=name)
    return id
