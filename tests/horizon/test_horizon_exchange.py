import gymnasium as gym
import numpy as np
import pytest
import recorded

from dreamer_h.horizon.recorded.exchange import from_minari, to_minari
from dreamer_h.horizon.scoring.score import benchmark


@pytest.fixture(autouse=True)
def local(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_a_recording_goes_to_minari_and_comes_back(tmp_path):
    before = recorded.driven(tmp_path / "data", count=6)
    assert to_minari(before, "toy/driven-v0").total_episodes == 6
    after = from_minari("toy/driven-v0", tmp_path / "back")
    assert (after.task, after.tick, after.dt) == (before.task, before.tick, before.dt)
    assert after.layout == before.layout and not after.restartable
    for number in range(6):
        left, right = before.episode(number), after.episode(number)
        for name in ("obs", "action", "reward", "is_terminal"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert len(benchmark(after, {}).far) == 2  # it can be scored on


def foreign(name: str, low: float, high: float, size: float):
    """A data set of another, with random actions of that size."""
    minari = pytest.importorskip("minari")
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            id=i, observations=list(rng.normal(size=(6, 2)).astype(np.float32)),
            actions=list(rng.uniform(-size, size, (5, 1)).astype(np.float32)),
            rewards=[0.0] * 5, terminations=[False] * 5, truncations=[False] * 4 + [True],
        )
        for i in range(3)
    ]  # fmt: skip
    minari.create_dataset_from_buffers(
        dataset_id=name, buffer=buffers,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        action_space=gym.spaces.Box(low, high, (1,), np.float32),
    )  # fmt: skip
    return np.stack([buffer.actions for buffer in buffers])


def test_actions_come_in_the_range_that_simulators_know(tmp_path):
    given = foreign("toy/wide-v0", -3.0, 3.0, 3.0)
    found = from_minari("toy/wide-v0", tmp_path / "wide")
    action = np.stack([found.episode(number).action for number in range(3)])
    assert abs(given).max() > 1
    np.testing.assert_allclose(action, given / 3.0, atol=1e-6)
    foreign("toy/endless-v0", -np.inf, np.inf, 3.0)
    with pytest.raises(ValueError, match="times the edge"):
        from_minari("toy/endless-v0", tmp_path / "endless")


def test_a_recording_is_not_overwritten(tmp_path):
    before = recorded.driven(tmp_path / "data", count=6)
    to_minari(before, "toy/driven-v0")
    with pytest.raises(ValueError, match="holds another recording"):
        from_minari("toy/driven-v0", tmp_path / "data")


def test_what_is_not_there_has_a_plain_answer(tmp_path):
    with pytest.raises(ValueError, match="minari download toy/none-v0"):
        from_minari("toy/none-v0", tmp_path / "none")
