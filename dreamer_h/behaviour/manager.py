"""The policy of level 1: once per segment it chooses a macro-action, and learns in jumps alone."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dreamer_h.behaviour.actor_critic import value_loss
from dreamer_h.behaviour.attitude import INDIFFERENT, Attitude
from dreamer_h.behaviour.returns import lambda_return, survival
from dreamer_h.behaviour.subgoal import between, subgoal
from dreamer_h.config import BehaviourConfig
from dreamer_h.nn.distributions import Bernoulli, OneHot, TwoHot
from dreamer_h.nn.fsq import LEVELS
from dreamer_h.types import Latent
from dreamer_h.world.heads import Head
from dreamer_h.world.upper.chunk import MACRO
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.upper.jump import Jump, Outlook

stop = jax.lax.stop_gradient

UNIMIX = 0.01  # of the uniform distribution in every choice and in the prior


class Manager(eqx.Module):
    """Heads on level 1: a policy over macro-actions and its value; what replayed segments did; and
    whether the worker gets where it is sent."""

    actor: Head
    critic: Head
    prior: Head  # anchor -> logits of the macro-action
    attains: Head  # anchor and subgoal -> logit

    def __init__(self, world: Hierarchy, config: BehaviourConfig, *, key: PRNGKeyArray):
        actor_key, critic_key, prior_key, attains_key = jr.split(key, 4)
        level, units, layers = world.base.level, config.units, config.layers
        anchor = level.groups * level.classes + world.base.carried
        own = world.jumps[0].level
        features = own.deter + own.groups * own.classes + anchor
        choices = MACRO * LEVELS
        self.actor = Head(features, choices, units, layers, scale=0.01, key=actor_key)
        self.critic = Head(features, config.bins, units, layers, scale=0.0, key=critic_key)
        self.prior = Head(anchor, choices, units, layers, scale=0.01, key=prior_key)
        self.attains = Head(2 * anchor, 1, units, 1, scale=0.0, key=attains_key)

    def policy(self, features: Float[Array, "*B F1"]) -> OneHot:
        """M = 8 categoricals of 5 values each."""
        return _choices(self.actor(features))

    def value(self, features: Float[Array, "*B F1"]) -> TwoHot:
        return TwoHot(self.critic(features))

    def usual(self, anchor: Float[Array, "*B V"]) -> OneHot:
        """The behaviour prior: what was done from there."""
        return _choices(self.prior(anchor))

    def reliability(self, anchor: Float[Array, "*B V"], goal: Float[Array, "*B V"]) -> Bernoulli:
        """Whether the worker reaches a subgoal by the end of the segment."""
        return Bernoulli(self.attains(jnp.concatenate([anchor, goal], axis=-1))[..., 0])


def _choices(logits: Float[Array, "*B outputs"]) -> OneHot:
    return OneHot.from_logits(logits.reshape(*logits.shape[:-1], MACRO, LEVELS), UNIMIX)


def macro_of(choice: Float[Array, "*B M C"]) -> Float[Array, "*B M"]:
    """The macro code that a choice stands for, as `nn.fsq` has it."""
    return choice @ jnp.linspace(-1.0, 1.0, LEVELS)


def choice_of(index: Int[Array, "*B M"]) -> Float[Array, "*B M C"]:
    """The choice that stands for a macro code, given as `nn.fsq.index`."""
    return jax.nn.one_hot(index, LEVELS)


def proposed(
    jump: Jump, standing: Latent, choice: Float[Array, "M C"], *, key: PRNGKeyArray
) -> tuple[Latent, Outlook]:
    """Where a level expects a macro-action to lead, and the outlook on it."""
    return jump.foresee(standing, decided(jump, standing, choice), key=key)


def decided(jump: Jump, standing: Latent, choice: Float[Array, "*B M C"]) -> Float[Array, "*B U"]:
    """What a level knows of the actions that a macro-action stands for; leading axes are free."""
    return jump.macro.decode(macro_of(choice), cast(Array, standing.obs))


def misjudged(
    world: Hierarchy,
    standing: Latent,
    did: Float[Array, "B M C"],
    reached: Float[Array, "B V"],
    spread: Float[Array, " X"] | None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, " B"]:
    """How far segments ended from the subgoals that level 1 makes of what was done in them: nobody
    can be asked to get nearer than that."""
    foresee = lambda *inputs, key: proposed(world.jumps[0], *inputs, key=key)[1]
    outlook = jax.vmap(foresee)(standing, did, key=jr.split(key, len(did)))
    return between(world, reached, subgoal(outlook), spread)


class Plan(eqx.Module):
    """What the manager learns from: B paths of N jumps with their returns; time comes first.

    `weight[n]` is the probability, times the discount, that the path is still alive at n.
    """

    standing: Latent  # (N, B, ...) chosen from
    choice: Float[Array, "N B M C"]
    goal: Float[Array, "N B V"]
    reward: Float[Array, "N B"]  # of the whole segment, discounted inside it
    discount: Float[Array, "N B"]  # probability to go on, times the discount, of the whole segment
    reliability: Float[Array, "N B"]
    value: Float[Array, "N B"]
    returns: Float[Array, "N B"]
    weight: Float[Array, "N B"]
    told: Float[Array, "N B"]  # nats of doubt in each jump; 0 where nobody asks
    doubt: Float[Array, "N B"]  # nats of level 1 since something was seen, where it chooses from
    relied: Bool[Array, "N B"]  # there


def plan(
    world: Hierarchy,
    manager: Manager,
    standing: Latent,
    jumps: int,
    *,
    lambda_: float,
    reliant: bool,
    attitude: Attitude = INDIFFERENT,
    doubt: Float[Array, " B"] | float = 0.0,
    key: PRNGKeyArray,
) -> Plan:
    """Follows the manager in level 1 from where it stands (B, ...), which is doubted so much
    already. Nothing carries a gradient.

    Reward and continue of a jump already contain the discounts of its steps. A `reliant` return
    counts what follows as often as the worker gets there; else it goes on from where it stood.
    Jumps that are not relied upon any more end a path, as in `actor_critic.imagine`.
    """
    jump, manager = stop(world.jumps[0]), stop(manager)

    def step(latent, key):
        choose_key, jump_key = jr.split(key)
        choice = manager.policy(latent.features).sample(choose_key)
        keys = jr.split(jump_key, len(choice))
        leap = jax.vmap(lambda latent, choice, key: proposed(jump, latent, choice, key=key))
        following, outlook = leap(latent, choice, keys)
        goal = subgoal(outlook)
        told = (outlook.reward.mean, outlook.continue_.mean)
        return following, (latent, choice, goal, *told)

    last, found = jax.lax.scan(step, stop(standing), jr.split(key, jumps))
    standing, choice, goal, reward, discount = found
    anchor = cast(Array, standing.obs)
    reliability = manager.reliability(anchor, goal).mean
    value = manager.value(standing.features).mean
    following = jnp.concatenate([value[1:], manager.value(last.features).mean[None]])
    stayed, counted = jnp.zeros_like(reward), discount
    if reliant:
        stayed, counted = discount * (1.0 - reliability) * value, discount * reliability
    worth, mixing, weight = reward, lambda_, survival(counted)
    told = before = jnp.zeros_like(reward)
    if attitude.cares:
        told = jump.information_of(standing, decided(jump, standing, choice))
        worth, since = attitude.worth(reward, told), doubt + jnp.cumsum(told, axis=0)
        mixing, weight = attitude.ended(since, lambda_, weight, level=1)
        before = jnp.concatenate([jnp.broadcast_to(doubt, told[:1].shape), since[:-1]])
    relied = attitude.relied(before, level=1)
    returns = lambda_return(worth + stayed, counted, following, mixing)
    return stop(
        Plan(
            standing, choice, goal, reward, discount, reliability, value, returns, weight,
            told, before, relied,
        )
    )  # fmt: skip


def manager_losses(
    manager: Manager,
    slow_critic: Head,
    plan: Plan,
    return_scale: Float[Array, ""],
    prior_weight: Float[Array, ""],
    config: BehaviourConfig,
) -> tuple[dict[str, Float[Array, "N B"]], dict[str, Float[Array, "N B"]]]:
    """Losses of the manager's policy and value on imagined jumps, and what the log shows of them.

    The policy is held near what replayed segments did, since an upper level that may ask for
    anything asks for what its model is wrong about.
    """
    features = plan.standing.features
    policy = manager.policy(features)
    advantage = (plan.returns - plan.value) / return_scale
    chosen = (policy.log_probs * plan.choice).sum((-2, -1))
    away = policy.kl(stop(manager.usual(cast(Array, plan.standing.obs))))
    losses = {
        "policy": plan.weight * (stop(prior_weight) * away - chosen * advantage),
        "value": plan.weight
        * value_loss(manager.value(features), slow_critic, features, plan.returns, config),
    }
    metrics = {
        "entropy": policy.entropy(),
        "prior_nats": away,
        "advantage": advantage,
        "return": plan.returns,
        "reward_imagined": plan.reward,
        "value_mean": plan.value,
        "reliability": plan.reliability,
    }
    return losses, metrics
