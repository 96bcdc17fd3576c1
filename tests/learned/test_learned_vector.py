"""Many at once are what the single ones are, in every mode of Gymnasium's."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

ID, N, LIMIT = "dreamer_h/Learned-v0", 3, 4


def make(run, count=N, **options):
    return gym.make_vec(ID, num_envs=count, run=run, max_episode_steps=LIMIT, **options)


def actions(steps: int, count: int = N) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, count, 1)).astype(np.float32)


def agree(left, right) -> None:
    """Two results of step: everything, but for what adding up in another order changes."""
    for a, b in zip(left[:-1], right[:-1], strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    told(left[-1], right[-1])


def told(left: dict, right: dict) -> None:
    names = {name for name in right if "TimeLimit" not in name}
    assert left.keys() == names
    for name in names:
        if isinstance(right[name], dict):
            told(left[name], right[name])
        elif right[name].dtype == object:
            for a, b in zip(left[name], right[name], strict=True):
                assert (a is None) == (b is None)
                if a is not None:
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        else:
            assert left[name].dtype == right[name].dtype, name
            np.testing.assert_allclose(left[name], right[name], rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_mode_is_that_of_single_ones(run, mode):
    ours = make(run, autoreset_mode=mode.value)
    singles = [lambda: gym.make(ID, run=run, max_episode_steps=LIMIT) for _ in range(N)]
    theirs = SyncVectorEnv(singles, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"] == mode
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    agree(ours.reset(seed=11), theirs.reset(seed=11))
    for step, given in enumerate(actions(2 * LIMIT + 2)):
        mine = ours.step(given)
        agree(mine, theirs.step(given))
        over = mine[2] | mine[3]
        if mode == AutoresetMode.DISABLED and over.any():
            with pytest.raises(ResetNeeded):
                ours.step(given)
            agree(*(env.reset(options={"reset_mask": over.copy()}) for env in (ours, theirs)))
        if step == 1 and mode == AutoresetMode.DISABLED:  # one of them begins anew in between
            mask = np.array([False, True, False])
            agree(*(env.reset(options={"reset_mask": mask.copy()}) for env in (ours, theirs)))
    ours.close()
    theirs.close()


def test_their_number_changes_nothing(run):
    few, many = make(run, 2), make(run, 5)
    left, right = few.reset(seed=3)[0], many.reset(seed=3)[0]
    np.testing.assert_array_equal(left, right[:2])
    for given in actions(2 * LIMIT, 5):
        left, right = few.step(given[:2]), many.step(given)
        np.testing.assert_allclose(left[0], right[0][:2], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(left[3], right[3][:2])


def test_nothing_is_shared_between_results(run):
    env = make(run)
    first = env.reset(seed=0)
    kept = [first[0].copy()]
    results = [env.step(given) for given in actions(3)]
    first[0][:] = 7.0
    for result in results:
        result[0][:] = result[1][:] = 7.0
        result[-1]["steps"][:] = 99
    assert (env.step(actions(1)[0])[0] != 7.0).any()
    np.testing.assert_array_equal(env.reset(seed=0)[0], kept[0])


def test_statistics_of_gymnasium_work(run):
    env = RecordEpisodeStatistics(make(run))
    env.reset(seed=0)
    for given in actions(LIMIT):
        *_, info = env.step(given)
    assert info["episode"]["l"].tolist() == [LIMIT] * N


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reset_mask": np.zeros(N, bool)}, "names no"),
        ({"reset_mask": [True] * N}, "bool array"),
        ({"weather": 1}, "single LearnedEnv"),
    ],
)
def test_wrong_options_are_refused(run, options, message):
    env = make(run)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


def test_numbers_of_numpy_are_seeds_too(run):
    found, plain = (make(run).reset(seed=seed)[0] for seed in (np.int64(3), 3))
    np.testing.assert_array_equal(found, plain)


def test_wrong_numbers_are_refused(run):
    with pytest.raises(ValueError, match="num_envs is 0"):
        make(run, 0)
    with pytest.raises(ValueError, match="2 seeds for 3"):
        make(run).reset(seed=[1, 2])
    with pytest.raises(ResetNeeded):
        make(run).step(actions(1)[0])
