"""Is this still the world that was learned? Told from what was seen, after the fact."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.simulators.latent import keys_of
from dreamer_h.horizon.trust.calibrate import Doubted
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.types import context_of
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy
from dreamer_h.world.world import World

Detectors = dict[str, np.ndarray]  # name -> (W, H) after so many steps; the larger, the odder

SHRUNK = 0.1  # of a covariance: windows are few
FAR = 1e6  # deviations: of what is not finite


@dataclass(frozen=True)
class Watched:
    """W windows, each step foreseen from all that was seen before it."""

    away: np.ndarray  # (W, H, O) errors, in training deviations
    surprise: np.ndarray | None  # (W, H) nats of what followed; None without an ensemble


def watched(world: AnyWorld, windows: Windows, scale: Scale, *, seed: int) -> Watched:
    """Level 0 along the windows."""
    base = world.base if isinstance(world, Hierarchy) else world
    obs = np.concatenate([windows.context_obs, windows.future_obs], axis=1)
    action = np.concatenate([windows.context_action, windows.action], axis=1)
    first = windows.context_action.shape[1]
    told, surprise = map(np.asarray, _one_step(base, obs, action, seed))
    with np.errstate(invalid="ignore"):
        away = scale.difference(told[:, first:], windows.future_obs)
    away = np.nan_to_num(away, nan=FAR, posinf=FAR, neginf=-FAR)
    return Watched(away, None if base.ensemble is None else surprise[:, first:])


def detectors(seen: Watched, usual: Watched, found: Doubted, calibration: Calibration) -> Detectors:
    """Of windows whose imagined paths are `found`; `usual` are those of the calibration. Up to the
    shorter horizon, if one is.

    residual   root mean square of the one-step errors so far, in training deviations: the plain one
    drift      how far the mean of these errors so far, each entry cut off softly at its usual size,
               is from what it is in usual windows (Hotelling's T²): noise and contacts err to all
               sides, another physics to one
    surprise   mean nats so far of what followed, under all guesses of the ensemble; where there is
               one
    beyond     the largest error so far of the path from the start, as a share of its radius
    """
    horizon = min(seen.away.shape[1], usual.away.shape[1])
    away, error = seen.away[:, :horizon], found.error[:, :horizon]
    count = np.arange(1, 1 + horizon)
    steps = jnp.broadcast_to(jnp.asarray(count), error.shape)
    radius = np.asarray(calibration.radius(steps, jnp.asarray(found.gathered[:, :horizon])))
    told = {
        "residual": np.sqrt(np.cumsum(np.square(away).mean(axis=-1), axis=1) / count),
        "drift": _drift(away, usual.away[:, :horizon]),
        "beyond": np.maximum.accumulate(error / np.maximum(radius, 1e-9), axis=1),
    }
    if seen.surprise is not None:
        told["surprise"] = np.cumsum(seen.surprise[:, :horizon], axis=1) / count
    return told


def _drift(away: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """T² (W, H) of mean errors (W, H, O) among those of usual windows (V, H, O)."""
    size = np.sqrt(np.square(usual).mean(axis=(0, 1), where=np.abs(usual) < FAR)) + 1e-9
    count = np.arange(1, 1 + away.shape[1])[:, None]
    mean = lambda errors: np.cumsum(np.tanh(errors / size), axis=1) / count
    theirs, ours = mean(usual), mean(away)
    from_it = (theirs - theirs.mean(axis=0)).swapaxes(0, 1)  # (H, V, O)
    spread = np.einsum("hvi,hvj->hij", from_it, from_it) / max(1, len(usual) - 1)
    alone = spread * np.eye(spread.shape[-1])
    spread = (1 - SHRUNK) * spread + SHRUNK * alone + 1e-12 * np.eye(spread.shape[-1])
    far = (ours - theirs.mean(axis=0)).swapaxes(0, 1)
    return np.einsum("hvi,hiv->vh", far, np.linalg.solve(spread, far.swapaxes(1, 2)))


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
