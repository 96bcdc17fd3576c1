import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer_h.replay.episode import Episode
from dreamer_h.replay.queue import EpisodeQueue
from dreamer_h.replay.ring import Ring
from tests.replay.fake import action_at, make_ring, obs_at, play, reward_at, step


def assert_episode_is_its_own(ring, episode, terminal):
    L = len(episode)
    np.testing.assert_array_equal(episode.obs, [obs_at(ring, episode.id, t) for t in range(L + 1)])
    np.testing.assert_array_equal(episode.action, [action_at(episode.id, t) for t in range(L)])
    np.testing.assert_array_equal(
        episode.reward, [0.0] + [reward_at(episode.id, t) for t in range(1, L + 1)]
    )
    np.testing.assert_array_equal(episode.is_terminal, [False] * L + [terminal])


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("ends", ["terminal", "time"])
def test_finished_episodes_keep_every_field_aligned(pixels, ends):
    ring = make_ring(pixels=pixels)
    for length in (1, 2, 3, 7, 8, 9, 100):
        play(ring, length, ends=ends)
    assert ring.num_steps == 130
    assert ring.num_episodes == 7
    assert [len(e) for e in ring.finished()] == [1, 2, 3, 7, 8, 9, 100]
    for episode in ring.finished():
        assert_episode_is_its_own(ring, episode, ends == "terminal")


def test_episodes_of_environments_side_by_side_do_not_mix():
    ring = make_ring()
    for env_index in range(3):
        ring.begin(env_index, obs_at(ring, env_index, 0))
    for t in range(1, 41):
        for env_index in range(3):
            if t <= 20 + 10 * env_index:
                step(ring, env_index, env_index, t, False, t == 20 + 10 * env_index)
    assert [(e.id, len(e)) for e in ring.finished()] == [(0, 20), (1, 30), (2, 40)]
    for episode in ring.finished():
        assert_episode_is_its_own(ring, episode, False)


def test_finished_episodes_are_read_only_and_trimmed():
    ring = make_ring()
    play(ring, 9)
    (episode,) = ring.finished()
    for array in (episode.obs, episode.action, episode.reward, episode.is_terminal):
        assert not array.flags.writeable
        assert array.base is None  # owns its rows: no spare capacity behind them
    assert ring.nbytes == 10 * (8 + 4 + 1) + 9 * 4


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(12, 60),
    events=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["last", "go", "go", "go", "drop"])),
        max_size=200,
    ),
)
def test_capacity_and_memory_bounds_hold_while_old_episodes_leave_whole(capacity, events):
    ring = make_ring(capacity)
    ids, times, ended, left = {}, {}, [], [0]
    for env_index, what in events:
        if env_index not in ids:
            ids[env_index], times[env_index] = ring.next_id, 0
            ring.begin(env_index, obs_at(ring, ids[env_index], 0))
        if what == "drop":
            ring.drop(env_index)
            del ids[env_index]
            continue
        # longest 4 steps, so that 3 environments always fit
        times[env_index] += 1
        last = what == "last" or times[env_index] == 4
        step(ring, env_index, ids[env_index], times[env_index], last, last)
        if last:
            ended.append((ids.pop(env_index), times[env_index]))
        stored = [(e.id, len(e)) for e in ring.finished()]
        assert stored == ended[len(ended) - len(stored) :]  # the newest, none cut
        going = {k: len(e) for k, e in ring.unfinished().items()}
        assert going == {k: times[k] for k in ids}
        assert ring.num_steps == sum(n for _, n in stored) + sum(going.values()) <= capacity
        fresh = 3 * 2 * (8 + 4 + 4 + 1)  # environments at their first observation
        assert ring.nbytes <= ring.nbytes_bound + fresh
        for episode in ring.finished():
            assert_episode_is_its_own(ring, episode, True)
        left.append(len(ended) - len(stored))
        if left[-1] > left[-2]:  # nothing leaves before it must; a drop makes room afterwards
            assert ring.num_steps + ended[left[-1] - 1][1] > capacity
    steps = np.arange(ring.num_steps)
    expected = [e for e in [*ring.finished(), *ring.unfinished().values()] for _ in range(len(e))]
    assert [e.id for e in ring.holding(steps)] == [e.id for e in expected]


def test_memory_bound_is_reached_by_one_step_episodes():
    ring = make_ring(50)
    for _ in range(70):
        play(ring, 1)
    spare_action_rows = 50 * 4  # the bound counts an action a row
    assert ring.nbytes == ring.nbytes_bound - spare_action_rows


