"""Axes, and the records that cross the borders between rooms.

Axes: B batch, T agent steps of a window (T1 = T + 1 observations), H imagined agent steps
(H1 = H + 1), E environments, S samples, O observation, X its coordinates (`nn.coordinates`),
A action, D deterministic state, G groups x C classes of a code, F features.

Time: `obs[t]` is what the agent sees, `action[t]` is taken *from* `obs[t]`, and `reward[t]` and
`is_terminal[t]` belong to *arriving* at `obs[t]`. Truncation ends an episode and is not terminal.
Written here once; every room relies on it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Shaped

if TYPE_CHECKING:
    Leaf = Any
else:
    Leaf = Array | np.ndarray  # numpy from the replay, jax inside an update


T = TypeVar("T")


@dataclass(frozen=True)
class Observed:
    """What observations of a task are: an array of this shape and dtype, of whose entries `angles`
    (radians) are alike after each whole turn."""

    shape: tuple[int, ...]
    dtype: Any
    angles: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Observed":
        """What `as_json` wrote."""
        return cls(tuple(found["shape"]), np.dtype(found["dtype"]), tuple(found.get("angles", ())))

    def as_json(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "dtype": np.dtype(self.dtype).name,
            "angles": list(self.angles),
        }


class Sequence(eqx.Module):
    """A window of T+1 observations and the T actions between them, inside one episode.

    `mask[t]` is False in the padding behind an episode's end; padding repeats nothing and is zero.
    """

    obs: Shaped[Leaf, "..."]  # (*B, T1, *observation)
    action: Float[Leaf, "*B T A"]
    reward: Float[Leaf, "*B T1"]
    is_first: Bool[Leaf, "*B T1"]
    is_terminal: Bool[Leaf, "*B T1"]
    mask: Bool[Leaf, "*B T1"]


def context_of(obs: Shaped[Array, "T1 ..."], action: Float[Array, "T A"]) -> Sequence:
    """The window of an episode's beginning of which nothing but this was seen."""
    falses = jnp.zeros(len(obs), bool)
    return Sequence(
        obs=obs,
        action=action,
        reward=jnp.zeros(len(obs), jnp.float32),
        is_first=falses.at[0].set(True),
        is_terminal=falses,
        mask=~falses,
    )


def side_by_side(code: Float[Array, "*B G C"]) -> Float[Array, "*B GC"]:
    """A code as one vector; of no groups, an empty one."""
    *lead, groups, classes = code.shape
    return code.reshape(*lead, groups * classes)


def merged(tree: T) -> T:
    """Two leading axes of every array as one."""
    one = lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])
    return jax.tree.map(one, tree)


def either(mask: Bool[Array, "*N"], yes: T, no: T) -> T:
    """Along the leading axes N of the mask, of which there may be none: `yes` where it says so,
    `no` elsewhere."""
    wide = lambda leaf: mask.reshape(*mask.shape, *[1] * (leaf.ndim - mask.ndim))
    return jax.tree.map(lambda a, b: jnp.where(wide(b), a, b), yes, no)


class Latent(eqx.Module):
    """The simulator's state: a deterministic memory and a discrete code drawn from `logits`.

    With the residual path the observation goes along, in `nn.coordinates`: as it was seen, or as
    the simulator expects it.
    """

    deter: Float[Array, "*B D"]
    code: Float[Array, "*B G C"]  # one-hot, straight-through gradient
    logits: Float[Array, "*B G C"]  # of the distribution that the code was drawn from
    obs: Float[Array, "*B X"] | None = None

    @property
    def features(self) -> Float[Array, "*B F"]:
        """What heads and policies read, side by side: F = D + G C, or D + G C + X."""
        parts = [self.deter, side_by_side(self.code)]
        if self.obs is not None:
            parts.append(self.obs.astype(self.deter.dtype))
        return jnp.concatenate(parts, axis=-1)


class Stack(eqx.Module):
    """The state of a simulator with levels: a latent of each, and where each is in its jump.

    A segment ends and the next begins when the step *after* its last one is taken: until then the
    lowest level's memory of the way is kept, and heads and policies read it.
    """

    ground: Latent  # of level 0
    here: Float[Array, "*B G C"]  # logits of the code that an anchor at this moment would have
    above: tuple[Latent, ...]  # of levels 1, 2, …: where their jumps began; `obs` is the anchor
    chunks: tuple[Float[Array, "*B _"], ...]  # what they know of the actions since
    steps: Int32[Array, "*B"]  # observations and own steps since the episode began; 0 is none
    embedding: Float[Array, "*B E"] | None  # of the last image: two of them show velocity

    @property
    def features(self) -> Float[Array, "*B F"]:
        """What heads and policies read: those of level 0."""
        return self.ground.features

    @property
    def deter(self) -> Float[Array, "*B D"]:
        return self.ground.deter

    @property
    def code(self) -> Float[Array, "*B G C"]:
        return self.ground.code


class Pursuits(eqx.Module):
    """M segments that a worker was really sent through, as anchors (M, V)."""

    start: Float[Leaf, "M V"]
    goal: Float[Leaf, "M V"]  # where it was sent
    reached: Float[Leaf, "M V"]
    real: Bool[Leaf, " M"]  # False where there is none yet


class Imagined(eqx.Module):
    """H agent steps without observations. Index 0 is the start; `action[t]` leads to t+1."""

    latent: Latent | Stack  # (H+1, ...)
    action: Float[Array, "*B H A"]
    waypoints: "tuple[Waypoints, ...]" = ()  # of each level that jumped


class Waypoints(eqx.Module):
    """Where the jumps of a level led, the first of them being where it began."""

    latent: Latent  # (N+1, ...) of that level; `obs` are the anchors
    level: int = eqx.field(static=True)
    first: int = eqx.field(static=True)  # agent steps from the start of imagination
    stride: int = eqx.field(static=True)  # agent steps between two

    @property
    def steps(self) -> Int[np.ndarray, " N1"]:
        """Agent steps from the start of imagination, of each waypoint."""
        count = self.latent.deter.shape[-2]
        return self.first + self.stride * np.arange(count)


Moment = dict[str, np.ndarray]  # everything that the real future depends on; float64 and more


@runtime_checkable
class Physics(Protocol):
    """The real simulator, which can be restarted at any recorded moment, bit for bit."""

    def restore(self, moment: Moment) -> None:
        """Goes to a recorded moment."""
        ...

    def moment(self) -> Moment:
        """Where it is now; arrays of one task have the same shapes at every moment."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float]:
        """One agent step with an action (A,): the observation (O,) arrived at, and the reward."""
        ...

    def place(self) -> np.ndarray:
        """Positions and velocities, however the physics writes them."""
        ...

    def displacement(self, since: np.ndarray) -> np.ndarray:
        """(V,) from another place to here; V are the degrees of freedom and their velocities."""
        ...

    def nudge(self, by: np.ndarray) -> np.ndarray:
        """Displaces the state by (V,); the observation (O,) of it there."""
        ...


@runtime_checkable
class Policy(Protocol):
    """What chooses actions while episodes are recorded or imagined."""

    def begin(self, seed: int) -> None:
        """Starts an episode; everything random in it follows from `seed`."""
        ...

    def act(self, obs: np.ndarray) -> np.ndarray:
        """The action (A,) in [-1, 1] after seeing (O,)."""
        ...
