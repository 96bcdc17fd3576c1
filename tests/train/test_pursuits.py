"""What is kept of real segments, against a plain loop."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import toy

from dreamer_h.behaviour.hierarchical import anchors_of
from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.replay.ring import Ring
from dreamer_h.train import pursuits
from dreamer_h.train.collect import Collector
from dreamer_h.train.state import Agent, init_agent
from dreamer_h.types import Observed

K, LENGTH = 2, 7
CONFIG = Config(
    levels=2, strides=str(K), behaviour=tiny.BEHAVIOUR,
    world=dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True),
    jump=JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8),
    replay=ReplayConfig(batch=2, length=8),
)  # fmt: skip


@pytest.fixture(scope="module")
def agent() -> Agent:
    return tiny.weights(lambda: init_agent(Observed((5,), jnp.float32), 1, CONFIG))


def collector_of(agent: Agent) -> Collector:
    envs = [toy.Toy(length=LENGTH), toy.Toy(length=LENGTH + 2)]
    ring = Ring(1000, (5,), np.dtype(np.float32), 1)
    return Collector(envs, ring, agent, seed=0, failures=3)


def log_of(collector: Collector) -> pursuits.PursuitLog:
    assert collector.pursuits is not None
    return collector.pursuits


def steps(collector: Collector, agent: Agent, count: int):
    """Yields what each agent step set out with, and how long each episode was then."""
    for _ in range(count):
        action = collector.action(agent)
        lengths, memory = collector.lengths.copy(), collector.memory
        collector.step(action)
        yield lengths, np.asarray(anchors_of(memory.latent)), np.asarray(memory.intent)


def test_whole_segments_are_kept_with_their_subgoals(agent):
    collector, wanted, begun = collector_of(agent), [], {}
    assert not log_of(collector).sample(np.random.default_rng(0)).real.any()
    for lengths, place, goal in steps(collector, agent, 25):
        for i, passed in enumerate(lengths):
            if passed % K == 0:
                if passed:
                    wanted.append([*begun[i], place[i]])
                begun[i] = place[i], goal[i]
    log = log_of(collector)
    assert log.count == len(wanted) > 10
    np.testing.assert_array_equal(log.kept[: log.count], wanted)
    found = log.sample(np.random.default_rng(0))
    assert found.real.all()
    rows = {row.tobytes() for row in np.asarray(wanted)}
    assert {row.tobytes() for row in np.stack([found.start, found.goal, found.reached], 1)} <= rows


def test_old_ones_make_room(agent, monkeypatch):
    monkeypatch.setattr(pursuits, "KEPT", 4)
    collector = collector_of(agent)
    goals = [goal for _, _, goal in steps(collector, agent, 25)]
    log = log_of(collector)
    assert log.count > 8 and len(log.kept) == 4
    early = np.concatenate(goals[:10])
    assert not any((early == kept).all(-1).any() for kept in log.kept[:, 1])


def test_a_lost_episode_loses_its_segment(agent):
    collector = collector_of(agent)
    breaks = lambda episode, step: "raises" if (episode, step) == (0, 4) else None
    collector.envs[0] = toy.Toy(breaks)
    with pytest.warns(UserWarning, match="lost its episode"):
        goals = [goal for _, _, goal in steps(collector, agent, 7)]
    log = log_of(collector)
    kept = {goal.tobytes() for goal in log.kept[: log.count, 1]}
    assert [goals[t][0].tobytes() in kept for t in (0, 2, 4)] == [True, False, True]


def test_a_resumed_log_goes_on_with_the_segments_under_way(agent):
    collector, other = collector_of(agent), collector_of(agent)
    list(steps(collector, agent, 6))
    log_of(other).restore(log_of(collector).state())
    other.memory = collector.memory
    for log in (log_of(collector), log_of(other)):
        log.note(collector.memory)
    np.testing.assert_array_equal(log_of(collector).kept, log_of(other).kept)
    assert log_of(collector).count == log_of(other).count