def test_queue_finds_every_step_after_long_wrap_around():
    queue = EpisodeQueue()
    zeros = lambda n: np.zeros(n, np.float32)
    lengths = {}
    for id in range(500):
        L = lengths[id] = 1 + id * 7 % 5
        queue.append(Episode(zeros(L + 1), zeros((L, 1)), zeros(L + 1), zeros(L + 1) > 0, id))
        if len(queue) > 20:
            assert queue.popleft().id == id - 20
        expected = [e.id for e in queue for _ in range(lengths[e.id])]
        assert queue.num_steps == len(expected)
        found = queue.holding(np.arange(queue.num_steps))
        assert [e.id for e in found] == expected
    assert len(queue._episodes) < 64  # those that left do not pile up
    while len(queue):
        queue.popleft()
    assert queue.num_steps == 0
    with pytest.raises(IndexError):
        queue.popleft()


@pytest.mark.parametrize("field", ["obs", "action", "reward"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_value_that_is_not_finite_is_refused_by_name_and_changes_nothing(field, bad):
    ring = make_ring(capacity=20)
    play(ring, 20)
    ring.begin(1, obs_at(ring, 1, 0))
    good = {"action": action_at(1, 0), "reward": reward_at(1, 1), "obs": obs_at(ring, 1, 1)}
    wrong = good | {field: np.full(np.shape(good[field]), bad)}
    with pytest.raises(ValueError, match=f"^{field} is not finite"):
        ring.append(1, **wrong, is_terminal=False, is_last=False)
    assert ring.num_steps == 20  # not even the oldest episode left
    ring.append(1, **good, is_terminal=False, is_last=False)
    (episode,) = ring.unfinished().values()
    assert_episode_is_its_own(ring, episode, False)


def test_first_observation_that_is_not_finite_is_refused():
    ring = make_ring()
    with pytest.raises(ValueError, match="obs is not finite"):
        ring.begin(0, np.array([0, np.nan]))
    ring.drop(0)  # what a caller does on any error
    play(ring, 3)
    assert ring.num_steps == 3


def test_drop_discards_only_the_unfinished_episode():
    ring = make_ring()
    play(ring, 5, env_index=0)
    play(ring, 4, env_index=0, ends="not")
    other = play(ring, 3, env_index=1, ends="not")
    ring.drop(0)
    assert ring.num_steps == 8
    assert [e.id for e in ring.finished()] == [0]
    assert [e.id for e in ring.unfinished().values()] == [other]
    assert play(ring, 2, env_index=0) == 3  # the dropped id is not used again


def test_wrong_shapes_dtypes_and_orders_are_refused():
    with pytest.raises(ValueError, match="float64"):
        make_ring_of(np.float64)
    with pytest.raises(ValueError, match="capacity"):
        make_ring(0)
    ring = make_ring()
    with pytest.raises(ValueError, match="begin"):
        step(ring, 0, 0, 1)
    with pytest.raises(ValueError, match=r"obs has shape \(3,\)"):
        ring.begin(0, np.zeros(3))
    play(ring, 1, ends="not")
    with pytest.raises(ValueError, match="in progress"):
        ring.begin(0, obs_at(ring, 1, 0))
    with pytest.raises(ValueError, match="reward has shape"):
        ring.append(0, action_at(0, 1), np.zeros(1), obs_at(ring, 0, 2), False, False)
    with pytest.raises(ValueError, match="terminal step is last"):
        step(ring, 0, 0, 2, is_terminal=True, is_last=False)
    with pytest.raises(ValueError, match="dtype float32"):
        make_ring(pixels=True).begin(0, np.zeros((2, 2, 3), np.float32))
    assert ring.num_steps == 1


def make_ring_of(dtype):
    return Ring(10, (2,), dtype, 1)


def test_episodes_in_progress_beyond_the_capacity_are_refused_with_advice():
    ring = make_ring(capacity=6)
    play(ring, 3, env_index=0, ends="not")
    play(ring, 3, env_index=1, ends="not")
    with pytest.raises(ValueError, match="number of environments times"):
        step(ring, 0, 0, 4)
    assert ring.num_steps == 6


def test_added_episode_is_a_copy_and_advances_the_ids():
    source, ring = make_ring(), make_ring(capacity=8)
    for length in (3, 4, 5):
        play(source, length)
    for episode in source.finished():
        ring.add(episode)
    assert [(e.id, len(e)) for e in ring.finished()] == [(2, 5)]  # 4 + 5 > 8
    assert ring.next_id == 3
    (mine,), theirs = ring.finished(), list(source.finished())[-1]
    assert not np.shares_memory(mine.obs, theirs.obs)
    with pytest.raises(ValueError, match="rows"):
        Episode(mine.obs[:-1], mine.action, mine.reward, mine.is_terminal, 7)
