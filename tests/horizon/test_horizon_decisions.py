import numpy as np
import pytest
from scipy.stats import spearmanr

from dreamer_h.horizon.policies.decisions import decisions
from dreamer_h.horizon.statistics import spearman

EPISODES = np.arange(200)


def returns(means, rng, deviation=1.0):
    return np.asarray(means)[:, None] + deviation * rng.normal(size=(len(means), len(EPISODES)))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_faithful_simulator_ranks_without_regret(rng):
    paid = returns(range(8), rng)
    found = decisions(paid + 3.0, paid, EPISODES)  # a constant promise too much changes no choice
    assert found["rank_correlation"]["value"] == 1.0 and found["regret"]["value"] == 0.0
    assert found["error"]["value"] == pytest.approx(3.0)


def test_an_exploited_simulator_is_caught(rng):
    paid = returns([0, 1, 2, 3, 10], rng)
    promised = returns([9, 4, 3, 2, 1], rng)  # upside down
    found = decisions(promised, paid, EPISODES)
    assert found["rank_correlation"]["value"] == pytest.approx(-1.0)
    assert found["regret"]["value"] == pytest.approx(paid[4].mean() - paid[0].mean())
    assert found["regret_share"]["value"] == pytest.approx(1.0)


def test_intervals_hold_what_chance_does(rng):
    paid = returns([0.0, 0.1, 0.2, 0.3], rng)
    found = decisions(returns([0.0, 0.1, 0.2, 0.3], rng), paid, EPISODES)
    one = found["rank_correlation"]
    assert one["lo"] < one["value"] <= one["hi"] and one["hi"] - one["lo"] > 0.2
    assert found["error"]["hi"] - found["error"]["lo"] < 0.3


def test_ranks_are_spearmans(rng):
    left, right = rng.integers(4, size=(2, 12))  # with ties
    assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)
    assert spearman(np.ones(5), np.arange(5)) == 0.0


def test_of_equally_good_guesses_none_is_the_first(rng):
    paid = returns([0.0, 4.0, 8.0], rng)
    age = np.broadcast_to(np.array([1.0, 2.0, 2.0])[:, None], paid.shape)
    for order in ([0, 1, 2], [0, 2, 1]):
        found = decisions(age[order], paid[order], EPISODES)
        assert found["regret"]["value"] == pytest.approx((paid[2] - paid[1:].mean(0)).mean())


def test_few_policies_say_less_than_many_windows_do(rng):
    means = np.array([0.0, 3.0, 6.0, 9.0, 12.0])
    found = decisions(returns(means, rng), returns(means[[0, 2, 1, 3, 4]], rng), EPISODES)
    one = found["rank_correlation"]
    assert one["value"] == pytest.approx(0.9) and one["lo"] < 0.8


def test_doubt_tells_which_promises_are_wrong(rng):
    paid = returns(range(6), rng)
    wrong = np.array([0.0, 5.0, 1.0, 4.0, 2.0, 3.0])[:, None]
    found = decisions(paid + wrong, paid, EPISODES, doubt=returns(10 * wrong[:, 0], rng))
    assert found["error_told"]["value"] == pytest.approx(1.0)
    for silent in (None, np.zeros_like(paid)):
        assert "error_told" not in decisions(paid + wrong, paid, EPISODES, silent)


def test_two_policies_are_no_ranking(rng):
    with pytest.raises(ValueError, match="2 policies cannot be ranked"):
        decisions(returns([0, 1], rng), returns([0, 1], rng), EPISODES)
