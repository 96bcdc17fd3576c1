"""The world model of `dreamer_h.world`, trained on recorded episodes alone."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from dreamer_h.config import Config
from dreamer_h.horizon.simulators.budget import falling
from dreamer_h.nn.coordinates import Angles
from dreamer_h.nn.optimizer import laprop, slowed
from dreamer_h.replay.episode import Episode
from dreamer_h.replay.ring import Ring
from dreamer_h.replay.sampler import sample
from dreamer_h.types import Observed
from dreamer_h.world.objective import batch_losses, scales
from dreamer_h.world.upper.hierarchy import AnyWorld, levels_of, make_world

World = TypeVar("World", bound=AnyWorld)


def blank(episodes: list[Episode], angles: Angles, config: Config, *, seed: int) -> AnyWorld:
    """A world that has learned nothing, for observations with these angles."""
    first = episodes[0].obs
    obs = Observed(first.shape[1:], first.dtype, angles)
    return make_world(obs, episodes[0].action.shape[-1], config, key=jr.key(seed))


def fit(
    world: World,
    episodes: list[Episode],
    config: Config,
    shares: Iterable[float],
    *,
    seed: int,
    part: Callable[[World], Any] = lambda world: world,
) -> World:
    """Trains a world on windows of the episodes, as a run does while it collects them.

    Here the end is known, so the learning rate falls towards it, as that of the plain networks.
    Nothing but `part` of the world changes. Raises ValueError if no episode is as long as a window,
    and if the loss is not finite.
    """
    ring, chosen = filled(episodes), config.replay
    longest = max(len(episode) for episode in episodes)
    if chosen.length > longest:
        raise ValueError(
            f"the longest episode has {longest} agent steps, a window has {chosen.length}: use "
            "fewer levels, smaller strides, or a smaller --replay.length"
        )
    trained, frozen = parted(world, part)
    chain = laprop(
        config.optimizer.learning_rate, clip=config.optimizer.clip, warmup=config.optimizer.warmup
    )
    update = make_update(config, chain)
    moments = chain.init(cast(optax.Params, trained))
    rng = np.random.default_rng(seed)
    for count, share in enumerate(shares):
        batch = sample(ring, rng, chosen.batch, chosen.length, chosen.tick)
        rate, clock = np.float32(falling(share)), (np.int32(seed), np.int32(count))
        trained, moments, loss = update(trained, frozen, moments, batch, rate, *clock)
        if count % 100 == 99 and not np.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} after {count + 1} updates; lower the learning rate"
            )
    return eqx.combine(trained, frozen)


def parted(world: World, part: Callable[[World], Any]) -> tuple[World, World]:
    """A world that has `part` only, and one that has the rest; None stands for what is missing."""
    nothing = jax.tree.map(lambda _: False, world)
    mask = eqx.tree_at(part, nothing, replace_fn=lambda part: jax.tree.map(lambda _: True, part))
    return eqx.partition(world, mask)


def filled(episodes: list[Episode]) -> Ring:
    """The episodes as a replay memory."""
    first = episodes[0]
    steps = sum(len(episode) for episode in episodes)
    ring = Ring(steps, first.obs.shape[1:], first.obs.dtype, first.action.shape[-1])
    for number, e in enumerate(episodes):
        ring.add(Episode(e.obs, e.action, e.reward, e.is_terminal, number))
    return ring


def make_update(config: Config, chain: optax.GradientTransformation) -> Callable:
    """`(trained, frozen, moments, batch, rate, seed, count) -> (trained, moments, loss)`; donates
    what it changes.

    `trained` and `frozen` make a world together. `rate` is a factor of the chain's learning rate.
    """
    scale = scales(config)

    def total(trained, frozen, batch, count, key):
        world = eqx.combine(trained, frozen)
        losses, _, _ = batch_losses(world, batch, config, update=count, key=key)
        assert losses.keys() == scale.keys()
        return sum((scale[name] * loss.mean() for name, loss in losses.items()), jnp.float32(0.0))

    def update(trained, frozen, moments, batch, rate, seed, count):
        key = jr.fold_in(jr.key(seed, impl="unsafe_rbg"), count)
        loss, gradient = jax.value_and_grad(total)(trained, frozen, batch, count, key)
        steps, moments = chain.update(gradient, moments, trained)
        if config.levels > 1:
            steps = slowed(steps, levels_of, config.jump.rate)
        trained = jax.tree.map(lambda leaf, step: leaf + rate * step, trained, steps)
        return trained, moments, loss

    return jax.jit(update, donate_argnums=(0, 2))
