"""The probe environments have the values that they claim."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.probe import ENDINGS, NAMES, Probe

GAMMA = 0.9


@pytest.mark.parametrize("name, ending", list(product(NAMES, ENDINGS)))
@pytest.mark.filterwarnings("ignore:.*spec")
def test_check_env(name, ending):
    check_env(Probe(name, ending=ending), skip_render_check=True)


@pytest.mark.parametrize("name, length", list(product(NAMES, (1, 2, 5))))
def test_the_optimal_return_has_the_claimed_value(name, length):
    def mean_error(episodes: int) -> float:
        env, errors = Probe(name, length=length), []
        for seed in range(episodes):
            env.reset(seed=seed)
            claimed, total = env.optimal_value(GAMMA), 0.0
            for t in range(length):
                _, reward, terminated, truncated, _ = env.step(env.optimal_action())
                total += GAMMA**t * reward
                assert (terminated, truncated) == (t == length - 1, False)
            errors.append(total - claimed)
        return float(np.mean(errors))

    if name == "observation":  # later signals average out: 500 episodes, sd < 2, four sigma
        assert abs(mean_error(500)) < 0.36
    else:
        assert abs(mean_error(4)) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_every_later_state_agrees_with_bellman(name):
    env = Probe(name, length=4)
    env.reset(seed=0)
    for _ in range(4):
        value = env.optimal_value(GAMMA)
        reward = env.step(env.optimal_action())[1]
        # the value after an `observation` step is that of the signal drawn: 0 on average
        after = 0.0 if name == "observation" else env.optimal_value(GAMMA)
        assert value == pytest.approx(reward + GAMMA * after, abs=1e-12)


def test_beyond_a_truncation_the_reward_goes_on():
    env = Probe("constant", ending="truncate", length=3)
    env.reset(seed=0)
    assert env.optimal_value(GAMMA) == pytest.approx(10.0)
    flags = [env.step(np.zeros(1))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    assert env.optimal_value(GAMMA) == pytest.approx(10.0)
    with pytest.raises(ValueError, match="terminate"):
        Probe("delayed", ending="truncate").optimal_value(GAMMA)


def test_the_cue_pays_for_the_first_action_only():
    env = Probe("cue", length=3)
    signal = env.reset(seed=0)[0][0]
    rewards = [env.step(np.array([a]))[1] for a in (-0.5 * signal, 0.9, -0.9)]
    assert rewards == [0.0, 0.0, 0.0]  # 1 - |-0.5 - 0.5|
    env.reset(seed=0)
    obs = env.step(env.optimal_action())[0]
    assert obs[0] == 0, "the cue is hidden after the first step"


def test_wrong_arguments_are_refused():
    wrong: Any = "wrong"
    with pytest.raises(ValueError, match="probe 'wrong'"):
        Probe(wrong)
    with pytest.raises(ValueError, match="ending 'wrong'"):
        Probe("cue", ending=wrong)
    with pytest.raises(ValueError, match="length 0"):
        Probe("cue", length=0)
