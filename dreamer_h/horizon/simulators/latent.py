"""Our own simulator as a `Simulator`: samples of its latent paths, decoded."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dreamer_h.horizon.simulator import Context, Forecast
from dreamer_h.types import Latent, Stack, context_of
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy


@dataclass(frozen=True)
class LatentSimulator:
    """Uses the world through its verbs only: `start`, `imagine`, `step` and `decode`.

    Every window and every sample has a stream of randomness of its own (threefry), so the number of
    windows scored together changes nothing.
    """

    world: AnyWorld
    crossovers: tuple[int | None, ...] = ()  # agent steps from which each upper level jumps

    @property
    def levels(self) -> int:
        """How many there are above the lowest."""
        return len(self.world.jumps) if isinstance(self.world, Hierarchy) else 0

    def start(self, context: Context, *, seed: int) -> Latent | Stack:
        """The posterior (W, ...) behind the context; samples of `imagine` share its memory."""
        return _start(self.world, context.obs, context.action, seed)

    def imagine(
        self, state: Latent | Stack, action: np.ndarray, samples: int, *, seed: int
    ) -> Forecast:
        obs, reward = _imagine(self.world, state, action, samples, seed, self.crossovers)
        return Forecast(np.asarray(obs), np.asarray(reward))

    def step(self, state: Latent | Stack, action: np.ndarray, *, seed: int):
        state, obs, reward = _step(self.world, state, action, seed)
        return state, np.asarray(obs), np.asarray(reward)

    def doubt(self, state: Latent | Stack, action: np.ndarray) -> np.ndarray:
        """Of level 0; 0 without an ensemble."""
        return np.asarray(_doubt(self.world, state.features, action))


def keys_of(seed, samples: int, windows: int):
    """(S, W) keys: that of a window does not depend on how many there are."""
    one = lambda s, w: jr.fold_in(jr.fold_in(jr.key(seed), s), w)
    return jax.vmap(lambda s: jax.vmap(lambda w: one(s, w))(jnp.arange(windows)))(
        jnp.arange(samples)
    )


@jax.jit
def _start(world, obs, action, seed):
    def one(obs, action, key):
        path = world.start(context_of(obs, action), key=key)
        return jax.tree.map(lambda leaf: leaf[-1], path)

    return jax.vmap(one)(obs, action, keys_of(seed, 1, len(obs))[0])


AT_ONCE = 5  # samples side by side: more of them take memory and no less time


@partial(jax.jit, static_argnames=("samples", "crossovers"))
def _imagine(world, latent, action, samples, seed, crossovers):
    action = jnp.asarray(action)
    # a single level has nothing to hand over to
    how = {"crossovers": crossovers} if isinstance(world, Hierarchy) else {}

    def path(latent, action, key):
        code_key, key = jr.split(key)
        # the last observation leaves the code uncertain: each sample starts from its own draw
        latent = world.redrawn(latent, key=code_key)
        imagined = world.imagine(latent, action, key=key, **how).latent
        prediction = world.decode(jax.tree.map(lambda leaf: leaf[1:], imagined))
        return prediction.obs.mean, prediction.reward.mean

    windows = lambda keys: jax.vmap(path)(latent, action, keys)
    return jax.lax.map(windows, keys_of(seed, samples, len(action)), batch_size=AT_ONCE)


@jax.jit
def _step(world, latent, action, seed):
    def one(latent, action, key):
        latent = world.step(latent, action, key=key)
        prediction = world.decode(latent)
        return latent, prediction.obs.mean, prediction.reward.mean

    return jax.vmap(one)(latent, jnp.asarray(action), keys_of(seed, 1, len(action))[0])


@jax.jit
def _doubt(world, features, action):
    return world.information_of(features, jnp.asarray(action))
