import numpy as np
import pytest

from dreamer_h.train import gap
from dreamer_h.train.evaluate import Episode
from dreamer_h.train.state import Agent

ANYONE = object.__new__(Agent)  # nothing here asks it


def lasting(steps: int, *, sampled: bool = True) -> Episode:
    """Pays 2 for every step."""
    reward = np.full(steps + 1, 2.0, np.float32)
    return Episode(sampled, np.zeros((steps + 1, 3)), np.zeros((steps, 1)), reward, None)


@pytest.mark.parametrize("steps", [17, 60, 250, 500])
def test_the_return_is_per_64_steps_however_long_the_episode(monkeypatch, steps):
    def one_a_step(agent, sequence, starts, lengths, *, key):
        assert len(sequence.obs) == max(starts) + 1 and (starts + lengths <= steps).all()
        return lengths.astype(float)

    monkeypatch.setattr(gap, "_promised", one_a_step)
    found = gap.imagined_and_real(ANYONE, [lasting(steps), lasting(steps, sampled=False)])
    assert found == pytest.approx((64.0, 128.0))


def test_an_episode_that_reaches_no_start_says_nothing():
    assert gap.imagined_and_real(ANYONE, [lasting(16)]) is None
