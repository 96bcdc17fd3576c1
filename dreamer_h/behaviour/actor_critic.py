"""An actor and a critic that learn inside the simulator (Hafner et al. 2025)."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dreamer_h.behaviour.attitude import INDIFFERENT, Attitude
from dreamer_h.behaviour.returns import lambda_return, survival
from dreamer_h.config import BehaviourConfig
from dreamer_h.nn.distributions import BoundedNormal, TwoHot
from dreamer_h.nn.recurrent import frugal
from dreamer_h.types import Latent, Sequence, Stack
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.hierarchy import AnyWorld

stop = jax.lax.stop_gradient


class ActorCritic(eqx.Module):
    """Heads on a latent's features: a bounded normal policy and a two-hot value."""

    actor: Head
    critic: Head

    def __init__(self, features: int, action: int, config: BehaviourConfig, *, key: PRNGKeyArray):
        actor_key, critic_key = jr.split(key)
        units, layers = config.units, config.layers
        self.actor = Head(features, 2 * action, units, layers, scale=0.01, key=actor_key)
        self.critic = Head(features, config.bins, units, layers, scale=0.0, key=critic_key)

    def policy(self, features: Float[Array, "*B F"]) -> BoundedNormal:
        return BoundedNormal.from_outputs(self.actor(features))

    def value(self, features: Float[Array, "*B F"]) -> TwoHot:
        return TwoHot(self.critic(features))

    def no_intent(self, world: AnyWorld) -> None:
        """Nobody tells a flat agent where to go."""

    def intend(
        self, world: AnyWorld, latent: Latent, intent: None, sample: Bool[Array, ""], *, key
    ) -> None:
        """Nothing."""

    def acting(self, latent: Latent | Stack, intent: None) -> BoundedNormal:
        """What it does; leading axes are free."""
        return self.policy(latent.features)

    @property
    def actors(self) -> tuple[Head]:
        return (self.actor,)

    @property
    def critics(self) -> tuple[Head]:
        return (self.critic,)


class Rollout(eqx.Module):
    """What the behaviour learns from: B imagined paths of H steps with their returns.

    Time comes first, as the scan leaves it: turning 1000 paths around costs a tenth of an update.
    `weight[t]` is the probability, times the discount, that the path is still alive at t.
    """

    features: Float[Array, "H B F"]  # the states acted from: 0 … H-1
    action: Float[Array, "H B A"]
    reward: Float[Array, "H B"]  # reward[t] is of arriving at t+1
    value: Float[Array, "H B"]
    returns: Float[Array, "H B"]
    weight: Float[Array, "H B"]


class Underway(eqx.Module):
    """Where B imagined paths are."""

    latent: Latent | Stack
    doubt: Float[Array, "*B"]  # nats since something was seen

    @classmethod
    def begun(cls, latent: Latent | Stack) -> "Underway":
        """Where something was seen just now."""
        return cls(latent, jnp.zeros(latent.deter.shape[:-1], jnp.float32))


