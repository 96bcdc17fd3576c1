"""What a run looks at now and then: real returns, the exploitation gap, error per horizon."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from dreamer_h.config import Config
from dreamer_h.horizon.levels.crossover import Crossover
from dreamer_h.horizon.recorded.layout import fields_of, names_of
from dreamer_h.horizon.trust.calibrate import NO_LIMIT
from dreamer_h.replay.ring import Ring
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.train.evaluation import choices, fidelity
from dreamer_h.train.evaluation.evaluate import Episode, play
from dreamer_h.train.evaluation.openloop import CONTEXT, open_loop
from dreamer_h.train.evaluation.openloop_figure import picture
from dreamer_h.train.evaluation.report import report
from dreamer_h.train.evaluation.subgoal_film import subgoal_film
from dreamer_h.train.logger import Counts, Logger
from dreamer_h.train.seeds import Stream, derive
from dreamer_h.train.state import Agent
from dreamer_h.world.upper.hierarchy import AnyWorld, Hierarchy

SHOWN = 128  # agent steps of the open-loop picture and of the film of subgoals


class Evaluator:
    """Evaluates agents in environments of its own, made at the first call, and logs what it sees.

    `env` is a training environment: its layout names the entries of an observation.
    """

    def __init__(
        self, config: Config, env: gym.Env, make_env: Callable[..., gym.Env], logger: Logger
    ):
        self.config, self.make_env, self.logger = config, make_env, logger
        self.envs: list[gym.Env] = []
        self.episodes: list[Episode] = []  # of the last call
        self.accurate = 0.0  # agent steps, at the last call; 0 where nothing could be said
        self.dt = float(getattr(env.unwrapped, "dt", 1.0))
        self.fields = fields_of(env)

    def __call__(self, agent: Agent, ring: Ring, counts: Counts) -> list[dict[str, Any]]:
        """Plays the evaluation episodes, logs them, and returns their rows for results."""
        config = self.config
        count = config.eval_episodes
        if not self.envs:
            self.envs = [self.make_env() for _ in range(2 * count)]
        sampled = [False] * count + [True] * count
        seeds = [
            derive(config.seed, Stream.EVALUATE, counts.env_step, i % count)
            for i in range(2 * count)
        ]
        self.episodes = episodes = play(agent, self.envs, seeds, sampled, seed=config.seed)
        chosen = choices.choices(agent, episodes)
        found = report(
            agent, self.envs[0], episodes, chosen, config, counts.env_step,
            (episode.obs for episode in ring.finished()),
        )  # fmt: skip
        scalars = {f"eval/{row['what']}": row["value"] for row in found}
        if len(ring.obs_shape) == 1:  # deviations of pixels say little
            curves = fidelity.measure(agent.world, episodes, ring.finished(), self.fields)
            self.accurate = 0.0
            if curves is not None:
                measured = fidelity.scalars(curves)
                self.accurate = measured.get("horizon/trusted", 0.0)
                scalars |= measured
                self.logger.figure(counts, "horizon/curve", fidelity.picture(curves, self.dt))
        self.logger.scalars(counts, scalars)
        if chosen is not None:
            self.logger.figure(counts, "eval/macro_actions", choices.picture(chosen))
        if episodes:
            names = names_of(self.fields)
            film = None
            if config.video:  # costs seconds
                film = subgoal_film(agent, episodes[0].first(SHOWN), names, self.dt)
            if film is not None:
                self.logger.video(counts, "eval/subgoals", film[::2], 0.5 / self.dt)
            shown = min(SHOWN, len(episodes[-1].action))
            shown -= shown % 16 if shown > 16 else 0  # each length would be another program
            context = min(CONTEXT, max(1, shown // 2))
            loop = open_loop(
                agent.world, episodes[-1], names, self.dt, context=context, length=shown - context
            )
            self.logger.figure(counts, "world/open_loop", picture(loop))
        return found

    def crossovers(self, world: AnyWorld, ring: Ring, counts: Counts) -> list[Crossover]:
        """Those of the levels of a simulator, on the last evaluation's episodes; logged."""
        if not isinstance(world, Hierarchy) or len(ring.obs_shape) > 1:
            return []
        found = fidelity.crossovers(world, self.episodes, ring.finished(), self.fields)
        self.logger.scalars(counts, {
            f"horizon/crossover/level{one.level}": one.steps
            for one in found if one.steps is not None
        })  # fmt: skip
        return found

    def trust(
        self, world: AnyWorld, ring: Ring, counts: Counts
    ) -> tuple[Calibration, list[float]] | None:
        """Radii of a simulator on the last evaluation's episodes, and the doubt along a path up to
        which each level that policies learn in is relied upon; logged. None where nothing can be
        said."""
        if len(ring.obs_shape) > 1:
            return None
        asked = self.config.behaviour.trust_horizon
        tolerance = asked or fidelity.TOLERANCE
        found = fidelity.measured_trust(
            world, self.episodes, ring.finished(), self.fields, tolerance
        )
        if found is None:
            if asked and counts.env_step:
                warnings.warn(
                    f"at {counts.env_step} env steps evaluation episodes are too few or too short "
                    "to measure the trusted horizon: the limit in force stays; more "
                    "--eval_episodes may say more",
                    stacklevel=2,
                )
            return None
        self.logger.scalars(counts, {
            f"horizon/relied_doubt/level{level}": limit
            for level, limit in enumerate(found[1]) if limit < NO_LIMIT
        })  # fmt: skip
        return found

    def close(self) -> None:
        for env in self.envs:
            env.close()
