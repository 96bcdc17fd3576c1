"""Episodes that the simulator plays: begin one, step through it, with all that a user may ask of a
step. Pure functions of one episode; `vmap` them for more."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, Shaped, UInt32

from dreamer_h.behaviour.subgoal import distance, subgoal
from dreamer_h.nn.coordinates import nearest
from dreamer_h.nn.distributions import TwoHot
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.simulated.starts import Starts, as_seen
from dreamer_h.types import Latent, Stack
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.upper.turn import full
from dreamer_h.world.world import Prediction


class Running(eqx.Module):
    """An episode that is under way, or E of them."""

    latent: Latent | Stack
    obs: Shaped[Array, "..."]  # the last one
    steps: Int[Array, "*E"]  # agent steps since its start
    doubt: Float[Array, "*E"]  # nats gathered since then
    jump_doubt: Float[Array, "*E"]  # of level 1
    key: Key[Array, "*E"] | UInt32[Array, "*E 2"]  # threefry; of step t it is folded with t


class Moment(eqx.Module):
    """What a step leads to."""

    obs: Shaped[Array, "..."]  # physical units, of the real task's dtype
    reward: Float[Array, "*E"]
    terminated: Bool[Array, "*E"]
    truncated: Bool[Array, "*E"]
    steps: Int[Array, "*E"]  # agent steps since the start, the last that was really seen
    reward_spread: Float[Array, "*E"]  # deviation of the predicted reward's distribution
    disagreement: Float[Array, "*E"]  # of level 1 and level 0, in deviations; 0 with one level
    doubt: Float[Array, "*E"]  # nats gathered since then; 0 without an ensemble
    jump_doubt: Float[Array, "*E"]  # of level 1, over the jumps that have ended; 0 with one level
    radius: Float[Array, "*E"]  # deviations that 90 % are within; infinite: never calibrated
    outside: Bool[Array, "*E"]  # doubted more than what the radius was measured on
    untrusted: Bool[Array, "*E"]  # cut for its radius, or for disagreement
    invalid: Bool[Array, "*E"]  # cut for a prediction that is not finite


class Simulated(eqx.Module):
    """A simulator as a task.

    Observation and reward are the expected ones at a drawn latent. A termination is drawn, where
    the real task has any.
    """

    world: Any  # World or Hierarchy; each has its own kind of latent
    starts: Starts
    spread: Float[Array, " X"] | None  # unit of disagreement; None for pixels
    calibration: Calibration | None  # of steps; None: nothing was measured
    ends: bool = eqx.field(static=True)  # whether the task terminates
    discount: float = eqx.field(static=True)  # of an agent step, that the continue head contains
    limit: int | None = eqx.field(static=True)  # agent steps of an episode
    trust: float | None = eqx.field(static=True)  # radius, or else disagreement, that ends one

    @property
    def stride(self) -> int:
        """Agent steps of a step."""
        return 1

    def reset(self, key: PRNGKeyArray) -> Running:
        """At one of the starts."""
        start_key, key = jr.split(key)
        chosen = jr.randint(start_key, (), 0, len(self.starts))
        return self.begin(jax.tree.map(lambda leaf: leaf[chosen], self.starts), key)

    def begin(self, start: Starts, key: PRNGKeyArray) -> Running:
        """At this start."""
        begin_key, key = jr.split(key)
        latent = self.begun(start.latent, begin_key)
        return Running(latent, start.obs, jnp.int32(0), jnp.float32(0.0), jnp.float32(0.0), key)

    def begun(self, latent: Latent | Stack, key: PRNGKeyArray) -> Latent | Stack:
        """What a start goes on from."""
        return self.world.redrawn(latent, key=key)

    def led(
        self, latent: Latent | Stack, action: Shaped[Array, " A"], key: PRNGKeyArray
    ) -> tuple[Latent | Stack, Prediction, Float[Array, ""]]:
        """Where an action leads, what is seen there, and the doubt in it."""
        action = jnp.clip(action.astype(jnp.float32), -1.0, 1.0)
        doubt = self.world.information_of(latent.features, action)
        latent = self.world.step(latent, action, key=key)
        return latent, self.world.decode(latent), doubt

    def step(self, episode: Running, action: Shaped[Array, " A"]) -> tuple[Running, Moment]:
        """One step. A prediction that is not finite leaves everything as it was, and ends."""
        steps = episode.steps + self.stride
        step_key, end_key, jump_key = jr.split(jr.fold_in(episode.key, episode.steps), 3)
        latent, seen, told = self.led(episode.latent, action, step_key)
        reward, spread = seen.reward.mean, deviation(seen.reward)
        whole = _finite((latent, seen.obs.mean, reward, spread, told))
        kept = lambda new, old: jax.tree.map(lambda a, b: jnp.where(whole, a, b), new, old)
        latent = kept(latent, episode.latent)
        expected = nearest(seen.obs.mean, episode.obs, self.world.angles)
        obs = kept(as_seen(expected, episode.obs.dtype), episode.obs)
        doubt = kept(episode.doubt + told, episode.doubt)
        apart, of_jump = self.watched(latent, jump_key)
        jump_doubt = kept(episode.jump_doubt + of_jump, episode.jump_doubt)
        radius, outside = jnp.float32(jnp.inf), jnp.bool_(False)
        if self.calibration is not None:
            radius, outside = self.calibration.radius(steps, doubt), self.calibration.outside(told)
        ended = jnp.bool_(False)
        if self.ends:
            ended = jr.uniform(end_key) * self.discount**self.stride >= seen.continue_.mean
        untrusted = jnp.bool_(False)
        if self.trust is not None:
            untrusted = (apart if self.calibration is None else radius) > self.trust
        over = jnp.bool_(False) if self.limit is None else steps >= self.limit
        moment = Moment(
            obs=obs,
            reward=jnp.where(whole, reward, 0.0),
            terminated=ended & whole,
            truncated=over | untrusted | ~whole,
            steps=steps,
            reward_spread=jnp.where(whole, spread, 0.0),
            disagreement=apart,
            doubt=doubt,
            jump_doubt=jump_doubt,
            radius=radius,
            outside=outside,
            untrusted=untrusted,
            invalid=~whole,
        )
        return Running(latent, obs, steps, doubt, jump_doubt, episode.key), moment

    def watched(
        self, latent: Latent | Stack, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """What level 1 makes of it: how far from level 0 its jump over the actions since its last
        anchor leads, and its doubt (nats) in that jump, told once, when it ends.

        The distance is that of subgoals, see `behaviour.subgoal.distance`. 0 where nothing jumps.
        """
        if not isinstance(latent, Stack) or not isinstance(self.world, Hierarchy):
            return jnp.float32(0.0), jnp.float32(0.0)
        jump = self.world.jumps[0]
        known = jump.chunk.code(latent.chunks[0])
        _, outlook = jump.foresee(latent.above[0], known, key=key)
        apart = distance(self.world, latent.ground, subgoal(outlook), self.spread)
        apart = jnp.where(latent.steps > 1, jnp.nan_to_num(apart, posinf=1e9), 0.0)
        told = jump.information_of(latent.above[0], known)
        return apart, jnp.where(full(latent.steps, jump.stride), told, 0.0)


LEAST = 1e-3  # probability of a bin that counts: the outer bins are around 5e8


def deviation(reward: TwoHot) -> Float[Array, "*B"]:
    """The standard deviation of a two-hot distribution, over the bins that hold anything."""
    probs = jax.nn.softmax(reward.logits.astype(jnp.float32), axis=-1)
    probs = jnp.where(probs < LEAST, 0.0, probs)
    probs = probs / jnp.maximum(probs.sum(-1, keepdims=True), LEAST)
    bins = jnp.asarray(reward.bins)
    away = bins - (probs * bins).sum(-1, keepdims=True)
    return jnp.sqrt(jnp.sum(probs * jnp.square(away), axis=-1))


def _finite(tree: Any) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all()
