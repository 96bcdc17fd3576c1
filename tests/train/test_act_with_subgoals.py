"""Acting with a manager, in environments whose clocks differ, against a plain loop."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.train.act import act, init_memory
from dreamer_h.train.state import Agent, init_agent

K, STEPS, SEED = 2, 8, 7
WORLD = dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True)
CONFIG = Config(
    levels=2, strides=str(K), world=WORLD, behaviour=tiny.BEHAVIOUR,
    jump=JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8),
    replay=ReplayConfig(batch=2, length=8),
)  # fmt: skip
FIRST = np.zeros((STEPS, 2), bool)
FIRST[0] = True
FIRST[3, 1] = True  # in the middle of a segment
SAMPLE = np.array([True, False])


@pytest.fixture(scope="module")
def agent() -> Agent:
    return tiny.weights(lambda: init_agent(tiny.STATE, tiny.ACTION, CONFIG))


@pytest.fixture(scope="module")
def obs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(STEPS, 2, tiny.OBS)).astype(np.float32)


@pytest.fixture(scope="module")
def acted(agent, obs):
    memory, found = init_memory(agent, 2, tiny.ACTION), []
    for t in range(STEPS):
        memory, action = act(agent, memory, obs[t], FIRST[t], SAMPLE, np.int32(t), seed=SEED)
        found.append((np.asarray(memory.intent), np.asarray(action)))
    return found


def test_each_environment_has_a_clock_of_its_own(acted):
    intents = np.stack([intent for intent, _ in acted])
    new = np.any(intents[1:] != intents[:-1], axis=-1)
    assert [1 + t for t in np.flatnonzero(new[:, 0])] == [2, 4, 6]
    assert [1 + t for t in np.flatnonzero(new[:, 1])] == [2, 3, 5, 7]


@pytest.mark.parametrize("i", [0, 1])
def test_acting_is_the_plain_loop_of_one_environment(agent, obs, acted, i):
    world, behaviour = agent.world, agent.behaviour
    observe = jax.jit(lambda *inputs, key: world.observe(*inputs, key=key))
    intend = jax.jit(lambda *inputs, key: behaviour.intend(world, *inputs, key=key))
    stack, action = world.initial(), jnp.zeros(tiny.ACTION)
    intent = behaviour.no_intent(world)
    for t in range(STEPS):
        keys = jr.split(jr.fold_in(jr.key(SEED), t))
        if FIRST[t, i]:
            stack, action = world.initial(), jnp.zeros(tiny.ACTION)
        stack = observe(stack, action, obs[t, i], key=jr.split(keys[0], 2)[i])
        intent = intend(
            stack, intent, jnp.bool_(SAMPLE[i]), key=jr.split(jr.fold_in(keys[1], 1), 2)[i]
        )
        chex.assert_trees_all_close(intent, acted[t][0][i], atol=1e-5)
        policy = behaviour.acting(stack, intent)
        noise = jr.normal(keys[1], (2, tiny.ACTION))[i]
        action = jnp.clip(policy.draw(noise) if SAMPLE[i] else policy.mode, -1.0, 1.0)
        chex.assert_trees_all_close(action, acted[t][1][i], atol=1e-5)
