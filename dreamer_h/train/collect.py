"""Collection: environments side by side feed the replay, and a broken episode is dropped."""

import warnings
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from dreamer_h.behaviour.hierarchical import ManagerWorker
from dreamer_h.guard import EnvironmentFault, checked_reset, checked_step
from dreamer_h.replay.ring import Ring
from dreamer_h.train.act import act, init_memory
from dreamer_h.train.pursuits import PursuitLog
from dreamer_h.train.seeds import Stream, derive
from dreamer_h.train.state import Agent


class KeepsFailing(RuntimeError):
    """So many episodes in a row were lost that going on is pointless; names the last fault."""


class Collector:
    """Steps E environments with the agent, or at random, and writes the ring.

    The noise of an action, drawn or random, has a `correlation` with that of the step before: what
    pushes for a while moves a body that white noise leaves where it is.

    An environment that raises, returns NaN or leaves its space loses its episode: dropped from the
    ring, counted, named in a warning. After `failures` lost episodes in a row, KeepsFailing.
    """

    def __init__(
        self,
        envs: list[gym.Env],
        ring: Ring,
        agent: Agent,
        *,
        seed: int,
        failures: int,
        correlation: float = 0.0,
    ):
        count, space = len(envs), envs[0].observation_space
        assert space.shape is not None and space.dtype is not None
        self.envs, self.ring, self.seed, self.failures = envs, ring, seed, failures
        self.correlation = correlation
        self.action_dim = int(np.prod(envs[0].action_space.shape or ()))
        self.memory = init_memory(agent, count, self.action_dim)
        self.pursuits: PursuitLog | None = None
        if isinstance(agent.behaviour, ManagerWorker):
            self.pursuits = PursuitLog(agent.behaviour, self.memory)
        self.obs = np.zeros((count, *space.shape), space.dtype)
        self.is_first = np.ones(count, bool)
        self.needs_reset = np.ones(count, bool)
        self.returns = np.zeros(count)
        self.lengths = np.zeros(count, np.int64)
        self.resets = np.zeros(count, np.int64)
        self.steps = 0  # of all environments together, side by side
        self.faults = 0
        self.faults_in_a_row = 0
        self.random = np.random.default_rng(derive(seed, Stream.PREFILL))
        self.noise = np.zeros((count, self.action_dim))

    def action(self, agent: Agent | None) -> Any:
        """The next actions (E, A), still on the device; random ones without an agent."""
        self._reset_finished()
        if agent is None:
            return self._random_action()
        self.memory, action = act(
            agent,
            self.memory,
            self.obs.copy(),
            self.is_first.copy(),
            np.ones(len(self.envs), bool),
            np.int32(self.steps),
            self.correlation,
            seed=derive(self.seed, Stream.ACT),
        )
        return action

    def step(self, action: Any) -> list[tuple[float, int]]:
        """One agent step in every environment; returns (return, length) of finished episodes."""
        action = np.asarray(action)
        if not np.all(np.isfinite(action)):
            raise KeepsFailing("the policy's action is not finite: its parameters are damaged")
        finished = []
        self.is_first[:] = False
        if self.pursuits is not None:
            self.pursuits.note(self.memory)
        for i, env in enumerate(self.envs):
            try:
                obs, reward, terminated, truncated = checked_step(
                    env, action[i].reshape(env.action_space.shape or ())
                )
            except EnvironmentFault as fault:
                self._lose(i, fault)
                continue
            last = terminated or truncated
            self.ring.append(i, action[i], reward, obs, terminated, last)
            self.obs[i] = obs
            self.returns[i] += reward
            self.lengths[i] += 1
            if last:
                finished.append((float(self.returns[i]), int(self.lengths[i])))
                self.needs_reset[i] = True
                self.faults_in_a_row = 0
        self.steps += 1
        return finished

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All that resuming needs, beside the ring: named arrays, and JSON-able counts."""
        leaves = jax.tree.leaves(self.memory)
        arrays = {f"memory/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        arrays |= {
            "obs": self.obs,
            "is_first": self.is_first,
            "needs_reset": self.needs_reset,
            "returns": self.returns,
            "lengths": self.lengths,
            "resets": self.resets,
            "noise": self.noise,
        }
        if self.pursuits is not None:
            arrays |= {f"pursuits/{name}": kept for name, kept in self.pursuits.state().items()}
        for i, env in enumerate(self.envs):
            if hasattr(env.unwrapped, "get_state"):
                states: dict[str, np.ndarray] = env.unwrapped.get_state()  # type: ignore[attr-defined]
                arrays |= {f"env{i}/{name}": value for name, value in states.items()}
        counts = {
            "steps": self.steps,
            "faults": self.faults,
            "faults_in_a_row": self.faults_in_a_row,
            "random": self.random.bit_generator.state,
        }
        return arrays, counts

    def restore(self, arrays: dict[str, np.ndarray], counts: dict[str, Any]) -> None:
        """Takes back what `state` gave. An environment without `set_state` starts a new episode."""
        leaves, treedef = jax.tree.flatten(self.memory)
        stored = [jnp.asarray(arrays[f"memory/{i}"]) for i in range(len(leaves))]
        self.memory = jax.tree.unflatten(treedef, stored)
        for name in ("obs", "is_first", "needs_reset", "returns", "lengths", "resets", "noise"):
            setattr(self, name, arrays[name].copy())
        self.steps, self.faults = counts["steps"], counts["faults"]
        self.faults_in_a_row = counts["faults_in_a_row"]
        self.random.bit_generator.state = counts["random"]
        if self.pursuits is not None:
            self.pursuits.restore(part_of(arrays, "pursuits/"))
        for i, env in enumerate(self.envs):
            state = part_of(arrays, f"env{i}/")
            if state:
                env.unwrapped.set_state(state)  # type: ignore[attr-defined]
            else:
                # its episode ends here; what was seen of it stays
                episode = self.ring.unfinished().get(i)
                self.ring.drop(i)
                if episode is not None and len(episode):
                    self.ring.add(episode)
                self.needs_reset[i] = True

    def _random_action(self) -> np.ndarray:
        share = np.where(self.is_first, 0.0, self.correlation)[:, None]
        fresh = self.random.normal(size=self.noise.shape)
        # stays standard normal, so that its quantiles stay uniform
        self.noise = share * self.noise + np.sqrt(1.0 - share**2) * fresh
        return (2.0 * ndtr(self.noise) - 1.0).astype(np.float32)

    def _reset_finished(self) -> None:
        for i, env in enumerate(self.envs):
            while self.needs_reset[i]:
                seed = derive(self.seed, Stream.COLLECT, i, int(self.resets[i]))
                self.resets[i] += 1
                try:
                    self.obs[i] = checked_reset(env, seed)
                except EnvironmentFault as fault:
                    self._lose(i, fault)
                    continue
                self.ring.begin(i, self.obs[i])
                self.is_first[i], self.needs_reset[i] = True, False
                self.returns[i], self.lengths[i] = 0.0, 0

    def _lose(self, i: int, fault: EnvironmentFault) -> None:
        self.ring.drop(i)
        self.needs_reset[i] = True
        self.faults += 1
        self.faults_in_a_row += 1
        message = f"environment {i} lost its episode: {fault}"
        warnings.warn(message, stacklevel=2)
        if self.faults_in_a_row >= self.failures:
            self.faults_in_a_row = 0  # resumed, the environment has all its chances again
            raise KeepsFailing(
                f"{self.failures} episodes in a row were lost, the last one because {fault} "
                f"(environment {i}); mend the environment and run the same command again"
            )


def part_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Those whose names begin so, without that."""
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
