"""Radii of a simulator, from windows that it has not learned from; see `simulated.calibration`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dreamer_h.horizon.latent import LatentSimulator, keys_of
from dreamer_h.horizon.scale import Scale
from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.trust import SHARE, conformal_radius
from dreamer_h.horizon.windows import Windows
from dreamer_h.simulated.calibration import Calibration, unit
from dreamer_h.types import Latent, Stack
from dreamer_h.world.hierarchy import AnyWorld, Hierarchy

USUAL = 0.99  # of the steps of calibration
LEAST = 9  # windows of which one may be an exception
NO_LIMIT = float(np.finfo(np.float32).max)  # nats: everything is relied upon


@dataclass(frozen=True)
class Doubted:
    """One imagined path of level 0 from each of W windows, H agent steps."""

    error: np.ndarray  # (W, H) root mean square, in training deviations
    doubt: np.ndarray  # (W, H) nats of each step
    obs: np.ndarray  # (W, H, O) what was imagined
    features: np.ndarray  # (W, H, F) of the latents there

    @property
    def gathered(self) -> np.ndarray:
        """(W, H) nats since something was seen."""
        return np.cumsum(self.doubt, axis=1)


def doubted(world: AnyWorld, windows: Windows, scale: Scale, *, seed: int = 0) -> Doubted:
    """Under the actions of the windows; what is not finite counts as infinitely wrong."""
    context = Context(windows.context_obs, windows.context_action)
    start = LatentSimulator(world).start(context, seed=seed)
    obs, doubt, features = map(np.asarray, _paths(world, start, windows.action, seed))
    with np.errstate(invalid="ignore"):
        away = scale.difference(obs, windows.future_obs)
        error = np.sqrt(np.square(away).mean(axis=-1))
    error = np.where(np.isfinite(error), error, np.inf)
    return Doubted(error, doubt.astype(np.float64), obs, features)


@jax.jit
def _paths(world, start: Latent | Stack, actions, seed):
    def one(latent, actions, key):
        def step(latent, inputs):
            action, key = inputs
            following = world.step(latent, action, key=key)
            told = world.information_of(latent.features, action)
            return following, (world.decode(following).obs.mean, told, following.features)

        keys = jax.random.split(key, len(actions))
        return jax.lax.scan(step, latent, (actions, keys))[1]

    return jax.vmap(one)(start, jnp.asarray(actions), keys_of(seed, 1, len(actions))[0])


def calibrated(world: AnyWorld, found: Doubted) -> Calibration:
    """From at least LEAST windows, one an episode: of fewer, radii are infinite."""
    base = world.base if isinstance(world, Hierarchy) else world
    scaled = base.ensemble is not None
    score = found.error / np.asarray(unit(jnp.asarray(found.gathered), scaled))
    usual = np.quantile(found.doubt, USUAL) if scaled else np.inf
    multiple = jnp.asarray(conformal_radius(score), jnp.float32)
    return Calibration(multiple, jnp.float32(usual), scaled)


def trusted_doubt(found: Doubted, tolerance: float) -> float:
    """Nats of doubt along a path below which, with 90 %, the error has never left the tolerance
    (training deviations). NO_LIMIT where no window ever leaves it; 0 of fewer than LEAST.

    Split conformal on the doubt at which each window first fails.
    """
    fails = found.error > tolerance
    at = found.gathered[np.arange(len(fails)), fails.argmax(axis=1)]
    first = np.where(fails.any(axis=1), at, NO_LIMIT)
    rank = int(np.floor((len(first) + 1) * (1.0 - SHARE)))
    if rank < 1:
        return 0.0
    limit = np.float32(np.sort(first)[rank - 1])
    # a step below it in float32, in which it is compared: that of float64 would round back
    return NO_LIMIT if limit == np.float32(NO_LIMIT) else float(np.nextafter(limit, np.float32(0)))
