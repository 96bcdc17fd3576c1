"""Which subgoals a worker practises: the manager's, where it really went, and any."""

from typing import cast

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dreamer_h.behaviour.attitude import Attitude
from dreamer_h.behaviour.manager import Plan
from dreamer_h.behaviour.returns import survival
from dreamer_h.behaviour.worker import Post, Segment
from dreamer_h.config import BehaviourConfig
from dreamer_h.types import Latent, merged
from dreamer_h.world.upper.hierarchy import Hierarchy


def practised(
    asked: Float[Array, "B V"],
    reached: Float[Array, "B V"],
    known: Bool[Array, " B"],
    config: BehaviourConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "B V"], Bool[Array, " B"]]:
    """A subgoal for each of B posts: of the manager, or where the same was `reached` a segment
    later, which is not `known` of all; of the rest, one that another was reached from. With it
    whether it is the manager's."""
    kind_key, other_key = jr.split(key)
    draw = jr.uniform(kind_key, known.shape)
    hindsight = known & (draw >= config.own_goals)
    any_ = draw >= config.own_goals + config.hindsight_goals
    other = jr.permutation(other_key, len(reached))
    random = known[other] & any_
    goal = jnp.where(hindsight[:, None], reached, asked)
    return jnp.where(random[:, None], reached[other], goal), ~(hindsight | random)


def waypoints_of(
    world: Hierarchy,
    plan: Plan,
    count: int,
    horizon: float,
    attitude: Attitude,
    *,
    key: PRNGKeyArray,
) -> tuple[Segment, Bool[Array, " W"]]:
    """Segments that begin at some of the waypoints of the manager's imagination, and whether these
    are relied upon and, as often as the simulator says, come before an end. `horizon` (agent steps)
    is the discount's, which says nothing of ends."""
    jumps, paths = plan.reward.shape
    choose_key, end_key = jr.split(key)
    # the first are real anchors
    chosen = jr.permutation(choose_key, (jumps - 1) * paths)[:count] + paths
    some = lambda tree: jax.tree.map(lambda leaf: leaf[chosen], merged(tree))
    standing = cast(Latent, some(plan.standing))
    doubt = attitude.handed_over(some(plan.doubt), of=1, to=0)
    post = Post(world.ground_at(standing), standing, doubt)
    alive = survival(plan.discount / (1.0 - 1.0 / horizon) ** world.strides[0])
    goes_on = jr.uniform(end_key, chosen.shape) < some(alive)
    return Segment(post, some(plan.goal), some(plan.told)), some(plan.relied) & goes_on
