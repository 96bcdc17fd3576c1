"""Whether a worker gets where it is sent: in reality, in the simulator, and to places it knows.

Subgoals of the manager, reached in the real environment or not; the same ones tried in the
simulator from the same states; and oracle goals, where the episode really went, tried in both.
What fails with oracle goals is the worker; what fails only with the manager's are the goals.
"""

from collections.abc import Iterable
from typing import cast

import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.behaviour.hierarchical_losses import PRECISE
from dreamer_h.behaviour.manager import misjudged
from dreamer_h.behaviour.replayed import Replayed
from dreamer_h.behaviour.subgoal import distance, spread_over
from dreamer_h.behaviour.worker import Segment, attempt
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.evaluation.oracle import really_tried
from dreamer_h.train.state import Agent
from dreamer_h.types import Sequence
from dreamer_h.world.upper.hierarchy import Hierarchy

BINS = 10  # of predicted probabilities, for the calibration error
PUT_BACK = 2  # episodes whose moments the real environment is put back to


def attainment(
    agent: Agent,
    env: gym.Env,
    episodes: list[Episode],
    attained: float,
    replayed: Iterable[np.ndarray] = (),
) -> dict[str, float]:
    """Shares of segments whose subgoal was reached, and how well that was foretold.

    `attained` is the least distance that counts as reached, as `behaviour.attained`; `within` which
    it is, is told. Both are in units of what observations of the run's episodes (T, O) spread by,
    as while it learns: those `replayed`, or, of none, those that are judged. `env` is of the
    episodes' task, and left anywhere. Empty without a manager, or without a whole segment of a
    sampled episode; without `oracle_real` where the task cannot be put back.
    """
    behaviour = agent.behaviour
    if not isinstance(behaviour, ManagerWorker):
        return {}
    spread = None
    if cast(Hierarchy, agent.world).base.carried and episodes:
        angles = agent.world.angles
        spread = spread_over(list(replayed) or [episode.obs for episode in episodes], angles)
    found: dict[str, list[np.ndarray]] = {}
    for number, episode in enumerate(e for e in episodes if e.sampled and e.intent is not None):
        whole = episode.segments(behaviour.stride)
        if whole is None:
            continue
        assert episode.intent is not None
        sequence, count = whole
        goals = episode.intent[: count * behaviour.stride : behaviour.stride]
        padded = len(sequence.action) // behaviour.stride
        goals = np.pad(goals, [(0, padded - count), (0, 0)])
        tried_key, real_key = jr.split(jr.key(number))
        for name, values in _tried(agent, sequence, goals, spread, key=tried_key).items():
            found.setdefault(name, []).append(np.asarray(values)[:count])
        if episode.moments and number < PUT_BACK:
            tried = really_tried(agent, env, episode, spread, key=real_key)
            if len(tried):
                found.setdefault("oracle_real", []).append(tried)
    if not found:
        return {}
    arrays = {name: np.concatenate(values) for name, values in found.items()}
    told = arrays.pop("reliability")
    within = max(attained, float(np.quantile(arrays.pop("misjudged"), PRECISE)))
    reached = {name: values < within for name, values in arrays.items()}
    scalars = {f"attained/{name}": float(values.mean()) for name, values in reached.items()}
    return scalars | {
        "attained/within": within,
        "attained/foretold": float(told.mean()),
        "attained/brier": brier(told, reached["real"]),
        "attained/calibration_error": calibration_error(told, reached["real"]),
    }


@jax.jit
def _tried(
    agent: Agent,
    sequence: Sequence,
    goals: Float[Array, "N V"],
    spread: Float[Array, " X"] | None,
    *,
    key: Array,
) -> dict[str, Float[Array, " N"]]:
    """Distances at the ends of an episode's segments, and the probability foretold to each."""
    world, behaviour = agent.world, agent.behaviour
    assert isinstance(world, Hierarchy) and isinstance(behaviour, ManagerWorker)
    manager, worker, stride = behaviour.manager, behaviour.worker, behaviour.stride
    start_key, own_key, oracle_key, known_key = jr.split(key, 4)
    seen = world.start(sequence, key=start_key)
    end = jax.tree.map(lambda leaf: leaf[stride::stride], seen.ground)
    of_one = jax.tree.map(lambda leaf: leaf[None], (sequence, seen))
    segments = Replayed.of(world, *of_one)
    standing = segments.post.standing

    def after(goal, key):
        _, tried = attempt(
            world, worker, manager, Segment(segments.post, goal, segments.post.doubt), spread,
            goal_weight=jnp.float32(0.0), within=jnp.float32(0.0), gradient="reinforce",
            lambda_=1.0, key=key,
        )  # fmt: skip
        return tried.after

    return {
        "real": distance(world, end, goals, spread),
        "simulated": after(goals, own_key),
        "oracle_simulated": after(segments.reached, oracle_key),
        "misjudged": misjudged(
            world, standing, segments.did, segments.reached, spread, key=known_key
        ),
        "reliability": manager.reliability(cast(Array, standing.obs), goals).mean,
    }


def brier(told: np.ndarray, happened: np.ndarray) -> float:
    """Mean squared error of probabilities (N,) of what happened or did not (N,)."""
    return float(np.mean(np.square(told - happened)))


def calibration_error(told: np.ndarray, happened: np.ndarray) -> float:
    """Expected calibration error of probabilities (N,), in equal bins (Guo et al. 2017)."""
    place = np.minimum((told * BINS).astype(int), BINS - 1)
    total = 0.0
    for i in range(BINS):
        inside = place == i
        if inside.any():
            total += inside.mean() * abs(told[inside].mean() - happened[inside].mean())
    return float(total)
