import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer_h.replay.ring import Ring
from dreamer_h.replay.sampler import check_window, sample
from tests.replay.fake import assert_window_is_one_episode, make_ring, obs_at, play, step


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    tick=st.integers(1, 9),
    ticks=st.integers(1, 4),
    extra=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_stay_in_one_episode_start_at_a_tick_and_pad_with_masked_zeros(
    lengths, tick, ticks, extra, seed
):
    ring = make_ring(capacity=100)
    by_id = {play(ring, length): length for length in lengths}
    stored = {e.id for e in ring.finished()}
    seq = sample(ring, np.random.default_rng(seed), 8, tick * ticks + extra, tick)
    for b in range(8):
        id = assert_window_is_one_episode(seq, b, by_id, tick)
        assert id in stored


def test_leaves_have_the_shapes_and_dtypes_of_a_batch():
    for pixels, dtype in ((False, np.float32), (True, np.uint8)):
        ring = make_ring(pixels=pixels)
        play(ring, 30)
        seq = sample(ring, np.random.default_rng(0), 5, 8)
        assert seq.obs.shape == (5, 9, *ring.obs_shape)
        assert seq.obs.dtype == dtype
        assert seq.action.shape == (5, 8, 1)
        assert seq.action.dtype == seq.reward.dtype == np.float32
        for flag in (seq.is_first, seq.is_terminal, seq.mask):
            assert flag.shape == (5, 9)
            assert flag.dtype == bool
        assert seq.reward.shape == (5, 9)


def test_episodes_in_progress_are_sampled_at_once():
    ring = make_ring()
    play(ring, 50)
    ring.begin(1, obs_at(ring, 1, 0))
    rng = np.random.default_rng(0)
    assert set(sample(ring, rng, 500, 10).obs[:, 0, 0]) == {0}  # one observation is no step yet
    for t in range(1, 51):
        step(ring, 1, 1, t)
    seq = sample(ring, rng, 500, 10)
    assert set(seq.obs[:, 0, 0]) == {0, 1}
    new = seq.obs[:, 0, 0] == 1
    assert not seq.is_terminal[new].any()
    assert 0.4 < new.mean() < 0.6  # half of the steps; 4.5 sigma of a fair coin


def test_sampled_batch_does_not_change_when_the_ring_does():
    ring = make_ring(capacity=40)
    play(ring, 20, ends="not")
    seq = sample(ring, np.random.default_rng(0), 4, 8)
    before = seq.obs.copy()
    for t in range(21, 41):
        step(ring, 0, 0, t, is_last=t == 40)
    play(ring, 40)
    np.testing.assert_array_equal(seq.obs, before)


def test_episode_is_drawn_in_proportion_to_its_steps():
    ring = make_ring()
    lengths = np.array([10, 20, 70, 100])
    for length, ends in zip(lengths, ["terminal", "time", "terminal", "not"], strict=True):
        play(ring, int(length), ends=ends)
    seq = sample(ring, np.random.default_rng(0), 20_000, 4)
    share = np.bincount(seq.obs[:, 0, 0].astype(int)) / 20_000
    # 5 sigma of a share of one half among 20000
    np.testing.assert_allclose(share, lengths / lengths.sum(), atol=0.018)


@pytest.mark.parametrize(
    ("L", "T", "tick"), [(200, 64, 1), (200, 64, 8), (203, 64, 8), (500, 64, 64), (65, 64, 8)]
)
def test_every_step_of_an_episode_is_seen_about_equally_often(L, T, tick):
    ring = make_ring()
    play(ring, L)
    seq = sample(ring, np.random.default_rng(0), 10_000, T, tick)
    from_obs = seq.obs[:, :-1, 1][seq.mask[:, 1:]]  # where each real agent step was taken
    seen = np.bincount(from_obs.astype(int), minlength=L)
    assert len(seen) == L
    # By construction: a step at the very end is seen T/2 + 1 times where the middle is seen T
    # times, one T from the end 3T/2 times; without the reach beyond the ends it would be 1 in T.
    assert seen.min() > 0.45 * seen.mean()
    assert seen.max() < 1.75 * seen.mean()
    start = seq.obs[:, 0, 1]
    assert start.max() == max(0, -(-(L - T) // tick) * tick)  # rounded up: the tail is covered
    np.testing.assert_allclose(start.mean(), start.max() / 2, rtol=0.05)  # no end is favoured


def test_short_episodes_start_at_their_first_step():
    ring = make_ring()
    play(ring, 5)
    seq = sample(ring, np.random.default_rng(0), 50, 16, 4)
    assert seq.is_first[:, 0].all()
    assert seq.mask.sum(1).tolist() == [6] * 50
    assert seq.is_terminal[:, 5].all()


def test_sample_is_a_function_of_ring_and_generator():
    def draw(seed):
        ring = make_ring(capacity=300)
        for length in (100, 120, 130, 50):
            play(ring, length)
        return sample(ring, np.random.default_rng(seed), 16, 32, 8)

    first, again, other = draw(3), draw(3), draw(4)
    for name in ("obs", "action", "reward", "is_first", "is_terminal", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.obs != other.obs).any()


def test_empty_ring_raises_with_advice():
    ring = make_ring()
    with pytest.raises(ValueError, match="collect"):
        sample(ring, np.random.default_rng(0), 1, 1)
    ring.begin(0, obs_at(ring, 0, 0))
    with pytest.raises(ValueError, match="collect"):
        sample(ring, np.random.default_rng(0), 1, 1)


@pytest.mark.parametrize(("batch", "length", "tick"), [(0, 8, 1), (1, 0, 1), (1, 8, 0), (1, 4, 8)])
def test_sizes_that_leave_gaps_are_refused(batch, length, tick):
    ring = make_ring()
    play(ring, 30)
    with pytest.raises(ValueError, match="needed"):
        sample(ring, np.random.default_rng(0), batch, length, tick)


@pytest.mark.parametrize(
    ("length", "tick", "shortest", "advice"),
    [
        (60, 8, 500, "set --replay.length to 56 or 64$"),
        (3, 8, 500, "set --replay.length to 8$"),
        (60, 8, 60, "set --replay.length to 56$"),
        (64, 8, 60, "set --replay.length to 56 or"),
        (90, 8, 60, "set --replay.length to 56$"),
        (64, 64, 60, "smaller strides"),
    ],
)
def test_check_window_says_what_to_set(length, tick, shortest, advice):
    with pytest.raises(ValueError, match=advice):
        check_window(length, tick, shortest)


def test_check_window_accepts_whole_ticks_up_to_the_shortest_episode():
    check_window(64, 8, 500)
    check_window(64, 64, 64)
    check_window(1, 1, 1)


def test_sampling_from_many_episodes_is_quick():
    ring = Ring(2_000, (24,), np.float32, 6)
    rng = np.random.default_rng(0)
    for i in range(400):
        env_index = i % 16
        ring.begin(env_index, np.zeros(24, np.float32))
        for t in range(5):
            ring.append(env_index, np.zeros(6), 0.0, np.zeros(24), False, t == 4 and i < 384)
    best = min(_seconds(lambda: sample(ring, rng, 16, 64, 8)) for _ in range(20))
    assert best < 3e-3  # ~0.2 ms without the type checks of the test run; slack for a busy machine


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
