"""What the levels above the lowest learn from, each by itself; nothing of it reaches level 0."""

import dataclasses
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dreamer_h.config import Config
from dreamer_h.nn.distributions import OneHot, Symlog, symexp
from dreamer_h.nn.recurrent import frugal
from dreamer_h.types import Latent, Sequence
from dreamer_h.world.hierarchy import Followed, Hierarchy
from dreamer_h.world.jump import Jump, Outlook
from dreamer_h.world.losses import posterior_losses, rollout_losses

PATHS = 2  # own jumps from one start, judged together: see losses.rollout_losses

stop = jax.lax.stop_gradient
Losses = dict[str, Float[Array, "..."]]


def scales(config: Config) -> dict[str, float]:
    """The weight of each loss of the upper levels, and of what they ask of those below them."""
    chosen, found = config.jump, {"arrive": 1.0}
    for level in range(1, config.levels):
        weights = {name: 1.0 for name in ("obs", "code", "reward", "continue", "duration")}
        weights |= {"dyn": chosen.dyn_scale, "rep": chosen.rep_scale}
        if chosen.selffed:
            weights["selffed"] = chosen.selffed_scale
        if _reanchors(config) and level + 1 < config.levels:
            weights["reanchor"] = chosen.selffed_scale
        if chosen.distil_scale:
            weights["distil"] = chosen.distil_scale
        found |= {f"level{level}/{name}": weight for name, weight in weights.items()}
    return found


def hierarchy_losses(
    world: Hierarchy,
    sequence: Sequence,
    other: Float[Array, "T A"],
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Losses, Latent, Losses]:
    """Losses of one window, level 0's latents (T+1, ...), and what the log shows.

    Those of level 0 are a single level's, in segments, and from where the level above would let it
    begin; each upper level adds its own. `other` are the actions of another window, for what a
    level can teach the one above about actions that were not taken. `update` moves the curriculum.
    """
    follow_key, blind_key, rollout_key, *keys = jr.split(key, 3 + len(world.jumps))
    steps = len(sequence.action)
    sequence = _stayed(sequence)
    blind = tuple(
        jr.bernoulli(jr.fold_in(blind_key, i), config.jump.macro, (steps // jump.stride,))
        for i, jump in enumerate(world.jumps)
    )
    found = world.follow(sequence, jr.split(follow_key, steps + 1), blind)
    latent = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:1], rest]), found.ground_starts, found.ground
    )
    losses, metrics = posterior_losses(
        world.base, sequence, latent,
        horizon=config.behaviour.horizon, free_nats=config.world.free_nats,
    )  # fmt: skip

    above = None
    for i in reversed(range(len(world.jumps))):
        one, above = _level_losses(
            world, i, sequence, other, found, above, config, update=update, key=keys[i]
        )
        losses |= {f"level{i + 1}/{name}": loss for name, loss in one.items()}
        level = world.jumps[i].level
        prior = level.code(level.prior_logits(found.arrivals[i].deter))
        metrics[f"kl/{i + 1}"] = level.code(found.arrivals[i].logits).kl(prior)
    losses |= _ground_losses(world, sequence, found, above, config, rollout_key)
    return losses, latent, metrics


def _stayed(sequence: Sequence) -> Sequence:
    """An episode that is over stays where it ended and does nothing; jumps reach beyond that."""
    wide = sequence.mask.reshape(-1, *[1] * (sequence.obs.ndim - 1))
    last = sequence.obs[jnp.maximum(sequence.mask.sum() - 1, 0)]
    return dataclasses.replace(
        sequence,
        obs=jnp.where(wide, sequence.obs, last),
        action=jnp.where(sequence.mask[1:, None], sequence.action, 0.0),
    )


def _reanchors(config: Config) -> bool:
    """Whether levels are taught from where the one above would let them begin."""
    return bool(config.jump.selffed > 1 and config.jump.reanchor)


