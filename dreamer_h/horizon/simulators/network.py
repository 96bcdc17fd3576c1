"""Plain networks in observation space: what a world model without a latent state reaches.

x' = x + f(x, a), in training deviations; an ensemble is M of them side by side. `mlp` learns single
steps, `mlp_selffed` its own rollouts of eight (Talvitie 2017), `ensemble` five of the latter
(trajectory sampling with fixed members: Chua et al. 2018).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.simulator import Context, Forecast
from dreamer_h.horizon.simulators.budget import falling
from dreamer_h.nn.layers import MLP, Linear
from dreamer_h.replay.episode import Episode

UNITS, LAYERS = 512, 3
BATCH = 256
RATE = 1e-3  # at first: see budget.falling
BOUND = 10.0  # deviations that a rollout stays within


class Network(eqx.Module):
    """f for one observation of K numbers; angles enter as sine and cosine."""

    trunk: MLP
    output: Linear
    circular: tuple[bool, ...] = eqx.field(static=True)
    std: tuple[float, ...] = eqx.field(static=True)  # training deviations in physical units

    def __init__(self, scale: Scale, action: int, *, key: PRNGKeyArray):
        trunk_key, output_key = jr.split(key)
        self.circular, self.std = tuple(scale.circular.tolist()), tuple(scale.std.tolist())
        inputs = len(self.std) + int(scale.circular.sum()) + action
        self.trunk = MLP(inputs, UNITS, LAYERS, key=trunk_key)
        self.output = Linear(UNITS, len(self.std) + 1, key=output_key)

    def __call__(
        self, x: Float[Array, "*B K"], action: Float[Array, "*B A"]
    ) -> tuple[Float[Array, "*B K"], Float[Array, "*B"]]:
        """The next observation, in deviations, and the reward of arriving there."""
        turn, std = np.array(self.circular), np.array(self.std)
        angle = (x * std)[..., turn]
        inputs = jnp.concatenate([x[..., ~turn], jnp.sin(angle), jnp.cos(angle), action], axis=-1)
        out = self.output(self.trunk(inputs))
        following = jnp.clip(x + out[..., :-1], -BOUND, BOUND)
        following = jnp.where(turn, wrapped_in(following, 2 * np.pi / std), following)
        return following, out[..., -1]


@dataclass(frozen=True)
class NetworkSimulator:
    """`Simulator` of M networks; each of them is one sample, followed to the end."""

    network: Network  # leaves (M, ...)
    scale: Scale
    rest: np.ndarray  # (O,) what the entries without a scale always are

    @property
    def members(self) -> int:
        return len(self.network.output.bias)

    def start(self, context: Context, *, seed: int) -> np.ndarray:
        """(M, W, K) in deviations."""
        x = self.scale.deviations(context.obs[:, -1]).astype(np.float32)
        return np.tile(x, (self.members, 1, 1))

    def imagine(self, state: Any, action: np.ndarray, samples: int, *, seed: int) -> Forecast:
        x, reward = _rollout(self.network, state, jnp.asarray(action, jnp.float32))
        return Forecast(self.scale.physical(np.asarray(x), self.rest), np.asarray(reward))

    def step(self, state: Any, action: np.ndarray, *, seed: int):
        x, reward = _rollout(self.network, state, jnp.asarray(action[:, None], jnp.float32))
        state = np.asarray(x)[:, :, 0]
        obs = self.scale.centre(self.scale.physical(state, self.rest))
        return state, obs, np.asarray(reward)[:, :, 0].mean(axis=0)


@jax.jit
def _rollout(network, x, action):
    """(M, W, H, K) and (M, W, H) from (M, W, K) under (W, H, A)."""

    def member(network, x):
        def step(x, now):
            x, reward = network(x, now)
            return x, (x, reward)

        _, (path, reward) = jax.lax.scan(step, x, jnp.swapaxes(action, 0, 1))
        return jnp.swapaxes(path, 0, 1), jnp.swapaxes(reward, 0, 1)

    return jax.vmap(member)(network, x)


def blank(episodes: list[Episode], scale: Scale, members: int, *, seed: int) -> NetworkSimulator:
    """Networks that have learned nothing."""
    make = lambda key: Network(scale, episodes[0].action.shape[-1], key=key)
    network = eqx.filter_vmap(make)(jr.split(jr.key(seed), members))
    return NetworkSimulator(network, scale, episodes[0].obs[0].astype(np.float64))


def fit(
    episodes: list[Episode],
    scale: Scale,
    shares: Iterable[float],
    *,
    members: int,
    steps: int,
    seed: int,
) -> NetworkSimulator:
    """Trains `members` networks on their own rollouts of `steps` steps, each on its own draws."""
    simulator = blank(episodes, scale, members, seed=seed)
    # all episodes in one row: windows are cut by their place in it, and cross no episode
    x = np.concatenate([scale.deviations(e.obs).astype(np.float32) for e in episodes])
    reward = np.concatenate([e.reward for e in episodes])
    action = np.concatenate([np.concatenate([e.action, e.action[-1:]]) for e in episodes])
    ends = np.cumsum([len(e.obs) for e in episodes])
    starts = np.concatenate(
        [np.arange(end - len(e.obs), end - steps) for e, end in zip(episodes, ends, strict=True)]
    )
    unit = np.float32(max(reward.std(), 1e-3))
    network, moments = simulator.network, CHAIN.init(cast(optax.Params, simulator.network))
    rng = np.random.default_rng(seed)
    for share in shares:
        window = starts[rng.integers(len(starts), size=(members, BATCH))][..., None]
        window = window + np.arange(steps + 1)
        batch = x[window], action[window[..., :-1]], reward[window[..., 1:]] / unit
        rate = np.float32(RATE * falling(share))
        network, moments = _update(network, moments, batch, unit, rate)
    return NetworkSimulator(network, scale, simulator.rest)


CHAIN = optax.chain(optax.clip_by_global_norm(10.0), optax.scale_by_adam())


@partial(jax.jit, donate_argnums=(0, 1))
def _update(network, moments, batch, unit, rate):
    def loss(network):
        # members share nothing, so the gradient of the sum is that of each
        return jax.vmap(_rollout_loss, in_axes=(0, 0, None))(network, batch, unit).sum()

    steps, moments = CHAIN.update(jax.grad(loss)(network), moments)
    return jax.tree.map(lambda leaf, step: leaf - rate * step, network, steps), moments


def _rollout_loss(network: Network, batch: tuple, unit: Array) -> Float[Array, ""]:
    """Squared error along a member's own rollouts of (B, T+1, K), all steps alike."""
    path, action, reward = batch
    turn, std = np.array(network.circular), np.array(network.std)

    def step(x, inputs):
        now, truth, paid = inputs
        x, guess = network(x, now)
        away = jnp.where(turn, wrapped_in(x - truth, 2 * np.pi / std), x - truth)
        return x, jnp.square(away).mean() + jnp.square(guess / unit - paid).mean()

    inputs = (action.swapaxes(0, 1), path[:, 1:].swapaxes(0, 1), reward.swapaxes(0, 1))
    return jax.lax.scan(step, path[:, 0], inputs)[1].mean()


def wrapped_in(x: Float[Array, "*B K"], period: np.ndarray) -> Float[Array, "*B K"]:
    """The representative nearest to zero on circles of these circumferences."""
    return (x + period / 2) % period - period / 2
