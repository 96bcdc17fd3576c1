"""A level above the lowest: a recurrent state-space model whose steps are jumps between anchors."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.config import JumpConfig
from dreamer_h.nn.coordinates import Angles
from dreamer_h.nn.distributions import Bernoulli, OneHot, Symlog, TwoHot
from dreamer_h.types import Latent, side_by_side
from dreamer_h.world.decoder import floored
from dreamer_h.world.ensemble import Ensemble
from dreamer_h.world.heads import Head
from dreamer_h.world.level import Level
from dreamer_h.world.upper.chunk import Chunk, Macro


class Outlook(eqx.Module):
    """What a jump says of the anchor that it ends at, and of the way there."""

    code: OneHot
    obs: Symlog | None  # in `nn.coordinates`, as a latent carries it; None for pixels
    reward: TwoHot  # discounted sum of the rewards on the way, in physical units
    continue_: Bernoulli  # product of the continue probabilities with their discounts
    duration: Float[Array, "*B K"]  # logits of the agent step at which an episode that ends, ends

    def anchor(self, key: PRNGKeyArray) -> Float[Array, " V"]:
        """One anchor: a drawn code, and the mean of the observation."""
        return anchor_vector(self.code.sample(key), None if self.obs is None else self.obs.output)


class Jump(eqx.Module):
    """One level: `observe` an anchor or `step` to it, from memory y, own code S and the actions.

    An anchor is a vector V: the code Z of the lowest level, flat, and for states the observation in
    `nn.coordinates`. A level's `Latent` carries the anchor that it stands on in `obs`.
    """

    chunk: Chunk
    macro: Macro
    level: Level
    head: Head  # all of an outlook
    log_scale: Float[Array, " X"] | None
    bridge: Head  # anchor and memory -> first memory of the level below
    ensemble: Ensemble | None  # guesses of the next anchor
    groups: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)  # agent steps of a jump
    bins: int = eqx.field(static=True)
    angles: Angles = eqx.field(static=True)  # entries of the observation

    def __init__(
        self,
        *,
        groups: int,
        classes: int,
        carried: int,
        angles: Angles,
        action: int,
        stride: int,
        below: int,
        bins: int,
        unimix: float,
        members: int,
        config: JumpConfig,
        key: PRNGKeyArray,
    ):
        """`groups`, `classes`, `carried` make an anchor; `below` is the memory it begins; `members`
        is how many guess what this level does not know."""
        chunk_key, macro_key, level_key, head_key, bridge_key = jr.split(key, 5)
        code = groups * classes
        anchor, units = code + carried, config.units
        self.groups, self.classes, self.stride, self.bins = groups, classes, stride, bins
        self.angles = angles
        self.chunk = Chunk(anchor, action, stride, config.chunk_units, config.chunk, key=chunk_key)
        self.macro = Macro(config.chunk_units, anchor, key=macro_key)
        self.level = Level(
            anchor,
            config.chunk_units,
            deter=config.deter,
            hidden=config.hidden,
            groups=config.groups,
            classes=config.classes,
            blocks=1,
            unimix=unimix,
            carried=anchor,
            key=level_key,
        )
        features = config.deter + config.groups * config.classes + anchor
        outputs = anchor + bins + 1 + stride
        head = Head(features, outputs, units, 2, key=head_key)
        # the reward starts at exactly zero, as that of level 0 does
        start = head.output.weight.at[:, anchor : anchor + bins].set(0.0)
        self.head = eqx.tree_at(lambda head: head.output.weight, head, start)
        self.log_scale = jnp.zeros(carried, jnp.float32) if carried else None
        self.bridge = Head(anchor + config.deter, below, units, 1, key=bridge_key)
        self.ensemble = None
        if members:
            self.ensemble = Ensemble(
                features,
                config.chunk_units,
                carried=carried,
                groups=groups,
                classes=classes,
                change=CHANGE,
                members=members,
                units=units,
                angles=angles,
                key=jr.fold_in(key, 5),
            )

    def begin(self, anchor: Float[Array, " V"], deter: Float[Array, " D"] | None = None) -> Latent:
        """Standing on an anchor with a memory from the level above, or with none."""
        fresh = self.level.initial()
        deter = fresh.deter if deter is None else deter.astype(fresh.deter.dtype)
        return dataclasses.replace(fresh, deter=deter, obs=anchor.astype(jnp.float32))

    def observe(
        self,
        latent: Latent,
        chunk: Float[Array, " U"],
        anchor: Float[Array, " V"],
        *,
        key: PRNGKeyArray,
    ) -> Latent:
        """The posterior after a jump that led to `anchor`."""
        return self.level.observe(latent, chunk, anchor.astype(self.level.dtype), anchor, key=key)

    def step(self, latent: Latent, chunk: Float[Array, " U"], *, key: PRNGKeyArray) -> Latent:
        """The prior after a jump: where it may lead."""
        return self.foresee(latent, chunk, key=key)[0]

    def foresee(
        self, latent: Latent, chunk: Float[Array, " U"], *, key: PRNGKeyArray
    ) -> tuple[Latent, Outlook]:
        """The prior after a jump, and the outlook that its anchor was drawn from."""
        step_key, anchor_key = jr.split(key)
        following = self.level.step(latent, chunk, key=step_key)
        outlook = self.outlook(following)
        return dataclasses.replace(following, obs=outlook.anchor(anchor_key)), outlook

    def information_of(self, latent: Latent, chunk: Float[Array, "*B U"]) -> Float[Array, "*B"]:
        """Nats that seeing where a jump leads would tell about this level; see `Ensemble`. 0 where
        nobody guesses; leading axes are free."""
        if self.ensemble is None:
            return jnp.zeros(latent.deter.shape[:-1], jnp.float32)
        return self.ensemble.information(latent.features, chunk)

    def outlook(self, latent: Latent) -> Outlook:
        """At the end of a jump, in whose latent `obs` is still the anchor before; leading axes are
        free."""
        assert latent.obs is not None
        code = self.groups * self.classes
        anchor = latent.obs.shape[-1]
        places = [code, anchor, anchor + self.bins, anchor + self.bins + 1]
        parts = jnp.split(self.head(latent.features), places, axis=-1)
        logits = parts[0].reshape(*parts[0].shape[:-1], self.groups, self.classes)
        obs = None
        if self.log_scale is not None:
            obs = Symlog(latent.obs[..., code:] + CHANGE * parts[1], self.scale, self.angles)
        return Outlook(
            OneHot.from_logits(logits, self.level.unimix),
            obs,
            TwoHot(parts[2]),
            Bernoulli(parts[3][..., 0]),
            parts[4],
        )

    @property
    def scale(self) -> Float[Array, " X"] | None:
        """Logarithm of the learned deviation of each entry of an anchor's observation."""
        return None if self.log_scale is None else floored(self.log_scale)

    def below(self, latent: Latent) -> Float[Array, "*B D"]:
        """The first memory of the level below, of a segment that begins where this latent stands.

        The memory y is a constant here: nothing of the level below teaches how to remember.
        """
        assert latent.obs is not None
        dtype = self.level.dtype
        inputs = [latent.obs.astype(dtype), jax.lax.stop_gradient(latent.deter)]
        return jnp.tanh(self.bridge(jnp.concatenate(inputs, axis=-1)))


# Of what is added to an anchor's observation, as decoder.CHANGE: a jump changes it more.
CHANGE = 0.5


def anchor_vector(
    code: Float[Array, "*B G C"], obs: Float[Array, "*B X"] | None
) -> Float[Array, "*B V"]:
    """Code and observation of an anchor, side by side."""
    flat = side_by_side(code).astype(jnp.float32)
    return flat if obs is None else jnp.concatenate([flat, obs.astype(jnp.float32)], axis=-1)
