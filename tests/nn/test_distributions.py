import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamer_h.nn.coordinates import symexp, symlog
from dreamer_h.nn.distributions import Bernoulli, BoundedNormal, OneHot, Pixels, Symlog, TwoHot

# one shape throughout, so that jax compiles once
floats = hnp.arrays(np.float32, 6, elements=st.floats(-1e10, 1e10, width=32, allow_subnormal=False))
BINS = oracles.two_hot_bins(255)
encode = jax.jit(lambda target: TwoHot(jnp.zeros((6, 255))).encode(target))


@settings(deadline=None, max_examples=60)
@given(floats)
def test_symlog_follows_its_equation_and_symexp_inverts_it(x):
    found = symlog(jnp.asarray(x))
    np.testing.assert_allclose(found, oracles.symlog(x), rtol=2e-6, atol=1e-37)
    # an error of 1 ulp in the exponent y <= 23 is y ulps of the result
    np.testing.assert_allclose(symexp(found), x, rtol=1e-5, atol=1e-37)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float32, 6, elements=st.floats(-20, 20, width=32, allow_subnormal=False)))
def test_symexp_follows_its_equation(x):
    np.testing.assert_allclose(symexp(jnp.asarray(x)), oracles.symexp(x), rtol=1e-5, atol=1e-7)


