"""What a jump knows of the actions that it covers: a causal code, so that every prefix has one."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamer_h.nn import fsq
from dreamer_h.nn.layers import MLP, Linear
from dreamer_h.nn.recurrent import boxed

MACRO = 8  # dimensions of the macro code

Form = Literal["actions", "anchored", "flat"]


class Chunk(eqx.Module):
    """U numbers from the actions of one jump: `begin`, `step` for each action, `code`.

    `actions` is a recurrence over the actions alone, so all jumps of a path are read side by side;
    `anchored` one that starts from the anchor, so it must wait for it; `flat` is the simplest
    thing, an MLP on all actions at once.
    """

    cell: eqx.nn.GRUCell | None
    first: Linear | None  # anchor -> the state that an anchored recurrence starts in
    mlp: MLP | None
    form: Form = eqx.field(static=True)
    stride: int = eqx.field(static=True)  # agent steps of a jump
    action: int = eqx.field(static=True)
    units: int = eqx.field(static=True)  # U

    def __init__(
        self, anchor: int, action: int, stride: int, units: int, form: Form, *, key: PRNGKeyArray
    ):
        self.form, self.stride, self.action, self.units = form, stride, action, units
        key, first_key = jr.split(key)
        flat = form == "flat"
        self.cell = None if flat else eqx.nn.GRUCell(action + 1, units, key=key)
        self.first = Linear(anchor, units, key=first_key) if form == "anchored" else None
        self.mlp = MLP(stride * action + 1, units, 2, key=key) if flat else None

    def begin(self, anchor: Float[Array, " V"]) -> Float[Array, " state"]:
        """Before the first action."""
        if self.first is not None:
            return jnp.tanh(self.first(anchor)).astype(jnp.float32)
        width = self.units if self.mlp is None else self.stride * self.action + 1
        return jnp.zeros(width, jnp.float32)

    def step(
        self, state: Float[Array, " state"], action: Float[Array, " A"], phase: Int[Array, ""]
    ) -> Float[Array, " state"]:
        """After one more action, the `phase`-th of the jump, counted from 0."""
        action, clock = boxed(action), ((phase + 1.0) / self.stride)[None]
        if self.cell is None:
            rows = state[:-1].reshape(self.stride, self.action).at[phase].set(action)
            return jnp.concatenate([rows.reshape(-1), clock])
        dtype = self.cell.weight_hh.dtype
        told = jnp.concatenate([action, clock]).astype(dtype)
        return self.cell(told, state.astype(dtype)).astype(jnp.float32)

    def code(self, state: Float[Array, " state"]) -> Float[Array, " U"]:
        """What is known of the actions so far."""
        return state if self.mlp is None else self.mlp(state).astype(jnp.float32)

    def of(self, actions: Float[Array, "K A"], anchor: Float[Array, " V"]) -> Float[Array, " U"]:
        """What is known of all actions of a jump."""
        return self.code(self.read(actions, anchor)[-1])

    def read(
        self, actions: Float[Array, "K A"], anchor: Float[Array, " V"]
    ) -> Float[Array, "K state"]:
        """The states after each action of a whole jump."""

        def step(state, inputs):
            state = self.step(state, *inputs)
            return state, state

        inputs = (actions, jnp.arange(len(actions)))
        return jax.lax.scan(step, self.begin(anchor), inputs)[1]


class Macro(eqx.Module):
    """A jump's actions as one of 5^8 codes, and back to what a jump wants to know.

    From the actions and the start alone, never from the outcome: whoever chooses a code can have
    actions for it.
    """

    inside: Linear
    outside: MLP
    output: Linear

    def __init__(self, units: int, anchor: int, *, key: PRNGKeyArray):
        in_key, out_key, end_key = jr.split(key, 3)
        self.inside = Linear(units + anchor, MACRO, key=in_key)
        self.outside = MLP(MACRO + anchor, units, 1, key=out_key)
        self.output = Linear(units, units, key=end_key)

    def encode(
        self, code: Float[Array, "*B U"], anchor: Float[Array, "*B V"]
    ) -> Float[Array, "*B M"]:
        """The macro code, M = 8 numbers of 5 values each."""
        return fsq.quantised(self.inside(jnp.concatenate([code, anchor], axis=-1)))

    def decode(
        self, macro: Float[Array, "*B M"], anchor: Float[Array, "*B V"]
    ) -> Float[Array, "*B U"]:
        """What stands for the actions where only the macro code is known."""
        hidden = self.outside(jnp.concatenate([macro, anchor], axis=-1))
        return jnp.tanh(self.output(hidden)).astype(jnp.float32)
