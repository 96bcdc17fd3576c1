"""Everything that learning changes, as one tree of arrays."""

from typing import TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int32, UInt32

from dreamer_h.behaviour.actor_critic import ActorCritic, Underway
from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.hierarchical_losses import HierarchyStatistics
from dreamer_h.behaviour.inside import Behaviour
from dreamer_h.behaviour.paths import Paths
from dreamer_h.behaviour.worker import Post
from dreamer_h.config import Config
from dreamer_h.horizon.trust.calibrate import NO_LIMIT
from dreamer_h.nn.optimizer import laprop
from dreamer_h.nn.statistics import EntropyWeight, ReturnScale, Statistics
from dreamer_h.types import Observed
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy, make_world

T = TypeVar("T")


class Agent(eqx.Module):
    """What acts: the simulator and the behaviour trained in it."""

    world: AnyWorld
    behaviour: Behaviour


class TrainState(eqx.Module):
    """The agent, its slow critics, its statistics, its optimiser, and the clock.

    Randomness is derived from `seed` and `update`, so that a resumed run repeats it.
    """

    agent: Agent
    average: Agent | None  # moving average of the agent, where there is one
    slow_critics: tuple[Head, ...]
    statistics: Statistics | HierarchyStatistics
    paths: Paths | None  # where imagined paths stand, if they go on
    trusted: Float[Array, " L"]  # nats of doubt along a level's path that are relied upon
    optimizer: tuple[optax.OptState, optax.OptState]  # of the world and of the behaviour
    seed: UInt32[Array, ""]
    update: Int32[Array, ""]
    skipped: Int32[Array, ""]  # updates whose loss or gradient was not finite
    skipped_in_a_row: Int32[Array, ""]

    @property
    def acting(self) -> Agent:
        """The agent that acts, is evaluated, and whose world policies are trained in."""
        return self.agent if self.average is None else self.average


def init_agent(obs: Observed, action: int, config: Config) -> Agent:
    """A fresh agent for observations of this shape and `action` action dimensions."""
    world_key, behaviour_key = jr.split(jr.key(config.seed))
    world = make_world(obs, action, config, key=world_key)
    if isinstance(world, Hierarchy):
        behaviour = ManagerWorker(world, action, config.behaviour, key=behaviour_key)
    else:
        behaviour = ActorCritic(world.features, action, config.behaviour, key=behaviour_key)
    return Agent(world, behaviour)


def init_state(obs: Observed, action: int, config: Config) -> TrainState:
    """The state before the first update."""
    agent = init_agent(obs, action, config)
    # Copies: a donated state must not hold one array twice.
    slow_critics = jax.tree.map(jnp.copy, agent.behaviour.critics)
    zero = lambda: jnp.zeros((), jnp.int32)
    return TrainState(
        agent=agent,
        average=jax.tree.map(jnp.copy, agent) if config.average else None,
        slow_critics=slow_critics,
        statistics=init_statistics(config),
        paths=init_paths(agent.world, config),
        trusted=jnp.full(min(config.levels, 2), NO_LIMIT, jnp.float32),  # nothing was measured
        optimizer=(
            optimizer(config).init(cast(optax.Params, agent.world)),
            optimizer(config).init(cast(optax.Params, agent.behaviour)),
        ),
        seed=jnp.uint32(config.seed),
        update=zero(),
        skipped=zero(),
        skipped_in_a_row=zero(),
    )


def init_statistics(config: Config) -> Statistics | HierarchyStatistics:
    chosen = config.behaviour
    if config.levels > 1:
        return HierarchyStatistics.init(chosen)
    weight = EntropyWeight.init(chosen.entropy, chosen.entropy_target, chosen.entropy_rate)
    return Statistics(ReturnScale.init(), weight)


def init_paths(world: AnyWorld, config: Config) -> Paths | None:
    """None has begun."""
    chosen = config.behaviour
    if not chosen.paths:
        return None
    world = in_precision(world, jnp.dtype(config.precision))
    if isinstance(world, Hierarchy):
        stack = world.initial()
        like = Post.seen(stack.ground, stack.above[0])
    else:
        like = Underway.begun(world.initial())
    return Paths.init(like, chosen.paths, chosen.path_length)


def in_precision(tree: T, dtype: jnp.dtype) -> T:
    """A copy whose floats have this dtype; their gradients return in the original's."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def optimizer(config: Config) -> optax.GradientTransformation:
    chosen = config.optimizer
    return laprop(
        chosen.learning_rate,
        clip=chosen.clip,
        warmup=chosen.warmup,
        decay=chosen.decay,
        momentum=chosen.momentum,
        eps=chosen.eps,
    )
