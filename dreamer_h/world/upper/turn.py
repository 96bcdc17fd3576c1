"""How the levels above the lowest turn from one jump to the next, one agent step at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dreamer_h.types import Latent, Stack, either
from dreamer_h.world.upper.jump import anchor_vector
from dreamer_h.world.upper.levels import Levels


def full(steps: Int[Array, "*B"], stride: int) -> Bool[Array, "*B"]:
    """Whether a jump of this stride ends after so many observations, counting steps of a stack."""
    return (steps > 1) & ((steps - 1) % stride == 0)


def fresh(
    levels: Levels,
    stack: Stack,
    here: Float[Array, "G C"],
    obs: Float[Array, " X"] | None,
    key: PRNGKeyArray,
) -> Stack:
    """The levels above at an episode's first observation, of which `here` are the logits of the
    anchor's code and `obs` is what latents carry."""
    anchor_key = jr.split(key, 1 + len(levels.jumps))[0]
    vector = jax.lax.stop_gradient(anchor_vector(levels.drawn(here, anchor_key), obs))
    above: list[Latent] = []
    for jump in reversed(levels.jumps):
        memory = None if not above else levels.jumps[-len(above)].below(above[0])
        above.insert(0, jump.begin(vector, memory))
    chunks = tuple(jump.chunk.begin(vector) for jump in levels.jumps)
    return dataclasses.replace(stack, above=tuple(above), chunks=chunks)


def turned(levels: Levels, stack: Stack, key: PRNGKeyArray) -> Stack:
    """Ends the jumps that are full, and begins new ones where they end.

    A level below a full jump begins with its memory.
    """
    anchor_key, *keys = jr.split(key, 1 + len(levels.jumps))
    code = levels.drawn(stack.here, anchor_key)
    vector = jax.lax.stop_gradient(anchor_vector(code, stack.ground.obs))
    ended = [full(stack.steps, stride) for stride in levels.strides]
    closed = [  # what each level makes of its jump if that ends here
        jump.observe(latent, jump.chunk.code(chunk), vector, key=key)
        for jump, latent, chunk, key in zip(
            levels.jumps, stack.above, stack.chunks, keys, strict=True
        )
    ]
    above = [either(e, new, old) for e, new, old in zip(ended, closed, stack.above, strict=True)]
    for i in reversed(range(len(levels.jumps) - 1)):
        begun = levels.jumps[i].begin(vector, levels.jumps[i + 1].below(above[i + 1]))
        above[i] = either(ended[i + 1], begun, above[i])
    chunks = tuple(
        jnp.where(e, jump.chunk.begin(vector), old)
        for e, jump, old in zip(ended, levels.jumps, stack.chunks, strict=True)
    )
    return dataclasses.replace(stack, above=tuple(above), chunks=chunks)


def gone_on(levels: Levels, stack: Stack, action: Float[Array, " A"]) -> Stack:
    """The levels above take note of an action."""
    chunks = tuple(
        jump.chunk.step(chunk, action, (stack.steps - 1) % jump.stride)
        for jump, chunk in zip(levels.jumps, stack.chunks, strict=True)
    )
    return dataclasses.replace(stack, chunks=chunks)


def standing(levels: Levels, stack: Stack, key: PRNGKeyArray) -> list[Latent]:
    """Each level on an anchor drawn here, as `Hierarchy.standing` says."""
    anchor_key = jr.split(key, 1 + len(levels.jumps))[0]
    vector = anchor_vector(levels.drawn(stack.here, anchor_key), stack.ground.obs)
    first = fresh(levels, stack, stack.here, stack.ground.obs, key).above
    later = turned(levels, stack, key).above
    return [
        either(
            stack.steps == 1,
            begun,
            either(full(stack.steps, jump.stride), on, jump.begin(vector)),
        )
        for jump, begun, on in zip(levels.jumps, first, later, strict=True)
    ]
