"""What each level of a simulator says of the same windows, each from its own and from true anchors.

All in physical units, S samples of W windows.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.simulator import Context
from dreamer_h.horizon.simulators.latent import AT_ONCE, LatentSimulator, keys_of
from dreamer_h.nn import fsq
from dreamer_h.types import context_of
from dreamer_h.world.upper.fill import fill, ground_of
from dreamer_h.world.upper.hierarchy import Hierarchy


@dataclass(frozen=True)
class Views:
    """H agent steps; N jumps of level 1 of K steps each fit into them."""

    steps: np.ndarray  # (S, W, H, O) level 0 alone
    filled: np.ndarray  # (S, W, H, O) level 1 from the start, filled by level 0
    waypoints: tuple[np.ndarray, ...]  # of levels 1, 2, …: (S, W, N, O) each by itself
    true_filled: np.ndarray  # (S, W, N K, O) level 0 for one segment from each true anchor
    true_jumps: np.ndarray  # (S, W, N, O) level 1 for one jump from each true anchor


def views(world: Hierarchy, windows: Windows, samples: int) -> Views:
    """Every level on the same windows."""
    alone = LatentSimulator(world)
    state = alone.start(Context(windows.context_obs, windows.context_action), seed=0)
    jumping = LatentSimulator(world, (0,))
    reach = lambda stride: windows.horizon // stride * stride
    waypoints = tuple(
        np.asarray(_waypoints(world, state, windows.action[:, : reach(stride)], level, samples))
        for level, stride in enumerate(world.strides, 1)
        if reach(stride)
    )
    obs, action, context = _whole(world, windows)
    true_filled, true_jumps = _from_true_anchors(world, obs, action, context, samples)
    return Views(
        alone.imagine(state, windows.action, samples, seed=0).obs,
        jumping.imagine(state, windows.action, samples, seed=0).obs,
        waypoints,
        np.asarray(true_filled),
        np.asarray(true_jumps),
    )


@partial(jax.jit, static_argnames=("level", "samples"))
def _waypoints(world, state, action, level, samples) -> Float[Array, "S W N O"]:
    def path(state, action, key):
        code_key, key = jr.split(key)
        state = world.redrawn(state, key=code_key)
        points = world.waypoints(state, action, level=level, key=key)
        return world.decode_waypoints(points).obs.mean[1:]

    windows = lambda keys: jax.vmap(path)(state, jnp.asarray(action), keys)
    return jax.lax.map(windows, keys_of(0, samples, len(action)), batch_size=AT_ONCE)


@partial(jax.jit, static_argnames=("context", "samples"))
def _from_true_anchors(
    world, obs, action, context, samples
) -> tuple[Float[Array, "S W H O"], Float[Array, "S W N O"]]:
    jump = world.jumps[0]

    def path(obs, action, key):
        start_key, stand_key, jump_key, fill_key = jr.split(key, 4)
        standing, actions = _standing(world, obs, action, context, start_key, stand_key)
        known = jax.vmap(jump.chunk.of)(actions, standing.obs)
        reached = jax.vmap(lambda s, c, key: jump.step(s, c, key=key))(
            standing, known, jr.split(jump_key, len(actions))
        )
        flat = actions.reshape(-1, actions.shape[-1])
        filled = fill(world, standing, 0, flat, key=fill_key)
        arrived = ground_of(world, reached, 0)
        return world.base.decode(filled).obs.mean, world.base.decode(arrived).obs.mean

    windows = lambda keys: jax.vmap(path)(jnp.asarray(obs), jnp.asarray(action), keys)
    return jax.lax.map(windows, keys_of(0, samples, len(action)), batch_size=AT_ONCE)


def _standing(world: Hierarchy, obs, action, context: int, start_key, stand_key):
    """Level 1 on each true anchor from the context's end on, (N, ...), and the jumps' actions."""
    stride = world.strides[0]
    stack = world.start(context_of(obs, action), key=start_key)
    moments = np.arange(context, len(obs) - 1, stride)
    here = jax.tree.map(lambda leaf: leaf[moments], stack)
    keys = jr.split(stand_key, len(moments))
    standing = jax.vmap(lambda stack, key: world.standing(stack, key)[0])(here, keys)
    return standing, action[context:].reshape(len(moments), stride, -1)


@dataclass(frozen=True)
class Codes:
    """The macro codes of N real jumps of W windows, and what knowing them is worth."""

    index: np.ndarray  # (W N, 8) which of five values
    nats: dict[str, np.ndarray]  # (W, N) of the next observation, by what was known of the actions


def codes(world: Hierarchy, windows: Windows) -> Codes:
    """Of all whole jumps of the windows, from true anchors."""
    obs, action, context = _whole(world, windows)
    index, nats = _codes(world, obs, action, context)
    index = np.asarray(index)
    return Codes(index.reshape(-1, index.shape[-1]), {n: np.asarray(v) for n, v in nats.items()})


@partial(jax.jit, static_argnames="context")
def _codes(world, obs, action, context):
    jump = world.jumps[0]

    def window(obs, action, key):
        start_key, stand_key = jr.split(key)
        standing, actions = _standing(world, obs, action, context, start_key, stand_key)
        known = jax.vmap(jump.chunk.of)(actions, standing.obs)
        return standing, known, jump.macro.encode(known, standing.obs)

    obs = jnp.asarray(obs)
    keys = keys_of(0, 2, len(obs))
    standing, known, code = jax.vmap(window)(obs, jnp.asarray(action), keys[0])
    told = lambda code: jump.macro.decode(code, standing.obs)
    ways = {"actions": known, "code": told(code), "other code": told(jnp.roll(code, 1, axis=0))}
    moments = context + world.strides[0] * np.arange(1, known.shape[1] + 1)

    def nats(standing, known, target, key):
        reached, outlook = jump.foresee(standing, known, key=key)
        if outlook.obs is None:  # anchors carry none: what level 0 would see there
            return world.base.decode(world.ground_at(reached)).obs.loss(target)
        return outlook.obs.loss(target)

    drawn = jax.vmap(lambda key: jr.split(key, known.shape[1]))(keys[1])
    each = jax.vmap(jax.vmap(nats))
    found = {name: each(standing, way, obs[:, moments], drawn) for name, way in ways.items()}
    return fsq.index(code), found


def _whole(world: Hierarchy, windows: Windows) -> tuple[np.ndarray, np.ndarray, int]:
    """Observations and actions of whole jumps of level 1 behind the context, and its length."""
    steps = windows.horizon // world.strides[0] * world.strides[0]
    obs = np.concatenate([windows.context_obs, windows.future_obs[:, :steps]], axis=1)
    action = np.concatenate([windows.context_action, windows.action[:, :steps]], axis=1)
    return obs, action, windows.context_action.shape[1]