class Own(eqx.Module):
    """Where own jumps of a level led: latents (P, N, ...) before jumps `places` of the window."""

    latent: Latent
    places: tuple[int, ...] = eqx.field(static=True)


def _ground_losses(
    world: Hierarchy,
    sequence: Sequence,
    found: Followed,
    above: Own | None,
    config: Config,
    key: PRNGKeyArray,
) -> Losses:
    """Own rollouts of level 0 from real anchors and from predicted ones, and where they arrive."""
    chosen, stride = config.world, world.strides[0]
    begins = np.arange(len(found.codes[0]))
    ends = jax.tree.map(lambda leaf: leaf[None, stride - 1 :: stride], found.ground)
    losses = {}
    if chosen.selffed:
        start_key, rollout_key = jr.split(key)
        starts = _spread(found.ground_starts, chosen.selffed_paths)
        if above is not None:
            starts = _exchanged(world, starts, above, config, start_key)
        own, paths = rollout_losses(
            world.base, sequence, starts, begins * stride, stride, key=rollout_key
        )
        losses = {
            f"selffed/{name}": jnp.pad(loss.reshape(-1), (1, 0)) for name, loss in own.items()
        }
        ends = jax.tree.map(lambda leaf: leaf[:, :, -1], paths)
    moments = (begins + 1) * stride
    reached = world.base.level.code(world.arrived(ends))
    away = _target(world, found.logits[moments]).kl(reached).mean(0)
    return losses | {"arrive": jnp.where(sequence.mask[moments], away, 0.0)}


def _exchanged(
    world: Hierarchy, starts: Latent, above: Own, config: Config, key: PRNGKeyArray
) -> Latent:
    """Starts of level 0, (P, N, ...), a share of them where level 1 would let it begin."""
    paths = len(starts.deter)
    predicted = world.ground_at(above.latent)
    predicted = jax.tree.map(lambda leaf: leaf[np.arange(paths) % len(leaf)], predicted)
    chosen = jr.bernoulli(key, config.jump.reanchor, (len(above.places),))
    places = np.asarray(above.places)

    def exchanged(real, guess):
        mask = chosen.reshape(1, -1, *[1] * (real.ndim - 2))
        return real.at[:, places].set(jnp.where(mask, guess, real[:, places]))

    return jax.tree.map(exchanged, starts, predicted)


