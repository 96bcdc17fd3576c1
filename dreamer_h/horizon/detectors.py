"""Is this still the world that was learned? Told from what was seen, after the fact."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dreamer_h.horizon.calibrate import Doubted
from dreamer_h.horizon.latent import keys_of
from dreamer_h.horizon.scale import Scale
from dreamer_h.horizon.windows import Windows
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.types import context_of
from dreamer_h.world.hierarchy import AnyWorld, Hierarchy
from dreamer_h.world.world import World

Detectors = dict[str, np.ndarray]  # name -> (W, H) after so many steps; the larger, the odder


def detectors(
    world: AnyWorld,
    found: Doubted,
    calibration: Calibration,
    windows: Windows,
    scale: Scale,
    *,
    seed: int,
) -> Detectors:
    """Of windows whose imagined paths are `found`.

    residual   root mean square of the one-step errors so far, in training deviations: the plain one
    surprise   mean nats so far of what followed, under all guesses of the ensemble; where there is
               one
    beyond     the largest error so far of the path from the start, as a share of its radius
    """
    base = world.base if isinstance(world, Hierarchy) else world
    obs = np.concatenate([windows.context_obs, windows.future_obs], axis=1)
    action = np.concatenate([windows.context_action, windows.action], axis=1)
    first = windows.context_action.shape[1]
    told, surprise = map(np.asarray, _one_step(base, obs, action, seed))
    with np.errstate(invalid="ignore"):
        away = scale.difference(told[:, first:], windows.future_obs)
        square = np.nan_to_num(np.square(away).mean(axis=-1), nan=np.inf)
    count = np.arange(1, 1 + windows.horizon)
    steps = jnp.broadcast_to(jnp.asarray(count), found.error.shape)
    radius = np.asarray(calibration.radius(steps, jnp.asarray(found.gathered)))
    seen = {
        "residual": np.sqrt(np.cumsum(square, axis=1) / count),
        "beyond": np.maximum.accumulate(found.error / np.maximum(radius, 1e-9), axis=1),
    }
    if base.ensemble is not None:
        seen["surprise"] = np.cumsum(surprise[:, first:], axis=1) / count
    return seen


@jax.jit
def _one_step(world: World, obs, action, seed):
    """Along windows that are seen whole: what was expected of each next observation (W, T, O), and
    how surprising it was (W, T)."""

    def one(obs, action, key):
        start_key, step_key = jr.split(key)
        path = world.start(context_of(obs, action), key=start_key)
        here = jax.tree.map(lambda leaf: leaf[:-1], path)
        keys = jr.split(step_key, len(action))
        following = jax.vmap(lambda l, a, key: world.step(l, a, key=key))(here, action, keys)
        expected = world.decode(following).obs.mean
        if world.ensemble is None:
            return expected, jnp.zeros(len(action))
        code = world.level.code(path.logits[1:])
        return expected, world.ensemble.surprise(here.features, action, here.obs, code, obs[1:])

    keys = keys_of(seed, 1, len(obs))[0]
    return jax.vmap(one)(jnp.asarray(obs), jnp.asarray(action), keys)
