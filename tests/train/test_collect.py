import numpy as np
import pytest
import tiny
import toy
from scipy.stats import kstest

from dreamer_h.replay.ring import Ring
from dreamer_h.train.collect import Collector
from dreamer_h.train.state import init_agent

EPISODES, STEPS = 40, 25


@pytest.fixture(scope="module")
def agent():
    return tiny.weights(lambda: init_agent(tiny.STATE, 1, tiny.config()))


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_random_actions_are_uniform_and_lean_on_the_one_before(agent, correlation):
    envs = [toy.Toy(length=STEPS) for _ in range(EPISODES)]
    ring = Ring(10_000, (5,), np.dtype(np.float32), 1)
    collector = Collector(envs, ring, agent, seed=0, failures=1, correlation=correlation)
    actions = []
    for _ in range(2 * STEPS):
        actions.append(collector.action(None)[:, 0])
        collector.step(actions[-1][:, None])
    actions = np.stack(actions)  # two episodes of 40 environments
    for t in (0, STEPS - 1, STEPS, 2 * STEPS - 1):
        assert kstest(actions[t], "uniform", (-1, 2)).pvalue > 1e-3
    within = np.concatenate([actions[:STEPS], actions[STEPS:]], axis=1)
    found = np.corrcoef(within[:-1].ravel(), within[1:].ravel())[0, 1]
    # of two normals' quantiles
    assert abs(found - 6 / np.pi * np.arcsin(correlation / 2)) < 0.08
    across = np.corrcoef(actions[STEPS - 1], actions[STEPS])[0, 1]
    assert abs(across) < 0.5  # a new episode starts afresh; 3 deviations of 40 pairs