def _level_losses(
    world: Hierarchy,
    i: int,
    sequence: Sequence,
    other: Float[Array, "T A"],
    found: Followed,
    above: Own | None,
    config: Config,
    *,
    update: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Losses, Own | None]:
    """Losses of level i + 1, one value a jump where it can be, and where its own jumps led.

    `above` is the latter of the level above it, if there is one.
    """
    jump, chosen = world.jumps[i], config.jump
    own_key, reanchor_key, distil_key = jr.split(key, 3)
    starts, arrivals = found.starts[i], found.arrivals[i]
    count = len(found.codes[i])
    ends = np.arange(1, count + 1) * jump.stride
    going = Going.of(sequence, ends, jump.stride, config.behaviour.horizon)

    outlook = jump.outlook(dataclasses.replace(arrivals, obs=starts.obs))
    prior = jump.level.code(jump.level.prior_logits(arrivals.deter))
    posterior = jump.level.code(arrivals.logits)
    losses = outlook_losses(world, sequence, found, outlook, going, ends)
    # the anchors' codes are held near what can be told of them; that moves `see` alone
    embedding = stop(found.embedding)
    before = jnp.concatenate([jnp.zeros_like(embedding[:1]), embedding[:-1]])
    code = world.base.level.code(world.seen_code(embedding[ends], before[ends]))
    held = jnp.maximum(chosen.free_nats, code.kl(stop(outlook.code)))
    losses["code"] += chosen.rep_scale * jnp.where(going.anchored, held, 0.0)
    kls = {"dyn": stop(posterior).kl(prior), "rep": posterior.kl(stop(prior))}
    for name, kl in kls.items():
        losses[name] = jnp.where(going.anchored, jnp.maximum(chosen.free_nats, kl), 0.0)

    own = None
    if chosen.selffed:
        length = min(chosen.selffed, count)
        begins = np.arange(count // length) * length
        first = _spread(stop(jax.tree.map(lambda leaf: leaf[begins], starts)), PATHS)
        loss, path = own_jumps(
            world, i, sequence, found, first, begins, length, config, key=own_key
        )
        ramp = length * update / max(chosen.selffed_warmup, 1) - jnp.arange(length)
        losses["selffed"] = loss * jnp.clip(ramp, jnp.arange(length) == 0, 1)
        if _reanchors(config):
            # the last of them leads to the end of its group, from where the next one is taught
            flat = lambda leaf: stop(leaf[:, :, :-1].reshape(len(leaf), -1, *leaf.shape[3:]))
            places = (begins[:, None] + np.arange(1, length)).reshape(-1)
            own = Own(jax.tree.map(flat, path), tuple(places.tolist()))
    if above is not None:
        ratio = world.strides[i + 1] // jump.stride
        memory = world.jumps[i + 1].below(above.latent)
        first = jax.vmap(jax.vmap(jump.begin))(cast(Array, above.latent.obs), memory)
        places = np.asarray(above.places) * ratio
        losses["reanchor"], _ = own_jumps(
            world, i, sequence, found, first, places, ratio, config, key=reanchor_key
        )
    if chosen.distil_scale:
        taught = going.anchored & (update >= chosen.distil_warmup)
        away = _distilled(world, i, other, stop(starts), distil_key)
        losses["distil"] = jnp.where(taught, away, 0.0)
    return losses, own


class Going(eqx.Module):
    """What really happened on jumps, of whatever shape."""

    anchored: Bool[Array, "*M"]  # both ends were seen
    way: Bool[Array, "*M"]  # all of it was seen, or how it ended
    reward: Float[Array, "*M"]  # discounted sum
    continue_: Float[Array, "*M"]  # product
    ended: Bool[Array, "*M"]  # by a termination
    duration: Int[Array, "*M"]  # index of the step that ended it

    @classmethod
    def of(cls, sequence: Sequence, ends: np.ndarray, stride: int, horizon: float) -> "Going":
        """Of jumps that end at the moments `ends`."""
        moments = ends[..., None] - stride + 1 + np.arange(stride)
        mask, terminal = sequence.mask[moments], sequence.is_terminal[moments]
        begun = sequence.mask[ends - stride] & ~sequence.is_terminal[ends - stride]
        ended = (terminal & mask).any(-1)
        alive = jnp.where(terminal, 0.0, 1.0 - 1.0 / horizon)
        before = jnp.concatenate([jnp.ones_like(alive[..., :1]), alive[..., :-1]], axis=-1)
        reward = jnp.where(mask, sequence.reward[moments], 0.0)
        return cls(
            anchored=begun & mask[..., -1],
            way=begun & (mask[..., -1] | ended),
            reward=(jnp.cumprod(before, axis=-1) * reward).sum(-1),
            continue_=jnp.prod(alive, axis=-1),
            ended=begun & ended,
            duration=jnp.argmax(terminal, axis=-1),
        )


def outlook_losses(
    world: Hierarchy,
    sequence: Sequence,
    found: Followed,
    outlook: Outlook,
    going: Going,
    ends: np.ndarray,
) -> Losses:
    """Nats of what was foreseen of jumps that end at the moments `ends` (*M); 0 where nothing was
    seen. Several paths in front, (P, *M), are judged together."""
    lead = outlook.continue_.logit.shape
    several = len(lead) > np.ndim(ends)
    spread = lambda value: jnp.broadcast_to(value, lead)
    log_probs = jax.nn.log_softmax(outlook.duration)
    index = spread(going.duration)[..., None]
    told = {
        "code": _target(world, found.logits[ends]).kl(outlook.code),
        "reward": outlook.reward.loss(spread(going.reward)),
        "continue": outlook.continue_.loss(spread(going.continue_)),
        "duration": -jnp.take_along_axis(log_probs, index, axis=-1)[..., 0],
    }
    if several:
        told = {name: loss.mean(0) for name, loss in told.items()}
    told["obs"] = jnp.zeros_like(told["code"])
    if outlook.obs is not None:
        judge = outlook.obs.ensemble_loss if several else outlook.obs.loss
        told["obs"] = judge(sequence.obs[ends])
    where = {"reward": going.way, "continue": going.way, "duration": going.ended}
    return {name: jnp.where(where.get(name, going.anchored), x, 0.0) for name, x in told.items()}


def own_jumps(
    world: Hierarchy,
    i: int,
    sequence: Sequence,
    found: Followed,
    first: Latent,
    begins: np.ndarray,
    length: int,
    config: Config,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "N J"], Latent]:
    """Losses of J jumps in a row on own predictions, from starts (P, N, ...), and the paths
    (P, N, J, ...). `begins` (N,) are the jumps of the window that the starts stand before."""
    jump = world.jumps[i]
    places = begins[:, None] + np.arange(length)
    ends = (places + 1) * jump.stride

    def along(latent, known, key):
        def step(latent, inputs):
            latent, outlook = jump.foresee(latent, inputs[0], key=inputs[1])
            return latent, (latent, outlook)

        return jax.lax.scan(frugal(step), latent, (known, jr.split(key, length)))[1]

    side_by_side = jax.vmap(jax.vmap(along), in_axes=(0, None, 0))
    keys = jr.split(key, (len(first.deter), len(begins)))
    path, outlook = side_by_side(first, found.codes[i][places], keys)
    going = Going.of(sequence, ends, jump.stride, config.behaviour.horizon)
    losses = outlook_losses(world, sequence, found, _unstacked(outlook, jump), going, ends)
    return sum(losses.values(), jnp.float32(0.0)), path


