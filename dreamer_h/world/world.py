"""The learned simulator, used by every room above only through its six verbs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dreamer_h.config import WorldConfig
from dreamer_h.nn.coordinates import Angles, coordinates
from dreamer_h.nn.distributions import Bernoulli, Pixels, Symlog, TwoHot
from dreamer_h.nn.recurrent import boxed
from dreamer_h.types import Imagined, Latent, Observed, Sequence
from dreamer_h.world.decoder import CHANGE, PixelDecoder, StateDecoder, make_decoder
from dreamer_h.world.encoder import PixelEncoder, StateEncoder, make_encoder
from dreamer_h.world.ensemble import Ensemble
from dreamer_h.world.heads import Head
from dreamer_h.world.level import Level

ActionOf = Callable[[Latent, PRNGKeyArray], Float[Array, " A"]]


class Prediction(eqx.Module):
    """What a latent says about its own moment; every `mean` is in physical units."""

    obs: Symlog | Pixels
    reward: TwoHot  # of arriving here, summed over the action repeat
    continue_: Bernoulli  # probability to go on, times the discount of one agent step


class World(eqx.Module):
    """The six verbs, each for one sequence or one step; `vmap` them for more."""

    encoder: StateEncoder | PixelEncoder
    level: Level
    decoder: StateDecoder | PixelDecoder
    reward: Head
    continue_: Head
    ensemble: Ensemble | None  # guesses of the next step
    features: int = eqx.field(static=True)  # F of a latent
    carried: int = eqx.field(static=True)  # coordinates of the observation that latents carry
    angles: Angles = eqx.field(static=True)  # entries of the observation

    def __init__(self, obs: Observed, action: int, config: WorldConfig, *, key: PRNGKeyArray):
        encoder_key, level_key, decoder_key, reward_key, continue_key = jr.split(key, 5)
        self.encoder = make_encoder(
            obs, units=config.units, layers=3, depth=config.depth, key=encoder_key
        )
        self.angles = obs.angles
        self.carried = obs.shape[0] + len(obs.angles) if config.residual else 0
        self.level = Level(
            self.encoder.width,
            action,
            deter=config.deter,
            hidden=config.hidden,
            groups=config.groups,
            classes=config.classes,
            blocks=config.blocks,
            unimix=config.unimix,
            carried=self.carried,
            key=level_key,
        )
        code = config.groups * config.classes
        self.features = config.deter + code + self.carried
        self.decoder = make_decoder(
            obs,
            features=self.features,
            deter=config.deter,
            code=code,
            units=config.units,
            layers=3,
            depth=config.depth,
            blocks=config.blocks,
            learned_scale=config.learned_scale,
            key=decoder_key,
        )
        self.reward = Head(self.features, config.bins, config.units, 1, scale=0.0, key=reward_key)
        self.continue_ = Head(self.features, 1, config.units, 1, key=continue_key)
        self.ensemble = None
        if config.ensemble:
            self.ensemble = Ensemble(
                self.features,
                action,
                carried=self.carried,
                groups=config.groups,
                classes=config.classes,
                change=CHANGE,
                members=config.ensemble,
                units=config.units,
                angles=self.angles,
                key=jr.fold_in(key, 5),
            )

    def initial(self) -> Latent:
        """The state before anything was seen: zeros."""
        return self.level.initial()

    def encode(self, obs: Shaped[Array, "..."]) -> Float[Array, "*B E"]:
        """Embedding of raw observations; leading axes are free."""
        return self.encoder(obs)

    def start(self, sequence: Sequence, *, key: PRNGKeyArray) -> Latent:
        """Posteriors (T1, ...) along a context; the last one is where imagination begins."""
        embedding, seen = self.encode(sequence.obs), self.seen(sequence.obs)
        return self.level.observe_sequence(
            sequence.action, embedding, sequence.is_first, seen, key=key
        )

    def observe(
        self, latent: Latent, action: Float[Array, " A"], obs: Shaped[Array, "..."], *, key
    ) -> Latent:
        """Posterior after one agent step."""
        return self.level.observe(latent, action, self.encode(obs), self.seen(obs), key=key)

    def step(self, latent: Latent, action: Float[Array, " A"], *, key: PRNGKeyArray) -> Latent:
        """Prior after one agent step."""
        following = self.level.step(latent, action, key=key)
        if not self.carried:
            return following
        return dataclasses.replace(following, obs=self.decoder(following).output)

    def expect(self, latent: Latent, before: Float[Array, "*B X"] | None) -> Symlog | Pixels:
        """The observation at a latent, from `before`: the one that was carried to it, if any."""
        return self.decoder(dataclasses.replace(latent, obs=before))

    def imagine(
        self,
        latent: Latent,
        actions: Float[Array, "H A"] | ActionOf,
        length: int | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Imagined:
        """H agent steps of priors, under given actions or under a policy `(latent, key) -> action`.

        A policy needs the static `length` H; with given actions it is theirs.
        """
        return chained(self.step, latent, actions, length, key=key)

    def decode(self, latent: Latent) -> Prediction:
        """Observation, reward and continue at a latent; leading axes are free."""
        if isinstance(self.decoder, StateDecoder) and latent.obs is not None:
            obs = self.decoder.around(latent.obs)
        else:
            obs = self.decoder(latent)
        return Prediction(obs, self.reward_of(latent.features), self.continue_of(latent.features))

    def reward_of(self, features: Float[Array, "*B F"]) -> TwoHot:
        """The reward part of `decode` alone: imagination never draws observations."""
        return TwoHot(self.reward(features))

    def continue_of(self, features: Float[Array, "*B F"]) -> Bernoulli:
        """The continue part of `decode` alone."""
        return Bernoulli(self.continue_(features)[..., 0])

    def information_of(
        self, features: Float[Array, "*B F"], action: Float[Array, "*B A"]
    ) -> Float[Array, "*B"]:
        """Nats that seeing where an action leads would tell about the simulator; see `Ensemble`. 0
        where nobody guesses; leading axes are free."""
        if self.ensemble is None:
            return jnp.zeros(features.shape[:-1], jnp.float32)
        return self.ensemble.information(features, boxed(action))

    def redrawn(self, latent: Latent, *, key: PRNGKeyArray) -> Latent:
        """The same state with another draw of the code that the last observation left uncertain."""
        code = self.level.code(latent.logits).sample(key).astype(latent.code.dtype)
        return dataclasses.replace(latent, code=code)

    def seen(self, obs: Shaped[Array, "..."]) -> Float[Array, "..."] | None:
        """The observation as latents carry it; leading axes are free."""
        return coordinates(obs, self.angles) if self.carried else None


def chained(
    step: Callable[..., Any],
    start: Any,
    actions: Float[Array, "H A"] | Callable[..., Float[Array, " A"]],
    length: int | None = None,
    *,
    key: PRNGKeyArray,
) -> Imagined:
    """`step(state, action, key=)` after step, under given actions or a policy `(state, key)`."""
    if callable(actions):
        assert length is not None, "imagining with a policy needs a length"
        policy, given = actions, None
    else:
        policy, given, length = None, actions, len(actions)

    def once(state, inputs):
        step_key, action = inputs
        if policy is not None:
            act_key, step_key = jr.split(step_key)
            action = policy(state, act_key)
        following = step(state, action, key=step_key)
        return following, (following, action)

    _, (states, taken) = jax.lax.scan(once, start, (jr.split(key, length), given))
    path = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states)
    return Imagined(path, taken)
