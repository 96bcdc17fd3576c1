import jax.numpy as jnp
import numpy as np
import oracles

from dreamer_h.nn.statistics import EntropyWeight, ReturnScale, RunningQuantile


def test_the_return_scale_averages_percentiles_without_correcting_its_start(normal):
    scale = ReturnScale.init(0.1)
    low = high = 0.0
    for i in range(5):
        returns = normal(7, 9, scale=100.0 + 30 * i)
        low = 0.9 * low + 0.1 * oracles.percentile(returns, 5)
        high = 0.9 * high + 0.1 * oracles.percentile(returns, 95)
        scale = scale.update(returns)
        np.testing.assert_allclose([scale.low, scale.high], [low, high], rtol=1e-4)
        np.testing.assert_allclose(scale.scale, high - low, rtol=1e-4)
        assert high - low > 1


def test_the_return_scale_never_blows_small_returns_up(normal):
    scale = ReturnScale.init(1.0).update(normal(50, scale=0.01))
    assert float(scale.scale) == 1.0
    assert float(ReturnScale.init().scale) == 1.0


def test_one_outlier_moves_the_return_scale_less_than_the_spread():
    returns = jnp.linspace(0.0, 10.0, 200)
    plain = ReturnScale.init(1.0).update(returns).scale
    np.testing.assert_allclose(
        ReturnScale.init(1.0).update(returns.at[0].set(1e6)).scale, plain, rtol=0.05
    )


def test_returns_that_are_not_real_do_not_count(normal):
    returns, real = normal(4, 6, scale=10.0), jnp.arange(6) < 3
    found = ReturnScale.init(0.5).update(jnp.where(real, returns, 1e6), real)
    wanted = ReturnScale.init(0.5).update(returns[:, :3])
    np.testing.assert_allclose([found.low, found.high], [wanted.low, wanted.high], rtol=1e-5)
    # a batch of nothing but ends teaches nothing, and is not NaN
    again = wanted.update(returns, jnp.zeros(6, bool))
    np.testing.assert_allclose(again.scale, wanted.scale, rtol=1e-6)


def test_a_tuned_weight_rises_below_the_target_and_falls_above():
    entropy = jnp.asarray([[0.5, 7.0], [1.5, -7.0]])
    first = EntropyWeight.init(0.01, 2.0, 0.1)
    found = first.update(entropy, jnp.asarray([True, False]))
    np.testing.assert_allclose(found.weight, 0.01 * np.exp(0.1 * (2.0 - 1.0)), rtol=1e-5)
    assert float(first.update(entropy + 5.0).weight) < 0.01
    # a batch of nothing but ends teaches nothing, and is not NaN
    unchanged = first.update(entropy, jnp.asarray([False, False]))
    assert float(unchanged.weight) == float(first.weight)


def test_a_weight_without_a_rate_stays():
    first = EntropyWeight.init(0.01, 2.0, 0.0)
    assert float(first.update(jnp.asarray([100.0])).weight) == float(first.weight)


def test_a_running_quantile_counts_what_is_real(normal):
    values, real = normal(40, scale=3.0), jnp.arange(40) < 20
    first = RunningQuantile.init(0.9, 0.25)
    found = first.update(jnp.where(real, values, 1e6), real)
    wanted = 0.25 * oracles.percentile(values[:20], 90)
    np.testing.assert_allclose(found.value, wanted, rtol=1e-4)
    again = found.update(values + 1.0, jnp.ones(40, bool))
    wanted = 0.75 * wanted + 0.25 * (oracles.percentile(values, 90) + 1.0)
    np.testing.assert_allclose(again.value, wanted, rtol=1e-4)
    # a batch of nothing but ends teaches nothing, and is not NaN
    assert float(again.update(values, jnp.zeros(40, bool)).value) == float(again.value)