def _distilled(
    world: Hierarchy, i: int, other: Float[Array, "T A"], starts: Latent, key: PRNGKeyArray
) -> Float[Array, " M"]:
    """Nats of single jumps under other actions, against where the level below gets by them."""
    jump, count = world.jumps[i], len(starts.deter)
    teacher_key, *keys = jr.split(key, 1 + PATHS)
    actions = other.reshape(count, jump.stride, -1)
    filled = world.fill(starts, i, other, teacher_key)
    end = stop(jax.tree.map(lambda leaf: leaf[jump.stride - 1 :: jump.stride], filled))
    code = _target(world, world.arrived(end))
    known = jax.vmap(jump.chunk.of)(actions, cast(Array, starts.obs))
    leap = lambda latent, known, key: jump.foresee(latent, known, key=key)[1]
    paths = jax.vmap(jax.vmap(leap), in_axes=(None, None, 0))
    outlook = _unstacked(paths(starts, known, jnp.stack([jr.split(k, count) for k in keys])), jump)
    loss = code.kl(outlook.code).mean(0)
    if outlook.obs is not None and end.obs is not None:
        loss += outlook.obs.ensemble_loss(symexp(end.obs))
    return loss


def _unstacked(outlook: Outlook, jump: Jump) -> Outlook:
    """The deviations of a stack of outlooks are all the same: one stands for all."""
    if outlook.obs is None:
        return outlook
    return dataclasses.replace(outlook, obs=Symlog(outlook.obs.output, jump.scale))


def _spread(latent: Latent, paths: int) -> Latent:
    """The same (N, ...) for several paths (P, N, ...)."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (paths, *leaf.shape)), latent)


def _target(world: Hierarchy, logits: Float[Array, "*B G C"]) -> OneHot:
    """The codes of anchors, as something to predict: nothing moves them."""
    return world.base.level.code(stop(logits))
