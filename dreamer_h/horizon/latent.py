"""Our own simulator as a `Simulator`: samples of its latent paths, decoded."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dreamer_h.horizon.simulator import Context, Forecast
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.world import World


@dataclass(frozen=True)
class LatentSimulator:
    """Uses the world through its verbs only: `start`, `step` and `decode`.

    Every window and every sample has a stream of randomness of its own (threefry), so the number of
    windows scored together changes nothing.
    """

    world: World

    def start(self, context: Context, *, seed: int) -> Latent:
        """The posterior (W, ...) behind the context; samples of `imagine` share its memory."""
        return _start(self.world, context.obs, context.action, seed)

    def imagine(self, state: Latent, action: np.ndarray, samples: int, *, seed: int) -> Forecast:
        obs, reward = _imagine(self.world, state, action, samples, seed)
        return Forecast(np.asarray(obs), np.asarray(reward))

    def step(self, state: Latent, action: np.ndarray, *, seed: int):
        state, obs, reward = _step(self.world, state, action, seed)
        return state, np.asarray(obs), np.asarray(reward)


def _keys(seed, samples: int, windows: int):
    """(S, W) keys: that of a window does not depend on how many there are."""
    one = lambda s, w: jr.fold_in(jr.fold_in(jr.key(seed), s), w)
    return jax.vmap(lambda s: jax.vmap(lambda w: one(s, w))(jnp.arange(windows)))(
        jnp.arange(samples)
    )


@jax.jit
def _start(world, obs, action, seed):
    def one(obs, action, key):
        falses = jnp.zeros(len(obs), bool)
        sequence = Sequence(
            obs=obs,
            action=action,
            reward=jnp.zeros(len(obs), jnp.float32),
            is_first=falses.at[0].set(True),
            is_terminal=falses,
            mask=~falses,
        )
        return jax.tree.map(lambda leaf: leaf[-1], world.start(sequence, key=key))

    return jax.vmap(one)(obs, action, _keys(seed, 1, len(obs))[0])


@partial(jax.jit, static_argnames="samples")
def _imagine(world, latent, action, samples, seed):
    action = jnp.asarray(action)

    def path(latent, action, key):
        code_key, key = jr.split(key)
        # the last observation leaves the code uncertain: each sample starts from its own draw
        code = world.level.code(latent.logits).sample(code_key).astype(latent.code.dtype)
        latent = replace(latent, code=code)

        def step(latent, inputs):
            now, step_key = inputs
            latent = world.step(latent, now, key=step_key)
            prediction = world.decode(latent)
            return latent, (prediction.obs.mean, prediction.reward.mean)

        return jax.lax.scan(step, latent, (action, jr.split(key, len(action))))[1]

    windows = jax.vmap(path)
    return jax.vmap(lambda keys: windows(latent, action, keys))(_keys(seed, samples, len(action)))


@jax.jit
def _step(world, latent, action, seed):
    def one(latent, action, key):
        latent = world.step(latent, action, key=key)
        prediction = world.decode(latent)
        return latent, prediction.obs.mean, prediction.reward.mean

    return jax.vmap(one)(latent, jnp.asarray(action), _keys(seed, 1, len(action))[0])
