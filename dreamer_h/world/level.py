"""One level of the simulator: a recurrent state-space model (RSSM, Hafner et al. 2019, 2025)."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from dreamer_h.nn.distributions import OneHot
from dreamer_h.nn.layers import MLP, JointBlock, Linear
from dreamer_h.nn.recurrent import BlockGRU, frugal
from dreamer_h.types import Latent, side_by_side

T = TypeVar("T")


class Level(eqx.Module):
    """Memory h and code z: h' = cell(h, z, a); prior p(z' | h'); posterior q(z' | h', embedding).

    With `carried` entries the latent's observation o goes along: h' = cell(h, [z, o], a). What is
    seen replaces it; after a step without eyes it is the old one, for the caller to bring up to
    date. Methods act on one sequence or one step; the batch is a `vmap` around them.
    """

    cell: BlockGRU
    posterior: JointBlock  # shares: memory, embedding
    posterior_output: Linear
    prior: MLP
    prior_output: Linear
    deter: int = eqx.field(static=True)
    groups: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    unimix: float = eqx.field(static=True)
    carried: int = eqx.field(static=True)  # coordinates X of the observation that goes along

    def __init__(
        self,
        embedding: int,
        action: int,
        *,
        deter: int,
        hidden: int,
        groups: int,
        classes: int,
        blocks: int,
        unimix: float,
        carried: int = 0,
        key: PRNGKeyArray,
    ):
        cell_key, post_key, post_out_key, prior_key, prior_out_key = jr.split(key, 5)
        code = groups * classes
        self.cell = BlockGRU(code + carried, action, deter, hidden, blocks, key=cell_key)
        self.posterior = JointBlock((deter, embedding), hidden, key=post_key)
        self.posterior_output = Linear(hidden, code, key=post_out_key)
        self.prior = MLP(deter, hidden, 2, key=prior_key)
        self.prior_output = Linear(hidden, code, key=prior_out_key)
        self.deter, self.groups, self.classes, self.unimix = deter, groups, classes, unimix
        self.carried = carried

    @property
    def dtype(self) -> jnp.dtype:
        return self.cell.hidden_embedding.dtype

    def initial(self) -> Latent:
        """The state before anything was seen: zeros."""
        code = jnp.zeros((self.groups, self.classes), self.dtype)
        seen = jnp.zeros(self.carried, jnp.float32) if self.carried else None
        return Latent(jnp.zeros(self.deter, self.dtype), code, code.astype(jnp.float32), seen)

    def code(self, logits: Float[Array, "*B G C"]) -> OneHot:
        """The distribution of the code, with its share of the uniform one."""
        return OneHot.from_logits(logits, self.unimix)

    def prior_logits(self, deter: Float[Array, "*B D"]) -> Float[Array, "*B G C"]:
        return self._shaped(self.prior_output(self.prior(deter)))

    def observe(
        self,
        latent: Latent,
        action: Float[Array, " A"],
        embedding: Float[Array, " E"],
        seen: Float[Array, " X"] | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Latent:
        """Posterior after one agent step: `action` led to what `embedding` shows.

        `seen` is the observation in `nn.coordinates`, where it is carried.
        """
        share = self.posterior.share(1, embedding)
        return self._observe(latent, self._embed(action), share, seen, key)

    def observe_sequence(
        self,
        action: Float[Array, "T A"],
        embedding: Float[Array, "T1 E"],
        is_first: Bool[Array, " T1"],
        seen: Float[Array, "T1 X"] | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Latent:
        """Posteriors (T1, ...) along a window, from the initial state; a first step forgets.

        `seen` are the observations in `nn.coordinates`, where they are carried.
        """
        # nothing led to the window's first observation: a zero action from the zero state
        action = jnp.pad(action, [(1, 0), (0, 0)])
        action = jnp.where(is_first[:, None], 0.0, action)
        keys = jr.split(key, len(is_first))
        return self.follow(self.initial(), action, embedding, seen, is_first, keys=keys)

    def follow(
        self,
        start: Latent,
        action: Float[Array, "T A"],
        embedding: Float[Array, "T E"],
        seen: Float[Array, "T X"] | None = None,
        is_first: Bool[Array, " T"] | None = None,
        *,
        keys: Key[Array, " T"],
    ) -> Latent:
        """Posteriors (T, ...) of T steps from `start` on: `action[t]` led to `embedding[t]`."""

        def step(latent, inputs):
            action_embedding, share, seen, first, step_key = inputs
            if first is not None:
                latent = forget(latent, first)
            latent = self._observe(latent, action_embedding, share, seen, step_key)
            return latent, latent

        inputs = (self._embed(action), self.posterior.share(1, embedding), seen, is_first, keys)
        return jax.lax.scan(frugal(step), start, inputs)[1]

    def step(self, latent: Latent, action: Float[Array, " A"], *, key: PRNGKeyArray) -> Latent:
        """Prior after one agent step: what will be, unseen."""
        deter = self._advance(latent, self._embed(action))
        return self._draw(deter, self.prior_logits(deter), latent.obs, key)

    def _embed(self, action):
        return self.cell.embed(action.astype(self.dtype))

    def _advance(self, latent, action_embedding):
        known = side_by_side(latent.code)
        if latent.obs is not None:
            known = jnp.concatenate([known, latent.obs.astype(self.dtype)], axis=-1)
        return self.cell(latent.deter, known, action_embedding)

    def _observe(self, latent, action_embedding, share, seen, key):
        deter = self._advance(latent, action_embedding)
        hidden = self.posterior(self.posterior.share(0, deter), share)
        return self._draw(deter, self._shaped(self.posterior_output(hidden)), seen, key)

    def _draw(self, deter, logits, obs, key):
        return Latent(deter, self.code(logits).sample(key).astype(self.dtype), logits, obs)

    def _shaped(self, logits):
        shape = (*logits.shape[:-1], self.groups, self.classes)
        return logits.reshape(shape).astype(jnp.float32)


def forget(latent: T, is_first: Bool[Array, "*B"]) -> T:
    """Zero where an episode begins, exactly: nothing of the past remains."""

    def mask(leaf):
        return jnp.where(
            is_first.reshape(is_first.shape + (1,) * (leaf.ndim - is_first.ndim)), 0, leaf
        )

    return jax.tree.map(mask, latent)
