import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.types import Latent, Observed
from dreamer_h.world.encoder import make_encoder
from dreamer_h.world.world import World

H = 3


@pytest.fixture(scope="module")
def world() -> World:
    return tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)))


@pytest.fixture
def latent(normal) -> Latent:
    return Latent(normal(8), jnp.eye(4)[jnp.asarray([1, 3])], normal(2, 4))


step = jax.jit(lambda world, latent, action, *, key: world.step(latent, action, key=key))


def test_imagining_given_actions_equals_repeated_steps(world, latent, seed, normal):
    actions, key = normal(H, tiny.ACTION), jr.key(seed)
    imagined = jax.jit(lambda: world.imagine(latent, actions, key=key))()
    np.testing.assert_array_equal(imagined.action, actions)
    for t, step_key in enumerate(jr.split(key, H)):
        here = jax.tree.map(lambda leaf, t=t: leaf[t], imagined.latent)
        chex.assert_trees_all_close(here, latent, rtol=1e-4, atol=1e-5)
        latent = step(world, latent, actions[t], key=step_key)
    last = jax.tree.map(lambda leaf: leaf[H], imagined.latent)
    chex.assert_trees_all_close(last, latent, rtol=1e-4, atol=1e-5)


def test_a_policy_acts_on_the_latent_that_its_action_leaves(world, latent, seed):
    def policy(latent, key):
        return latent.features[:2] + jr.uniform(key, (2,))

    imagined = jax.jit(lambda: world.imagine(latent, policy, H, key=jr.key(seed)))()
    chex.assert_shape(imagined.action, (H, 2))
    chex.assert_shape(imagined.latent.deter, (H + 1, 8))
    noise = imagined.action - imagined.latent.features[:-1, :2]
    # rounding of the sum; every draw is another
    assert -1e-6 <= float(noise.min()) and float(noise.max()) <= 1 + 1e-6
    assert len(np.unique(noise)) == 2 * H
    again = latent
    for t in range(H):
        again = step(
            world, again, imagined.action[t], key=jr.split(jr.split(jr.key(seed), H)[t])[1]
        )
    last = jax.tree.map(lambda leaf: leaf[H], imagined.latent)
    chex.assert_trees_all_close(last, again, rtol=1e-4, atol=1e-5)


def test_imagining_with_a_policy_needs_a_length(world, latent):
    with pytest.raises(AssertionError, match="needs a length"):
        world.imagine(latent, lambda latent, key: jnp.zeros(2), key=jr.key(0))


def test_features_are_the_memory_then_the_code(latent):
    wanted = np.concatenate([latent.deter, np.ravel(latent.code)])
    np.testing.assert_array_equal(latent.features, wanted)


def test_a_fresh_world_predicts_a_reward_of_exactly_zero(world, latent, getkey):
    fresh = lambda key: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=key).reward.output
    world = eqx.tree_at(lambda w: w.reward.output, world, jax.jit(fresh)(getkey()))
    assert float(world.reward_of(latent.features).mean) == 0.0


def test_decoding_a_batch_equals_decoding_its_latents(world, normal):
    latents = Latent(normal(2, 3, 8), normal(2, 3, 2, 4), normal(2, 3, 2, 4))
    together = jax.jit(lambda latents: world.decode(latents))(latents)
    apart = jax.jit(jax.vmap(jax.vmap(lambda latent: world.decode(latent))))(latents)
    chex.assert_trees_all_close(together, apart, rtol=1e-4, atol=1e-5)
    chex.assert_shape(together.obs.mean, (2, 3, 3))
    chex.assert_shape([together.reward.mean, together.continue_.mean], (2, 3))


def test_a_pixel_world_encodes_and_decodes_images_of_every_allowed_shape():
    for shape in ((16, 16, 3), (32, 48, 1)):
        obs = Observed(shape, jnp.uint8)

        def there_and_back(image, obs=obs):
            world = World(obs, tiny.ACTION, tiny.WORLD, key=jr.key(0))
            latent = world.level.initial()
            embedding = world.encode(image)
            assert embedding.shape[-1] == world.encoder.width
            return world.decode(latent).obs.mean

        found = jax.eval_shape(there_and_back, jax.ShapeDtypeStruct((2, *shape), jnp.uint8))
        assert found.shape == shape


def test_the_pixel_encoder_scales_bytes_to_half_a_unit_around_zero(normal):
    encoder = tiny.weights(
        lambda: make_encoder(tiny.PIXELS, units=8, layers=1, depth=1, key=jr.key(0))
    )
    seen = []
    first = eqx.tree_at(
        lambda e: e.convs, encoder, (_Spy(seen, encoder.convs[0]), *encoder.convs[1:])
    )
    for value in (0, 255):
        first(jnp.full(tiny.PIXELS.shape, value, jnp.uint8))
    np.testing.assert_allclose(seen[0], -0.5)
    np.testing.assert_allclose(seen[1], 0.5)


class _Spy:
    def __init__(self, seen, conv):
        self.seen, self.conv, self.weight = seen, conv, conv.weight

    def __call__(self, x):
        self.seen.append(np.unique(x))
        return self.conv(x)


@pytest.mark.parametrize(
    "shape, dtype, advice",
    [
        ((60, 64, 3), np.uint8, "images of 60x64 are not multiples of 16; set --size to 48"),
        ((8, 8, 3), np.uint8, "set --size to 16"),
        ((64, 64, 3), np.float32, "needed is a float vector"),
        ((4,), np.int32, "needed is a float vector"),
        ((4, 4), np.float32, r"shape \(4, 4\) and dtype float32 have no encoder"),
    ],
)
def test_an_observation_without_an_encoder_is_refused_with_advice(shape, dtype, advice):
    obs = Observed(shape, dtype)
    with pytest.raises(ValueError, match=advice):
        make_encoder(obs, units=8, layers=1, depth=1, key=jr.key(0))