@settings(deadline=None, max_examples=100)
@given(floats)
def test_two_hot_weights_are_those_of_the_two_nearest_bins(target):
    found = np.asarray(encode(jnp.asarray(target)))
    wanted = np.stack([oracles.two_hot(float(t), BINS) for t in target])
    # float32 bins: a weight moves by the rounding of the bin over the gap to its neighbour (17 %)
    np.testing.assert_allclose(found, wanted, atol=5e-6)
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=2e-6)
    inside = np.clip(target.astype(np.float64), BINS[0], BINS[-1])
    np.testing.assert_allclose(found @ BINS, inside, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("target", [-np.inf, -1e30, -4.9e8, 4.9e8, 1e30, np.inf])
def test_a_target_beyond_the_range_is_the_outer_bin(target):
    weights = TwoHot(jnp.zeros(255)).encode(jnp.float32(target))
    wanted = np.zeros(255)
    wanted[0 if target < 0 else -1] = 1.0
    np.testing.assert_array_equal(weights, wanted)


@pytest.mark.parametrize("bins", [3, 5, 41, 255])
def test_each_bin_is_its_own_encoding(bins):
    dist = TwoHot(jnp.zeros((bins, bins)))
    np.testing.assert_allclose(dist.bins, oracles.two_hot_bins(bins), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(dist.encode(jnp.asarray(dist.bins)), np.eye(bins), atol=1e-6)


def test_two_hot_mean_and_loss_follow_their_equations(normal):
    logits = normal(6, 255, scale=3.0)
    target = jnp.asarray([-1e9, -33.0, 0.0, 0.01, 700.0, 1e9])
    dist = TwoHot(logits)
    wanted = [oracles.two_hot_mean(row, BINS) for row in logits]
    # bins up to 5e8 cancel: the tolerance is float32's of the largest term
    np.testing.assert_allclose(dist.mean, wanted, rtol=1e-4, atol=10.0)
    wanted = [
        oracles.two_hot_loss(row, float(t), BINS) for row, t in zip(logits, target, strict=True)
    ]
    np.testing.assert_allclose(dist.loss(target), wanted, rtol=1e-5)
    both = dist.cross_entropy(dist.encode(target) + 0.5 * dist.encode(-target))
    np.testing.assert_allclose(both, dist.loss(target) + 0.5 * dist.loss(-target), rtol=1e-5)


def test_two_hot_mean_is_accurate_where_the_mass_is_near_zero():
    logits = -0.5 * (jnp.arange(255) - 130.3) ** 2
    np.testing.assert_allclose(
        TwoHot(logits).mean, oracles.two_hot_mean(np.float64(logits), BINS), rtol=1e-5
    )


@pytest.mark.parametrize("level", [0.0, 7.0, -300.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_equal_two_hot_logits_predict_exactly_zero(level, dtype):
    assert float(TwoHot(jnp.full(255, level, dtype)).mean) == 0.0


def test_the_two_hot_loss_is_least_at_the_target_and_carries_no_gradient_to_it():
    target = jnp.float32(3.7)
    dist = TwoHot(jnp.zeros(41))
    best = TwoHot(jnp.log(dist.encode(target) + 1e-12))
    np.testing.assert_allclose(best.mean, target, rtol=1e-4)
    gradient = jax.grad(lambda logits: TwoHot(logits).loss(target))(best.logits)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    assert float(jax.grad(lambda t: best.loss(t))(target)) == 0.0


def test_one_hot_probabilities_entropy_and_kl_follow_their_equations(normal):
    p, q = normal(2, 5, 3, 7, scale=4.0)
    for unimix in (0.0, 0.01, 0.3):
        left, right = OneHot.from_logits(p, unimix), OneHot.from_logits(q, unimix)
        np.testing.assert_allclose(jnp.exp(left.log_probs), oracles.mixed(p, unimix), rtol=1e-5)
        wanted_p, wanted_q = oracles.mixed(p, unimix), oracles.mixed(q, unimix)
        kl = [oracles.kl(a, b) for a, b in zip(wanted_p, wanted_q, strict=True)]
        np.testing.assert_allclose(left.kl(right), kl, rtol=1e-4)
        np.testing.assert_allclose(
            left.entropy(), [oracles.entropy(a) for a in wanted_p], rtol=1e-4
        )
        np.testing.assert_array_equal(left.kl(left), 0.0)
    # a class that is next to impossible is no class that nothing can be said of
    sure = OneHot.from_logits(jnp.asarray([[500.0, 0.0]]), 0.0)
    assert float(sure.entropy()) == 0.0
    assert float(OneHot.from_logits(jnp.zeros((1, 2)), 0.0).kl(sure)) > 200.0


def test_one_hot_samples_occur_as_often_as_their_probability_with_its_uniform_share(getkey):
    # the last class is impossible but for the uniform share
    logits = jnp.asarray([[2.0, 0.0, 1.0, -50.0], [0.0, 0.0, 0.0, -50.0]])
    dist, count = OneHot.from_logits(logits, 0.2), 20_000
    draws = jax.vmap(dist.sample)(jr.split(getkey(), count))
    np.testing.assert_allclose(draws.sum(-1), 1.0, atol=1e-6)
    probs = oracles.mixed(logits, 0.2)
    np.testing.assert_allclose(probs[:, -1], 0.05)
    # five standard errors
    np.testing.assert_array_less(
        np.abs(np.asarray(draws.mean(0)) - probs), 5.0 * np.sqrt(probs * (1 - probs) / count)
    )
    joint = np.einsum("sa,sb->ab", *np.asarray(draws).transpose(1, 0, 2)) / count
    product = np.outer(*probs)
    np.testing.assert_array_less(
        np.abs(joint - product), 5.0 * np.sqrt(product * (1 - product) / count)
    )


def test_without_the_uniform_share_a_certain_class_is_always_drawn(getkey):
    logits = jnp.asarray([[-200.0, 0.0, -200.0], [0.0, -200.0, -200.0], [-200.0, -200.0, 0.0]])
    draws = jax.vmap(OneHot.from_logits(logits, 0.0).sample)(jr.split(getkey(), 1000))
    np.testing.assert_array_equal(draws, np.broadcast_to(logits == 0.0, draws.shape))


def test_the_straight_through_gradient_is_that_of_the_probabilities(normal, getkey):
    logits, weights, key = normal(3, 4), normal(3, 4), getkey()

    def drawn(logits):
        return jnp.sum(weights * OneHot.from_logits(logits, 0.1).sample(key))

    def expected(logits):
        return jnp.sum(weights * (0.9 * jax.nn.softmax(logits) + 0.1 / 4))

    # rounding only; the draw itself differs from the probabilities
    np.testing.assert_allclose(jax.grad(drawn)(logits), jax.grad(expected)(logits), atol=1e-6)
    assert set(np.unique(np.round(OneHot.from_logits(logits, 0.1).sample(key), 5))) == {0.0, 1.0}


def test_the_mode_of_a_one_hot_is_its_likeliest_class(normal):
    logits = normal(5, 3, 7)
    mode = OneHot.from_logits(logits, 0.01).mode
    np.testing.assert_array_equal(mode.argmax(-1), logits.argmax(-1))
    np.testing.assert_array_equal(mode.sum(-1), 1.0)


def test_the_bounded_normal_follows_its_equations(normal):
    outputs, action = normal(7, 6, scale=3.0), normal(7, 3)
    dist = BoundedNormal.from_outputs(outputs)
    mean, std = oracles.bounded_normal(outputs)
    np.testing.assert_allclose(dist.mode, mean, atol=1e-6)
    np.testing.assert_allclose(dist.scale, std, atol=1e-6)
    # z^2 up to a few hundred at the least std of 0.1
    np.testing.assert_allclose(
        dist.log_prob(action), oracles.normal_log_prob(action, mean, std), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(dist.entropy(), oracles.normal_entropy(std), rtol=1e-5, atol=1e-5)


def test_the_bounded_normal_stays_in_its_bounds():
    dist = BoundedNormal.from_outputs(jnp.asarray([-1e4, 1e4, -1e4, 1e4]))
    np.testing.assert_allclose(dist.mode, [-1.0, 1.0])
    np.testing.assert_allclose(dist.scale, [0.1, 1.0], rtol=1e-6)


def test_draws_of_the_bounded_normal_have_its_moments_and_its_gradient(getkey):
    outputs = jnp.asarray([0.5, -1.0, 0.3, -2.0])
    dist, count, key = BoundedNormal.from_outputs(outputs), 20_000, getkey()
    draws = jax.vmap(dist.sample)(jr.split(key, count))
    error = 5.0 / np.sqrt(count)  # five standard errors, in units of std
    np.testing.assert_array_less(abs(draws.mean(0) - dist.location) / dist.scale, error)
    np.testing.assert_array_less(abs(draws.std(0) / dist.scale - 1.0), error)

    def drawn(outputs):
        return BoundedNormal.from_outputs(outputs).sample(key)

    noise = (drawn(outputs) - dist.location) / dist.scale
    by_location, by_scale = jnp.split(jax.jacobian(drawn)(outputs), 2, axis=1)
    slope = 0.9 * oracles.sigmoid(outputs[2:] + 2.0) * (1 - oracles.sigmoid(outputs[2:] + 2.0))
    np.testing.assert_allclose(jnp.diag(by_location), 1 - np.tanh(outputs[:2]) ** 2, rtol=1e-5)
    np.testing.assert_allclose(jnp.diag(by_scale), noise * slope, rtol=1e-4, atol=1e-5)


def test_bernoulli_loss_is_the_cross_entropy_to_a_soft_target(normal):
    logit, target = normal(9, scale=3.0), jnp.asarray(oracles.sigmoid(normal(9)), jnp.float32)
    p = oracles.sigmoid(logit)
    wanted = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    np.testing.assert_allclose(Bernoulli(logit).loss(target), wanted, rtol=1e-5)
    np.testing.assert_allclose(Bernoulli(logit).mean, p, rtol=1e-5)
    extreme = Bernoulli(jnp.asarray([1e4, -1e4])).loss(jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(extreme, 1e4)  # no infinity


def test_symlog_and_pixel_predictions_are_in_physical_units(normal):
    output, target = normal(4, 5), normal(4, 5, scale=50.0)
    wanted = ((np.float64(output) - oracles.symlog(target)) ** 2).sum(-1)
    np.testing.assert_allclose(Symlog(output).loss(target), wanted, rtol=1e-5)
    np.testing.assert_allclose(Symlog(symlog(target)).mean, target, rtol=1e-4, atol=1e-5)

    image = jnp.asarray(255 * oracles.sigmoid(normal(2, 4, 4, 3)), jnp.uint8)
    output = normal(2, 4, 4, 3)
    wanted = ((oracles.sigmoid(output) - np.float64(image) / 255) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(Pixels(output).loss(image), wanted, rtol=1e-5)
    np.testing.assert_allclose(Pixels(output).mean, 255 * oracles.sigmoid(output), rtol=1e-5)


@pytest.mark.parametrize("count", [2, 5])
def test_several_predictions_are_judged_by_their_almost_fair_crps(normal, count):
    output, target, scale = normal(count, 3, 4), normal(3, 4, scale=5.0), normal(4)
    wanted = oracles.almost_fair_crps(np.float64(output), oracles.symlog(target))
    found = Symlog(output).ensemble_loss(target)
    np.testing.assert_allclose(found, wanted.sum(-1), rtol=1e-4, atol=1e-5)
    wanted = wanted / np.exp(np.float64(scale)) + np.float64(scale)
    found = Symlog(output, scale).ensemble_loss(target)
    np.testing.assert_allclose(found, wanted.sum(-1), rtol=1e-4, atol=1e-4)
    image = jnp.asarray(255 * oracles.sigmoid(normal(2, 4, 4, 3)), jnp.uint8)
    output = normal(count, 2, 4, 4, 3)
    wanted = oracles.almost_fair_crps(oracles.sigmoid(output), np.float64(image) / 255)
    found = Pixels(output).ensemble_loss(image)
    np.testing.assert_allclose(found, wanted.sum((1, 2, 3)), rtol=1e-4)


def test_two_predictions_are_best_when_they_spread_as_the_truth_does(seed):
    rng = np.random.default_rng(seed)
    truth = jnp.asarray(oracles.symexp(rng.normal(size=(20_000, 1))), jnp.float32)
    noise = jnp.asarray(rng.normal(size=(2, 20_000, 1)), jnp.float32)
    loss = {spread: Symlog(spread * noise).ensemble_loss(truth).mean() for spread in (0.6, 1, 1.5)}
    assert min(loss, key=loss.__getitem__) == 1
