import numpy as np
import pytest

from dreamer_h.train.evaluation import gap
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.state import Agent

ANYONE = object.__new__(Agent)  # nothing here asks it


def lasting(steps: int, *, sampled: bool = True, terminated: bool = False) -> Episode:
    """Pays 2 for every step."""
    reward = np.full(steps + 1, 2.0, np.float32)
    nothing = np.zeros((steps + 1, 3)), np.zeros((steps, 1))
    return Episode(sampled, *nothing, reward, None, terminated=terminated)


@pytest.mark.parametrize("steps", [17, 60, 250, 500])
def test_both_returns_are_of_the_same_steps_with_the_same_discounts(monkeypatch, steps):
    def one_a_step(agent, sequence, starts, lengths, *, key):
        assert len(sequence.obs) == max(starts) + 1 and (starts + lengths <= steps).all()
        return {"imagined": np.array([0.9 ** np.arange(n) @ np.ones(n) for n in lengths])}

    monkeypatch.setattr(gap, "_promised", one_a_step)
    episodes = [lasting(steps), lasting(steps, sampled=False), lasting(16), lasting(steps)]
    found = gap.promised_and_paid(ANYONE, episodes, 10.0)
    assert found["real"].shape == (2,)  # of the two that are sampled and reach a start
    assert found["real"] == pytest.approx(2 * found["imagined"])


def test_who_promises_to_go_on_where_reality_ends_is_held_to_it(monkeypatch):
    """A simulator in which nobody ever falls: cut off after four steps, and fallen after four."""

    def one_a_step(agent, sequence, starts, lengths, *, key):
        return {"imagined": np.asarray(lengths, float)}

    monkeypatch.setattr(gap, "_promised", one_a_step)
    episodes = [lasting(20), lasting(20, terminated=True)]
    found = gap.promised_and_paid(ANYONE, episodes, 1e9)
    assert found["imagined"].tolist() == [4.0, 64.0]
    assert found["real"] == pytest.approx([8.0, 8.0])


def test_an_episode_that_reaches_no_start_says_nothing():
    assert gap.promised_and_paid(ANYONE, [lasting(16)], 10.0) == {}
