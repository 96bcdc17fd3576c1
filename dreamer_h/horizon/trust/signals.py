"""What a simulator says of its own errors before anybody knows them, each signal in its own way."""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.metrics import errors
from dreamer_h.horizon.simulator import SAMPLES, Context
from dreamer_h.horizon.simulators.latent import LatentSimulator, keys_of
from dreamer_h.horizon.trust.calibrate import Doubted
from dreamer_h.horizon.trust.error_head import ErrorHead, foreseen
from dreamer_h.types import Latent, Stack
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

Signals = dict[str, np.ndarray]  # name -> (W, H); the larger, the less is to be relied upon


def signals(
    world: AnyWorld, found: Doubted, windows: Windows, scale: Scale, head: ErrorHead, *, seed: int
) -> Signals:
    """Of the imagined paths `found` of these windows.

    doubt   root of the nats that a path has gathered (0 without an ensemble)
    spread  root of the variance of 19 paths from the same start: what the simulator itself expects
    error   what a head expects that has learned from other paths' errors
    levels  distance between a path and the jumps of level 1 alone under the same actions, and
    halves  between these jumps and pairs of half jumps, in training deviations; both as of the last
            jump that has ended (nan before the first), and with levels only. The second half jump
            remembers nothing but where the first has led
    """
    simulator = LatentSimulator(world)
    start = simulator.start(Context(windows.context_obs, windows.context_action), seed=seed)
    forecast = simulator.imagine(start, windows.action, SAMPLES, seed=seed)
    seen = {
        "doubt": np.sqrt(found.gathered),
        "spread": np.sqrt(errors(forecast, windows, scale)["spread"]),
        "error": foreseen(head, found),
    }
    if isinstance(world, Hierarchy) and windows.horizon >= world.strides[0]:
        stride = world.strides[0]
        jumps = windows.horizon // stride
        action = windows.action[:, : jumps * stride]
        whole, half = map(np.asarray, _jumps(world, start, action, seed))
        root = lambda away: np.sqrt(np.square(away).mean(axis=-1))
        filled = found.obs[:, stride - 1 : jumps * stride : stride]
        held = partial(_held, stride=stride, horizon=windows.horizon)
        seen["levels"] = held(root(scale.difference(whole, filled)))
        seen["halves"] = held(root(scale.difference(whole, half)))
    return seen


def _held(values: np.ndarray, *, stride: int, horizon: int) -> np.ndarray:
    """(W, H): what was known at the end of each jump (W, N) until the next one; nan before."""
    known = np.repeat(values, stride, axis=1)
    known = np.concatenate([np.full((len(values), stride - 1), np.nan), known], axis=1)
    return known[:, :horizon]


@jax.jit
def _jumps(world: Hierarchy, start: Stack, actions, seed):
    """Observations (W, N, O) at the ends of level 1's own jumps, and of pairs of half jumps that
    begin where these do."""
    jump, middle = world.jumps[0], world.strides[0] // 2

    def one(stack, actions, key):
        stand_key, key = jr.split(key)
        standing = world.standing(stack, stand_key)[0]
        parts = actions.reshape(-1, jump.stride, actions.shape[-1])

        def step(latent, inputs):
            actions, key = inputs
            whole_key, first_key, second_key = jr.split(key, 3)
            states = jump.chunk.read(actions, cast(Array, latent.obs))
            first = jump.step(latent, jump.chunk.code(states[middle - 1]), key=first_key)
            rest = jnp.concatenate([actions[middle:], actions[:middle]])
            between = cast(Array, first.obs)
            after = jump.chunk.code(jump.chunk.read(rest, between)[jump.stride - middle - 1])
            second = jump.step(jump.begin(between), after, key=second_key)
            whole = jump.step(latent, jump.chunk.code(states[-1]), key=whole_key)
            return whole, (_seen(world, whole), _seen(world, second))

        return jax.lax.scan(step, standing, (parts, jr.split(key, len(parts))))[1]

    return jax.vmap(one)(start, jnp.asarray(actions), keys_of(seed, 1, len(actions))[0])


def _seen(world: Hierarchy, standing: Latent):
    """The observation (O,) where level 1 stands."""
    return world.base.decode(world.ground_at(standing)).obs.mean
