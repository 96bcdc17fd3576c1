"""What really happened on jumps, and how wrong it was to foresee something else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dreamer_h.nn.distributions import OneHot
from dreamer_h.types import Sequence
from dreamer_h.world.upper.jump import Outlook

Losses = dict[str, Float[Array, "..."]]


class Outcome(eqx.Module):
    """What really happened on jumps, of whatever shape."""

    anchored: Bool[Array, "*M"]  # both ends were seen
    way: Bool[Array, "*M"]  # all of it was seen, or how it ended
    reward: Float[Array, "*M"]  # discounted sum
    continue_: Float[Array, "*M"]  # product
    ended: Bool[Array, "*M"]  # by a termination
    duration: Int[Array, "*M"]  # index of the step that ended it

    @classmethod
    def of(
        cls,
        sequence: Sequence,
        begins: np.ndarray,
        steps: Int[Array, "*M"],
        stride: int,
        horizon: float,
    ) -> "Outcome":
        """Of jumps that begin at the moments `begins` (*M) and cover `steps`, at most a stride."""
        moments = begins[..., None] + 1 + np.arange(stride)
        on_it = jnp.arange(stride) < steps[..., None]
        mask, terminal = sequence.mask[moments] & on_it, sequence.is_terminal[moments] & on_it
        begun = sequence.mask[begins] & ~sequence.is_terminal[begins]
        arrived = sequence.mask[begins + steps]
        ended = (terminal & mask).any(-1)
        alive = jnp.where(terminal, 0.0, jnp.where(on_it, 1.0 - 1.0 / horizon, 1.0))
        before = jnp.concatenate([jnp.ones_like(alive[..., :1]), alive[..., :-1]], axis=-1)
        reward = jnp.where(mask, sequence.reward[moments], 0.0)
        return cls(
            anchored=begun & arrived,
            way=begun & (arrived | ended),
            reward=(jnp.cumprod(before, axis=-1) * reward).sum(-1),
            continue_=jnp.prod(alive, axis=-1),
            ended=begun & ended,
            duration=jnp.argmax(terminal, axis=-1),
        )


def outlook_losses(
    outlook: Outlook,
    outcome: Outcome,
    sequence: Sequence,
    code: OneHot,
    ends: np.ndarray | Int[Array, "*M"],
) -> Losses:
    """Nats of what was foreseen of jumps that end at the moments `ends` (*M); 0 where nothing was
    seen. `code` is that of the anchors there. Several paths in front, (P, *M), are judged together.
    """
    lead = outlook.continue_.logit.shape
    several = len(lead) > np.ndim(ends)
    spread = lambda value: jnp.broadcast_to(value, lead)
    log_probs = jax.nn.log_softmax(outlook.duration)
    index = spread(outcome.duration)[..., None]
    told = {
        "code": code.kl(outlook.code),
        "reward": outlook.reward.loss(spread(outcome.reward)),
        "continue": outlook.continue_.loss(spread(outcome.continue_)),
        "duration": -jnp.take_along_axis(log_probs, index, axis=-1)[..., 0],
    }
    if several:
        told = {name: loss.mean(0) for name, loss in told.items()}
    told["obs"] = jnp.zeros_like(told["code"])
    if outlook.obs is not None:
        judge = outlook.obs.ensemble_loss if several else outlook.obs.loss
        told["obs"] = judge(sequence.obs[ends])
    where = {"reward": outcome.way, "continue": outcome.way, "duration": outcome.ended}
    return {name: jnp.where(where.get(name, outcome.anchored), x, 0.0) for name, x in told.items()}
