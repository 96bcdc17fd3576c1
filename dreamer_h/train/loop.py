"""The training loop: collect, learn, evaluate, save; every decision is made by counts."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from dreamer_h.behaviour.paths import Paths
from dreamer_h.config import Config
from dreamer_h.fields import flatten
from dreamer_h.files import write_json
from dreamer_h.horizon.levels import crossover
from dreamer_h.horizon.levels.crossover import Crossover
from dreamer_h.replay import storage
from dreamer_h.replay.ring import Ring
from dreamer_h.replay.sampler import sample
from dreamer_h.simulated import calibration
from dreamer_h.simulated.calibration import Calibration
from dreamer_h.train.checkpoints.archive import read_manifest
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.collect import Collector, KeepsFailing, part_of
from dreamer_h.train.contract import check_episodes, episode_limit, observed, spaces_of
from dreamer_h.train.evaluation.evaluator import Evaluator
from dreamer_h.train.interrupt import Interrupt
from dreamer_h.train.logger import Counts, Logger
from dreamer_h.train.progress import progress
from dreamer_h.train.seeds import Stream, derive
from dreamer_h.train.state import init_state
from dreamer_h.train.tally import Tally
from dreamer_h.train.update import make_update
from dreamer_h.types import Observed

# Vector steps that one copy of the agent acts for. Acting lags behind learning by at most this,
# and so the updates run while the environments step.
REFRESH = 8

MakeEnv = Callable[..., gym.Env]  # (render_mode=None) -> environment


class NotFinite(RuntimeError):
    """So many updates in a row were skipped that learning has ended."""


class Trainer:
    """One run in one logdir: `run()` takes it to its end, `save()` keeps it.

    `make_env` makes one environment with the config's action repeat and observations. A logdir
    with checkpoints is resumed from the newest that is whole.
    """

    def __init__(self, config: Config, logdir: Path, make_env: MakeEnv):
        self.config, self.logdir, self.make_env = config, logdir, make_env
        self.envs = [make_env() for _ in range(config.envs)]
        space, actions = spaces_of(self.envs[0])
        check_episodes(config, episode_limit(self.envs[0]))
        self.checkpoints = Checkpoints(logdir / "checkpoints", config.checkpoint_keep)
        self.observed = self._observed()
        action_dim = int(np.prod(actions.shape))
        self.ring = Ring(config.replay.capacity, space.shape, space.dtype, action_dim)
        self.state = init_state(self.observed, action_dim, config)
        self.update = make_update(config)
        self.collector = Collector(
            self.envs,
            self.ring,
            self.state.acting,
            seed=config.seed,
            failures=config.failures,
            correlation=config.correlation,
        )
        self.windows = np.random.default_rng(derive(config.seed, Stream.REPLAY))
        self.logger = Logger(logdir)
        self.evaluator = Evaluator(config, self.envs[0], make_env, self.logger)
        self.agent_step = 0
        self.updates = 0
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.last_returns: dict[str, float] = {}
        self.crossovers: list[Crossover] = []  # of upper levels, once the run is done
        self.calibration: Calibration | None = None  # of level 0, at the last evaluation
        self.tally = Tally()
        self.restored = self._restore()
        text = "\n".join(f"| {name} | {value} |" for name, value in flatten(config).items())
        self.logger.text("config", f"| field | value |\n|---|---|\n{text}")

    @property
    def env_step(self) -> int:
        return self.agent_step * self.config.action_repeat

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    @property
    def counts(self) -> Counts:
        return Counts(self.env_step, self.agent_step, self.updates, round(self.seconds, 2))

    def run(self, interrupt: Interrupt) -> bool:
        """Trains to the budget; True if it got there, False if it was interrupted (and saved)."""
        config = self.config
        bar = progress(total=config.steps, initial=self.env_step, unit="env step", smoothing=0.05)
        agent, age = self._acting_agent(), 0
        # None on a fresh start: what is due at step 0 is due
        before = self.env_step if self.restored else -1
        try:
            while True:
                due = self._due(before)
                if due["log"]:
                    self._log(bar)
                if due["evaluate"]:
                    self.evaluate()
                if due["checkpoint"]:
                    self.save()
                    agent, age = self._acting_agent(), 0
                if self.env_step >= config.steps:
                    break
                # where the acting copy is made anew anyway: stopping changes nothing of the run
                if interrupt.requested and age in (0, REFRESH):
                    self.save()
                    return False
                if age == REFRESH:
                    agent, age = self._acting_agent(), 0
                before = self.env_step
                self._step(agent)
                age += 1
                bar.update(self.env_step - before)
            # last of all: these say that the run is done
            write_json(self.logdir / "rows.json", self.rows)
            return True
        except (KeepsFailing, NotFinite):
            self.save()  # the run cannot go on, but what was learned is kept
            raise
        finally:
            bar.close()
            self.logger.flush()

    def evaluate(self) -> None:
        """Evaluates the agent as it is, and keeps the rows for results."""
        agent = self.state.acting
        found = self.evaluator(agent, self.ring, self.counts)
        if self.env_step >= self.config.steps:
            self.crossovers = self.evaluator.crossovers(agent.world, self.ring, self.counts)
        measured = self.evaluator.trust(agent.world, self.ring, self.counts)
        self.calibration = measured and measured[0]
        if measured:  # else what was relied upon before is
            trusted = jnp.asarray(measured[1], jnp.float32)
            self.state = replace(self.state, trusted=trusted)
        self.state = replace(self.state, paths=self._paths())
        if found:
            minutes = {"what": "minutes", "value": self.seconds / 60, "lo": None, "hi": None}
            found.append({**found[0], **minutes, "unit": "minutes"})
        self.rows = [row for row in self.rows if row["x"] != self.env_step] + found
        self.last_returns = {
            row["what"].removeprefix("return_"): row["value"]
            for row in found
            if row["what"] in ("return_mode", "return_sampled")
        }

    def save(self) -> None:
        """Writes a checkpoint of everything; the newest `checkpoint_keep` and the best stay."""
        folder = self.logdir / "replay"
        arrays, collector = self.collector.state()
        arrays = {f"collector/{name}": value for name, value in arrays.items()}
        arrays |= {f"replay/{k}": v for k, v in storage.in_progress(self.ring).items()}
        unlogged, finished = self.tally.state()
        arrays |= {f"unlogged/{name}": values for name, values in unlogged.items()}
        manifest = {
            "config": flatten(self.config),
            "agent_step": self.agent_step,
            "updates": self.updates,
            "seconds": self.seconds,
            "replay": storage.save(self.ring, folder),
            "collector": collector,
            "windows": self.windows.bit_generator.state,
            "rows": self.rows,
            "crossovers": crossover.as_json(self.crossovers),
            "calibration": calibration.as_json(self.calibration),
            "finished_since_log": finished,
            "observation": self.observed.as_json(),
            "action": self.ring.action_dim,
        }
        scored = self.rows and self.rows[-1]["x"] == self.env_step
        score = self.last_returns.get("mode") if scored else None
        self.checkpoints.save(self.updates, self.state, arrays, manifest, score)
        kept = {episode["id"] for index in self._replay_indices() for episode in index["episodes"]}
        storage.prune(folder, kept)

    def close(self) -> None:
        """Closes environments and logs."""
        for env in self.envs:
            env.close()
        self.evaluator.close()
        self.logger.close()

    def _step(self, agent: Any) -> None:
        """One agent step in every environment, and the updates that it makes due."""
        config = self.config
        learning = self.agent_step >= config.prefill
        action = self.collector.action(agent if learning else None)
        if learning:
            due = config.updates_due(self.agent_step + config.envs - config.prefill)
            # while there is nothing to replay yet, updates wait
            while self.updates < due and self.ring.num_steps:
                batch = sample(
                    self.ring,
                    self.windows,
                    config.replay.batch,
                    config.replay.length,
                    config.replay.tick,
                )
                # returns at once: the update runs while the environments step
                pursuits = self.collector.pursuits
                pursued = None if pursuits is None else pursuits.sample(self.windows)
                self.state, metrics = self.update(self.state, batch, pursued)
                self.tally.updates.append(metrics)
                self.updates += 1
        self.tally.episodes += self.collector.step(action)
        self.tally.actions.append(np.asarray(action))
        self.agent_step += config.envs

    def _paths(self) -> Paths | None:
        """Imagined paths, which last as long as the simulator was accurate just now."""
        paths, chosen = self.state.paths, self.config.behaviour
        if paths is None or not chosen.path_longest:
            return paths
        length = float(np.clip(self.evaluator.accurate, chosen.path_length, chosen.path_longest))
        self.logger.scalars(self.counts, {"behaviour/path_length": length})
        return replace(paths, length=jnp.float32(length))

    def _acting_agent(self) -> Any:
        # A copy: the update donates the original while the copy still acts.
        return copied(self.state.acting)

    def _due(self, before: int) -> dict[str, bool]:
        def passed(every: int) -> bool:
            return every > 0 and self.env_step // every > before // every

        config, end = self.config, self.env_step >= self.config.steps
        fresh = before < self.env_step  # a resumed run has done this step's duties
        return {
            "log": fresh and self.env_step > 0 and (passed(config.log_every) or end),
            "evaluate": fresh and (passed(config.eval_every) or end),
            "checkpoint": fresh and self.env_step > 0 and (passed(config.checkpoint_every) or end),
        }

    def _log(self, bar: Any) -> None:
        config = self.config
        scalars, actions = self.tally.taken(config.log_every)
        if "collect/return" in scalars:
            self.last_returns["collect"] = scalars["collect/return"]
        scalars |= {
            "collect/faults": self.collector.faults,
            "replay/steps": self.ring.num_steps,
            "replay/episodes": self.ring.num_episodes,
            "replay/megabytes": self.ring.nbytes / 1e6,
            "train/updates_per_env_step": config.updates_per_env_step,
        }
        self.logger.scalars(self.counts, scalars)
        if actions is not None:
            self.logger.histogram(self.counts, "collect/action", actions)
            codes = np.asarray(self.collector.memory.latent.code).argmax(-1)
            self.logger.histogram(self.counts, "world/code", codes)
            self.logger.histogram(
                self.counts, "world/deter", np.asarray(self.collector.memory.latent.deter)
            )
        shown = {name: f"{value:.0f}" for name, value in self.last_returns.items()}
        rate = f"{scalars['speed/updates_per_second']:.1f}"
        bar.set_postfix(updates=self.updates, per_s=rate, **shown, refresh=False)
        row = scalars.get("train/skipped_in_a_row", 0)
        if row >= config.failures:
            raise NotFinite(
                f"{int(row)} updates in a row had a loss or gradient that is not finite; the state "
                "before them is saved: look at the data, or begin anew with a lower "
                "--optimizer.learning_rate and another --logdir"
            )

    def _observed(self) -> Observed:
        """What the run's observations are; it goes on with the angles that it began with."""
        found, manifest = observed(self.envs[0]), self.checkpoints.manifest()
        if manifest is None:
            return found
        return replace(found, angles=Observed.from_json(manifest["observation"]).angles)

    def _restore(self) -> bool:
        loaded = self.checkpoints.load_latest(self.state)
        if loaded is None:
            self.logger.resume_at(-1)
            return False
        self.state, arrays, manifest = loaded
        part = partial(part_of, arrays)
        self.ring = storage.load(self.logdir / "replay", manifest["replay"], part("replay/"))
        self.collector.ring = self.ring
        self.collector.restore(part("collector/"), manifest["collector"])
        self.windows.bit_generator.state = manifest["windows"]
        self.agent_step, self.updates = manifest["agent_step"], manifest["updates"]
        self.seconds_before, self.rows = manifest["seconds"], manifest["rows"]
        self.crossovers = crossover.from_json(manifest["crossovers"])
        self.calibration = calibration.from_json(manifest["calibration"])
        self.tally.restore(part("unlogged/"), manifest["finished_since_log"])
        self.logger.resume_at(self.agent_step)
        return True

    def _replay_indices(self) -> list[dict[str, Any]]:
        return [read_manifest(path)["replay"] for path in self.checkpoints.retained()]


@jax.jit
def copied(tree: Any) -> Any:
    """Fresh arrays with the same values, in one dispatch."""
    return jax.tree.map(jnp.copy, tree)
