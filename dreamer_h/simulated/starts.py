"""Where simulated episodes begin: states of the simulator behind something that was really seen."""

from collections.abc import Iterable
from typing import Any, Literal, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, Shaped

from dreamer_h.replay.episode import Episode
from dreamer_h.types import Latent, Stack, context_of
from dreamer_h.world.decoder import PixelDecoder
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

CONTEXT = 16  # agent steps that are seen before an episode that begins anywhere
Kind = Literal["first", "anywhere", "model"]


class Starts(eqx.Module):
    """N of them, one of which an episode draws; its code is drawn anew where it is uncertain."""

    latent: Latent | Stack  # (N, ...)
    obs: Shaped[Array, "..."]  # (N, …) what is seen there, in physical units

    def __len__(self) -> int:
        return len(self.obs)


def starts_of(
    world: AnyWorld, episodes: Iterable[Episode], kind: Kind, count: int, action: int, *, seed: int
) -> Starts:
    """`count` starts: where recorded episodes began, anywhere in them, or where the model's prior
    is before anything was seen.

    Raises ValueError where no episode is long enough.
    """
    rng, key = np.random.default_rng(seed), jr.key(seed)
    if kind == "model":
        return _expected(world, jr.split(key, count), action)
    length = {"first": 0, "anywhere": CONTEXT}[kind]
    episodes = [episode for episode in episodes if len(episode) >= length]
    if not episodes:
        raise ValueError(f"no recorded episode has {length} agent steps to begin behind")
    windows = [_window(episode, length, rng) for episode in _picked(episodes, kind, count, rng)]
    seen, done = (np.stack(arrays) for arrays in zip(*windows, strict=True))
    return behind(world, seen, done, jr.split(key, count))


def _picked(
    episodes: list[Episode], kind: Kind, count: int, rng: np.random.Generator
) -> list[Episode]:
    """Long episodes have more moments to begin at, and no more beginnings."""
    weight = np.array([len(episode) if kind == "anywhere" else 1.0 for episode in episodes])
    return [episodes[i] for i in rng.choice(len(episodes), count, p=weight / weight.sum())]


def _window(
    episode: Episode, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Observations (length+1, ...) and the actions between; an episode's end is no start."""
    last = max(length, len(episode) - 1)
    end = int(rng.integers(length, last + 1)) if length else 0
    return episode.obs[end - length : end + 1], episode.action[end - length : end]


def behind(
    world: AnyWorld,
    obs: Shaped[np.ndarray, "N T1 ..."],
    action: Float[np.ndarray, "N T A"],
    keys: Key[Array, " N"],
) -> Starts:
    """Starts at the last of these observations, of windows in which nothing else was seen."""
    return Starts(_posterior(world, obs, action, keys), jnp.asarray(obs[:, -1]))


@eqx.filter_jit
def _posterior(world, obs, action, keys):
    def one(obs, action, key):
        path = world.start(context_of(obs, action), key=key)
        return jax.tree.map(lambda leaf: leaf[-1], path)

    return jax.vmap(one)(jnp.asarray(obs), jnp.asarray(action), keys)


@eqx.filter_jit
def _expected(world, keys, action: int) -> Starts:
    """Level 0's prior before anything is seen, and then that is seen. No loss has taught this prior
    where episodes begin."""
    base = world.base if isinstance(world, Hierarchy) else world
    nothing = jnp.zeros(action, jnp.float32)
    dtype = jnp.uint8 if isinstance(base.decoder, PixelDecoder) else jnp.float32

    def one(key):
        draw_key, start_key = jr.split(key)
        expected = base.decode(base.step(base.initial(), nothing, key=draw_key)).obs.mean
        seen = as_seen(expected, dtype)
        path = world.start(context_of(seen[None], nothing[None][:0]), key=start_key)
        return Starts(jax.tree.map(lambda leaf: leaf[0], path), seen)

    return cast(Starts, jax.vmap(one)(keys))


def as_seen(obs: Float[Array, "..."], dtype: Any) -> Shaped[Array, "..."]:
    """Of the real task's dtype: images are rounded."""
    whole = jnp.issubdtype(dtype, jnp.integer)
    return (jnp.clip(jnp.round(obs), 0, 255) if whole else obs).astype(dtype)
