"""Networks and windows small enough to compile in a second."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dreamer_h.config import BehaviourConfig, Config, OptimizerConfig, ReplayConfig, WorldConfig
from dreamer_h.types import Observed, Sequence

OBS, ACTION = 3, 2
STATE = Observed((OBS,), jnp.float32)
PIXELS = Observed((16, 16, 3), jnp.uint8)

WORLD = WorldConfig(
    deter=8, hidden=8, units=8, groups=2, classes=4, blocks=2, depth=1, bins=41, free_nats=0.0
)
BEHAVIOUR = BehaviourConfig(units=8, layers=1, bins=41, imagine_length=3)


def config(world=WORLD, behaviour=BEHAVIOUR, **changes) -> Config:
    optimizer = changes.pop("optimizer", OptimizerConfig())
    return Config(
        replay=ReplayConfig(batch=2, length=4),
        world=world,
        behaviour=behaviour,
        optimizer=optimizer,
        **changes,
    )


def batch(seed=0, size=2, steps=4, obs=STATE) -> Sequence:
    """Random windows; the first of them starts an episode."""
    rng = np.random.default_rng(seed)
    if obs.dtype == jnp.uint8:
        seen = rng.integers(0, 256, (size, steps + 1, *obs.shape), dtype=np.uint8)
    else:
        seen = rng.normal(size=(size, steps + 1, *obs.shape)).astype(np.float32)
    is_first = np.zeros((size, steps + 1), bool)
    is_first[0, 0] = True
    return Sequence(
        obs=jnp.asarray(seen),
        action=jnp.asarray(rng.uniform(-1, 1, (size, steps, ACTION)), jnp.float32),
        reward=jnp.asarray(rng.normal(size=(size, steps + 1)), jnp.float32),
        is_first=jnp.asarray(is_first),
        is_terminal=jnp.zeros((size, steps + 1), bool),
        mask=jnp.ones((size, steps + 1), bool),
    )


def window(seed=0, steps=4) -> Sequence:
    """One window, without the batch axis."""
    return jax.tree.map(lambda leaf: leaf[0], batch(seed, 1, steps))


def weights(build, seed=0, scale=1.0):
    """What `build` makes, with every parameter random: zero outputs and unit scales hide mistakes.

    Only shapes are taken from `build`, so nothing compiles.
    """
    rng = np.random.default_rng(seed)

    def fill(leaf):
        shape = leaf.shape[1:] if len(leaf.shape) == 3 else leaf.shape  # of one block
        fan_in = math.prod(shape[:-1]) if len(shape) > 1 else 1
        return jnp.asarray(scale * rng.normal(size=leaf.shape) / fan_in**0.5, leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(build))


def peaked(head):
    """A two-hot head whose predictions are of order one: its outer bins are around 5e8."""
    index = np.arange(head.output.bias.shape[0]) - head.output.bias.shape[0] // 2
    return eqx.tree_at(lambda h: h.output.bias, head, jnp.asarray(-0.5 * index**2, jnp.float32))