def imagine(
    world: AnyWorld,
    behaviour: ActorCritic,
    start: Underway,
    length: int,
    *,
    gradient: Literal["reinforce", "dynamics"],
    lambda_: float,
    attitude: Attitude = INDIFFERENT,
    key: PRNGKeyArray,
) -> tuple[Rollout, Underway, Float[Array, "H B"]]:
    """Follows the policy inside the simulator from every start (B, ...), and scores the paths; with
    where they end, and the continue probabilities, times discounts, of their steps.

    The world and the critic are constants here. With "dynamics" the actor's gradient runs through
    actions and latents to the returns; with "reinforce" nothing carries a gradient. A path that is
    not relied upon any more ends there: what was before bootstraps from its value, and nothing is
    learned from the rest.
    """
    world, critic = stop(world), stop(behaviour.critic)
    actor = behaviour.actor if gradient == "dynamics" else stop(behaviour.actor)

    def step(latent: Latent | Stack, key: PRNGKeyArray):
        act_key, world_key = jr.split(key)
        features = latent.features
        action = BoundedNormal.from_outputs(actor(features)).sample(act_key)
        world_keys = jr.split(world_key, len(action))
        following = jax.vmap(lambda *inputs, key: world.step(*inputs, key=key))(
            latent, action, key=world_keys
        )
        return following, (features, action)

    keys = jr.split(key, length)
    last, (features, action) = jax.lax.scan(frugal(step), stop(start.latent), keys)

    def score(features):
        reward, discount = world.reward_of(features).mean, world.continue_of(features).mean
        return reward, discount, TwoHot(critic(features)).mean

    # The last state is scored apart: joining it to the others would copy them all.
    along, at_last = score(features), score(last.features)
    reward, discount, value = (
        jnp.concatenate([a, b[None]]) for a, b in zip(along, at_last, strict=True)
    )
    reward, discount, weight = reward[1:], discount[1:], survival(discount[1:])
    worth, mixing, doubt = reward, lambda_, start.doubt
    if attitude.cares:
        step_doubt = world.information_of(features, action)
        worth = attitude.worth(reward, step_doubt)
        since = start.doubt + jnp.cumsum(step_doubt, axis=0)
        mixing, weight = attitude.ended(since, lambda_, weight)
        doubt = since[-1]
    returns = lambda_return(worth, discount, value[1:], mixing)
    rollout = Rollout(features, action, reward, value[:-1], returns, stop(weight))
    return rollout, stop(Underway(last, doubt)), stop(discount)


def imagination_losses(
    behaviour: ActorCritic,
    slow_critic: Head,
    rollout: Rollout,
    return_scale: Float[Array, ""],
    entropy_weight: Float[Array, ""],
    config: BehaviourConfig,
) -> tuple[dict[str, Float[Array, "H B"]], dict[str, Float[Array, "H B"]]]:
    """Losses of actor and critic on imagined paths, and what the log shows of them."""
    features = stop(rollout.features)
    policy = behaviour.policy(features)
    advantage = (rollout.returns - rollout.value) / return_scale
    if config.gradient == "dynamics":
        objective = rollout.returns / return_scale
    else:
        objective = policy.log_prob(stop(rollout.action)) * stop(advantage)
    entropy = policy.entropy()
    losses = {
        "policy": -rollout.weight * (objective + stop(entropy_weight) * entropy),
        "value": rollout.weight
        * value_loss(behaviour.value(features), slow_critic, features, rollout.returns, config),
    }
    metrics = {
        "entropy": entropy,
        "advantage": advantage,
        "return": rollout.returns,
        "reward_imagined": rollout.reward,
        "value_mean": rollout.value,
        "action_std": policy.scale.mean(-1),
    }
    return losses, metrics


def replay_value_loss(
    behaviour: ActorCritic,
    slow_critic: Head,
    latent: Latent,
    sequence: Sequence,
    paid: Float[Array, " T"],
    bootstrap: Float[Array, " T1"],
    config: BehaviourConfig,
) -> Float[Array, " T"]:
    """The critic held to what the steps of one window paid; its gradient reaches the world.

    `bootstrap` are the imagined returns of the window's states, which stand for the values.
    """
    alive = 1.0 - sequence.is_terminal[1:].astype(jnp.float32)
    discount = alive * (1.0 - 1.0 / config.horizon)
    # the last seen step bootstraps: behind it is padding, which says nothing
    follows = jnp.append(sequence.mask[2:], False)
    mixing = config.lambda_ * follows
    returns = lambda_return(paid, discount, bootstrap[1:], mixing)
    features = latent.features[:-1]
    loss = value_loss(behaviour.value(features), slow_critic, features, returns, config)
    return jnp.where(sequence.mask[1:], loss, 0.0)


def value_loss(
    value: TwoHot,
    slow_critic: Head,
    features: Float[Array, "*B F"],
    returns: Float[Array, "*B"],
    config: BehaviourConfig,
) -> Float[Array, "*B"]:
    """Cross-entropy to the return, and to the slow critic's opinion as a regulariser."""
    slow = stop(TwoHot(slow_critic(features)).mean)
    # one pass over the bins for both targets
    return value.cross_entropy(value.encode(returns) + config.slow_scale * value.encode(slow))
