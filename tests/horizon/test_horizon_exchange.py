import numpy as np
import pytest
import recorded

from dreamer_h.horizon.exchange import from_minari, to_minari
from dreamer_h.horizon.score import benchmark


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


def test_a_recording_is_not_overwritten(tmp_path):
    before = recorded.driven(tmp_path / "data", count=6)
    to_minari(before, "toy/driven-v0")
    with pytest.raises(ValueError, match="holds a recording already"):
        from_minari("toy/driven-v0", tmp_path / "data")


def test_what_is_not_there_has_a_plain_answer(tmp_path):
    with pytest.raises(ValueError, match="minari download toy/none-v0"):
        from_minari("toy/none-v0", tmp_path / "none")
