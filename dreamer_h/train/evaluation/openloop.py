"""Open loop: what a simulator says from a context on, beside what happened."""

from collections.abc import Sequence as Names
from dataclasses import dataclass
from functools import partial
from typing import cast

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Shaped

from dreamer_h.behaviour.inside import Behaviour, followed
from dreamer_h.nn.coordinates import going_on, nearest
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.types import Latent, Waypoints, context_of
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

CONTEXT = 16  # agent steps that the simulator sees before it goes on alone
SAMPLES = 8


@dataclass(frozen=True)
class Marks:
    """Waypoints of one level, in `steps` (N+1,) agent steps from the context's end."""

    level: int
    steps: np.ndarray
    obs: np.ndarray  # (S, N+1, ...) decoded


@dataclass(frozen=True)
class OpenLoop:
    """T agent steps of an episode, and S samples of the last H of them, in physical units."""

    obs: np.ndarray  # (T+1, ...)
    reward: np.ndarray  # (T+1,), 0 at the episode's start
    action: np.ndarray  # (S, H, A) that the simulator was asked about
    imagined: np.ndarray  # (S, H+1, ...), from the context's end on
    imagined_reward: np.ndarray  # (S, H+1)
    marks: tuple[Marks, ...]
    names: tuple[str, ...]  # of the observation's entries
    dt: float  # seconds per agent step

    @property
    def context(self) -> int:
        """Agent steps that were seen."""
        return len(self.obs) - self.imagined.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """For an npz file."""
        found = {
            name: getattr(self, name)
            for name in ("obs", "reward", "action", "imagined", "imagined_reward")
        }
        for mark in self.marks:
            found[f"level{mark.level}/steps"] = mark.steps
            found[f"level{mark.level}/obs"] = mark.obs
        return found | {"names": np.array(self.names), "dt": np.array(self.dt)}


def open_loop(
    world: AnyWorld,
    episode: Episode,
    names: Names[str],
    dt: float,
    *,
    length: int,
    context: int = CONTEXT,
    behaviour: Behaviour | None = None,
    crossovers: tuple[int | None, ...] = (),
    samples: int = SAMPLES,
    seed: int = 0,
) -> OpenLoop:
    """Imagines `length` agent steps after `context`, under the episode's actions or, given a
    behaviour, under its policy. `crossovers` are those of `Hierarchy.imagine`.

    Raises ValueError where the episode is shorter than that.
    """
    total = context + length
    if total > len(episode.action):
        raise ValueError(
            f"the episode has {len(episode.action)} agent steps; {context} of context and {length} "
            f"imagined need {total}"
        )
    found = _predict(
        world, behaviour, episode.obs[: context + 1], episode.action[:total], crossovers,
        samples, key=jr.key(seed),
    )  # fmt: skip
    action, obs, reward, points, seen = jax.tree.map(np.asarray, found)
    marks = tuple(
        Marks(point.level, point.steps, at) for point, at in zip(points, seen, strict=True)
    )
    return OpenLoop(
        obs=episode.obs[: total + 1],
        reward=episode.reward[: total + 1],
        action=action,
        imagined=obs,
        imagined_reward=reward,
        marks=marks,
        names=tuple(names),
        dt=dt,
    )


@partial(jax.jit, static_argnames=("crossovers", "samples"))
def _predict(
    world: AnyWorld,
    behaviour: Behaviour | None,
    obs: Shaped[Array, "C1 ..."],
    action: Float[Array, "T A"],
    crossovers: tuple[int | None, ...],
    samples: int,
    *,
    key: Array,
) -> tuple[
    Float[Array, "S H A"],
    Float[Array, "S H1 ..."],
    Float[Array, "S H1"],
    tuple[Waypoints, ...],
    tuple[Float[Array, "S N1 ..."], ...],
]:
    """Actions, decoded observations and rewards, and waypoints, from the context's end on."""
    context = len(obs) - 1
    sequence = context_of(obs, action[:context])
    given = action[context:]

    def sample(key):
        start_key, imagine_key = jr.split(key)
        latent = jax.tree.map(lambda leaf: leaf[-1], world.start(sequence, key=start_key))
        if behaviour is not None:
            imagined, _ = followed(world, behaviour, latent, len(given), key=imagine_key)
        elif isinstance(world, Hierarchy):
            imagined = world.imagine(latent, given, key=imagine_key, crossovers=crossovers)
        else:
            imagined = world.imagine(latent, given, key=imagine_key)
        prediction = world.decode(cast(Latent, imagined.latent))
        path = going_on(prediction.obs.mean, obs[context], world.angles)
        seen = ()
        if isinstance(world, Hierarchy):
            seen = tuple(
                nearest(world.decode_waypoints(p).obs.mean, path[p.steps], world.angles)
                for p in imagined.waypoints
            )
        return (
            imagined.action,
            path,
            prediction.reward.mean,
            imagined.waypoints,
            seen,
        )

    return jax.vmap(sample)(jr.split(key, samples))
