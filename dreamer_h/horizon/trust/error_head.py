"""A head that foresees a simulator's error from where it has drifted to, and how long that took."""

from functools import partial
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float

from dreamer_h.horizon.trust.calibrate import Doubted
from dreamer_h.world.heads import Head

UNITS, LAYERS = 128, 2
BATCH, UPDATES = 512, 3000
LEAST = 1e-4  # training deviations: smaller errors are all alike


class ErrorHead(eqx.Module):
    """The logarithm of the error, from a latent's features and the agent steps since something was
    seen."""

    head: Head
    mean: Float[Array, " F"]
    std: Float[Array, " F"]

    def __call__(
        self, features: Float[Array, "*B F"], steps: Float[Array, "*B"]
    ) -> Float[Array, "*B"]:
        known = (features - self.mean) / self.std
        return self.head(jnp.concatenate([known, jnp.log(steps)[..., None]], axis=-1))[..., 0]


def foreseen(head: ErrorHead, found: Doubted) -> np.ndarray:
    """(W, H) errors that the head expects along imagined paths, in training deviations."""
    steps = jnp.broadcast_to(jnp.arange(1.0, 1 + found.error.shape[1]), found.error.shape)
    return np.exp(np.asarray(_told(head, jnp.asarray(found.features), steps)))


@jax.jit
def _told(head, features, steps):
    return head(features, steps)


def fit(found: Doubted, *, seed: int) -> ErrorHead:
    """Taught on paths whose errors are known, open loop, at all of their steps alike."""
    features = found.features.reshape(-1, found.features.shape[-1]).astype(np.float32)
    finite = np.isfinite(found.error).reshape(-1) & np.isfinite(features).all(axis=1)
    steps = np.broadcast_to(np.arange(1.0, 1 + found.error.shape[1]), found.error.shape)
    target = np.log(np.maximum(found.error.reshape(-1), LEAST))[finite]
    features, steps = features[finite], steps.reshape(-1)[finite]
    std = np.maximum(features.std(axis=0), 1e-3)
    head = Head(features.shape[1] + 1, 1, UNITS, LAYERS, key=jr.key(seed))
    made = ErrorHead(head, jnp.asarray(features.mean(axis=0)), jnp.asarray(std))
    data = [jnp.asarray(array, jnp.float32) for array in (features, steps, target)]
    trained = _trained(head, made, *data, jr.key(seed))
    return eqx.tree_at(lambda made: made.head, made, trained)


@partial(jax.jit, donate_argnums=0)
def _trained(head, made: ErrorHead, features, steps, target, key):
    chain: Any = optax.adam(optax.cosine_decay_schedule(2e-3, UPDATES))

    def loss(head, rows):
        told = eqx.tree_at(lambda made: made.head, made, head)(features[rows], steps[rows])
        return optax.huber_loss(told, target[rows]).mean()

    def update(carried, key):
        head, moments = carried
        rows = jr.randint(key, (BATCH,), 0, len(target))
        change, moments = chain.update(jax.grad(loss)(head, rows), moments)
        return (jax.tree.map(jnp.add, head, change), moments), None

    moments = chain.init(cast(optax.Params, head))
    return jax.lax.scan(update, (head, moments), jr.split(key, UPDATES))[0][0]
