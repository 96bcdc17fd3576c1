"""Radii of a simulator, from windows that it has not learned from; see `simulated.calibration`."""

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.trust import SHARE, conformal_radius
from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.simulators.latent import LatentSimulator, keys_of
from dreamer_h.simulated.calibration import Calibration, unit
from dreamer_h.types import Latent, Stack
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

USUAL = 0.99  # of the steps of calibration
LEAST = 9  # windows of which one may be an exception
NO_LIMIT = float(np.finfo(np.float32).max)  # nats: everything is relied upon


@dataclass(frozen=True)
class Doubted:
    """One imagined path of a level from each of W windows, H agent steps, or jumps."""

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
    return _held(_paths(world, start, windows.action, seed), windows.future_obs, scale)


def doubted_jumps(world: Hierarchy, windows: Windows, scale: Scale, *, seed: int = 0) -> Doubted:
    """The same of level 1: its jumps, as many as the windows hold whole, each told the macro-action
    that the actions come to, as a manager would tell it."""
    stride = world.strides[0]
    steps = windows.horizon // stride * stride
    context = Context(windows.context_obs, windows.context_action)
    start = LatentSimulator(world).start(context, seed=seed)
    found = _jumps(world, start, windows.action[:, :steps], seed)
    return _held(found, windows.future_obs[:, stride - 1 : steps : stride], scale)


def _held(found: tuple[Array, Array, Array], real: np.ndarray, scale: Scale) -> Doubted:
    obs, doubt, features = map(np.asarray, found)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.square(scale.difference(obs, real)).mean(axis=-1))
    error = np.where(np.isfinite(error) & np.isfinite(doubt), error, np.inf)
    doubt = np.where(np.isfinite(doubt), doubt, 0.0)  # so that what was gathered before stands
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


@jax.jit
def _jumps(world: Hierarchy, start: Stack, actions, seed):
    jump = world.jumps[0]

    def one(stack, actions, key):
        stand_key, key = jax.random.split(key)
        standing = world.standing(stack, stand_key)[0]

        def step(latent, inputs):
            actions, key = inputs
            anchor = cast(Array, latent.obs)
            macro = jump.macro.encode(jump.chunk.of(actions, anchor), anchor)
            known = jump.macro.decode(macro, anchor)
            following = jump.step(latent, known, key=key)
            obs = world.base.decode(world.ground_at(following)).obs.mean
            return following, (obs, jump.information_of(latent, known), following.features)

        parts = actions.reshape(-1, jump.stride, actions.shape[-1])
        return jax.lax.scan(step, standing, (parts, jax.random.split(key, len(parts))))[1]

    return jax.vmap(one)(start, jnp.asarray(actions), keys_of(seed, 1, len(actions))[0])


def calibrated(world: AnyWorld, found: Doubted) -> Calibration:
    """From at least LEAST windows, one an episode: of fewer, radii are infinite."""
    base = world.base if isinstance(world, Hierarchy) else world
    return _calibrated(found, base.ensemble is not None)


def calibrated_alike(found: Doubted) -> Calibration:
    """One radius for all paths of an age, whatever is doubted."""
    return _calibrated(found, False)


def _calibrated(found: Doubted, scaled: bool) -> Calibration:
    score = found.error / np.asarray(unit(jnp.asarray(found.gathered), scaled))
    usual = np.quantile(found.doubt, USUAL) if scaled else np.inf
    multiple = jnp.asarray(conformal_radius(score), jnp.float32)
    return Calibration(multiple, jnp.float32(usual), scaled)


def trusted_doubt(found: Doubted, tolerance: float) -> float:
    """Nats of doubt along a path below which, with 90 %, the error has never left the tolerance
    (training deviations). NO_LIMIT where no window ever leaves it; 0 of fewer than LEAST.

    Split conformal on the doubt at which each window first fails.
    """
    failed = np.where(found.error > tolerance, found.gathered, NO_LIMIT)
    first = failed.min(axis=1, initial=NO_LIMIT)
    rank = len(first) + 1 - int(np.ceil((len(first) + 1) * SHARE))  # 1 - SHARE would be rounded
    if rank < 1:
        return 0.0
    limit = np.float32(np.sort(first)[rank - 1])
    # a step below it in float32, in which it is compared: that of float64 would round back
    return NO_LIMIT if limit == np.float32(NO_LIMIT) else float(np.nextafter(limit, np.float32(0)))
