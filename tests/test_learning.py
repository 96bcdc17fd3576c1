"""The whole of it learns: what is known of a probe is found, and a real task is begun."""

from functools import partial

import numpy as np
import pytest
import toy

import envs
from dreamer_h.config import (
    BehaviourConfig,
    Config,
    OptimizerConfig,
    ReplayConfig,
    WorldConfig,
)
from dreamer_h.train import loop
from dreamer_h.train.act import act, init_memory
from dreamer_h.train.evaluate import play_held_out
from dreamer_h.train.loop import Trainer
from dreamer_h.train.seeds import Stream, derive
from dreamer_h.train.state import Agent
from envs.foreign import ForeignEnv
from envs.probe import Ending, Name, Probe

HORIZON = 10.0  # agent steps: beyond a truncation of 5 steps there is as much again
PROBES = Config(
    task="probe",
    action_repeat=1,
    steps=900,
    envs=1,
    prefill=100,
    eval_every=0,
    eval_episodes=1,
    checkpoint_every=10_000,
    log_every=200,
    replay=ReplayConfig(capacity=1_000, batch=16, length=5, ratio=80.0),  # an update each step
    world=WorldConfig(
        deter=32, hidden=32, units=32, groups=4, classes=4, blocks=1, bins=63, free_nats=0.1
    ),
    behaviour=BehaviourConfig(
        units=32, layers=1, bins=63, imagine_length=5, horizon=HORIZON, gradient="dynamics"
    ),
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup=50),
)


def judged(agent: Agent, probe: Probe, episodes: int = 8) -> tuple[np.ndarray, ...]:
    """(value, known value, action, known action) at every step, following the mode."""
    found, memory = [], init_memory(agent, 1, 1)
    for seed in range(episodes):
        obs, ended, first = probe.reset(seed=seed)[0], False, True
        while not ended:
            memory, action = act(
                agent, memory, obs[None].copy(), np.array([first]), np.array([False]),
                np.int32(len(found)), seed=0,
            )  # fmt: skip
            value = agent.behaviour.value(memory.latent.features).mean
            chosen = np.asarray(action)[0]
            known = probe.optimal_value(1 - 1 / HORIZON), probe.optimal_action()[0]
            found.append((float(value[0]), known[0], float(chosen[0]), known[1]))
            obs, _, terminated, truncated, _ = probe.step(chosen)
            ended, first = terminated or truncated, False
    return tuple(np.asarray(found).T)


def learned(logdir, name: Name, ending: Ending) -> tuple[np.ndarray, ...]:
    make = lambda render_mode=None: ForeignEnv(Probe(name, ending=ending), action_repeat=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_update", toy.shared_update)
        trainer = toy.finish(Trainer(PROBES, logdir, make))
    return judged(trainer.state.agent, Probe(name, ending=ending))


ENDS = [("constant", "terminate"), ("constant", "truncate"), ("observation", "terminate"),
        ("observation", "truncate"), ("delayed", "terminate")]  # fmt: skip


@pytest.mark.parametrize("name, ending", ENDS)
def test_the_critic_finds_the_value_that_is_known(tmp_path, name, ending):
    value, known, _, _ = learned(tmp_path, name, ending)
    print(np.round(np.stack([value, known])[:, :20], 2))
    # a twentieth of the largest value, and 0.1 for the noise of the codes
    assert abs(value - known).max() < 0.05 * abs(known).max() + 0.1


@pytest.mark.parametrize("ending", ["terminate", "truncate"])
def test_the_policy_finds_the_action_that_pays(tmp_path, ending):
    value, known, action, best = learned(tmp_path, "action", ending)
    print(np.round(np.stack([value, known, action, best])[:, :20], 2))
    assert abs(action - best).max() < 0.15  # a random one is 0.6 away on average
    # its draws scatter by 0.1 at least around the mode, which costs a tenth of the reward
    assert ((0.7 * known < value) & (value < 1.05 * known)).all()


@pytest.mark.slow
def test_the_policy_remembers_the_cue(tmp_path):
    value, known, action, best = learned(tmp_path, "cue", "terminate")
    print(np.round(np.stack([value, known, action, best])[:, :20], 2))
    assert abs(action - best)[::5].max() < 0.2


# Numbers of the preset cpu, apart from those that make a short run shorter.
SHORT = Config(
    task="cartpole-balance",
    steps=4_000,
    envs=1,
    prefill=500,
    eval_every=0,
    eval_episodes=3,
    checkpoint_every=10_000,
    log_every=1_000,
    replay=ReplayConfig(capacity=50_000, batch=16, length=16, ratio=128.0),
    world=WorldConfig(deter=128, hidden=64, units=64, groups=16, classes=8, blocks=1, bins=63),
    behaviour=BehaviourConfig(
        units=64, layers=2, bins=63, imagine_length=8, gradient="dynamics", entropy=3e-3
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup=100),
)


def random_return(make_env, seeds: list[int]) -> float:
    env, totals = make_env(), []
    for seed in seeds:
        rng, total, ended = np.random.default_rng(seed), 0.0, False
        env.reset(seed=seed)
        while not ended:
            _, reward, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 1))
            total += reward
            ended = terminated or truncated
        totals.append(total)
    env.close()
    return float(np.mean(totals))


def test_a_short_run_balances_the_pole(tmp_path):
    make_env = partial(envs.make, SHORT.task, action_repeat=SHORT.action_repeat)
    trainer = toy.finish(Trainer(SHORT, tmp_path, make_env))
    episodes, _ = play_held_out(trainer.state.agent, SHORT, make_env, 5)
    random = random_return(make_env, [derive(SHORT.seed, Stream.TEST, 0, i) for i in range(5)])
    sampled = np.mean([episode.total for episode in episodes if episode.sampled])
    print(f"random {random:.0f}, sampled {sampled:.0f}")
    assert sampled > random + 150
