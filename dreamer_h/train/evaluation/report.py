"""All that an evaluation tells, as result rows: returns; what was promised and paid, and the gap;
of a manager whether its subgoals are reached, and what it chooses."""

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.config import Config
from dreamer_h.train.evaluation.attainment import attainment
from dreamer_h.train.evaluation.choices import Chosen
from dreamer_h.train.evaluation.evaluate import Episode, interval, rows
from dreamer_h.train.evaluation.gap import LENGTH, promised_and_paid
from dreamer_h.train.state import Agent

UNITS = {
    "attained/within": "replayed deviations",
    "manager/entropy": "nats",
    "manager/prior_nats": "nats",
    "manager/macro_perplexity": "values of a dimension",
}


def report(
    agent: Agent,
    env: gym.Env,
    episodes: list[Episode],
    chosen: Chosen | None,
    config: Config,
    env_step: int,
    replayed: Iterable[np.ndarray],
) -> list[dict[str, Any]]:
    """Rows of these episodes; `env` is of their task and left anywhere, `replayed` are the states
    of the run that subgoals are measured by (see `attainment`)."""
    where = {"task": config.task, "seed": config.seed, "x": env_step}
    found = rows(episodes, task=config.task, seed=config.seed, env_step=env_step)
    returns = promised_and_paid(agent, episodes, config.behaviour.horizon)
    sums = {f"return_{name}": values for name, values in returns.items()}
    sums |= {
        f"gap_{name}": values - returns["real"]
        for name, values in returns.items()
        if name != "real"
    }
    for name, values in sums.items():
        value, low, high = interval(values)
        unit = f"discounted return of {LENGTH} agent steps"
        found.append({"what": name, **where, "value": value, "lo": low, "hi": high, "unit": unit})
    shares = attainment(agent, env, episodes, config.behaviour.attained, replayed)
    for name, value in (shares | (chosen.scalars if chosen else {})).items():
        unit = UNITS.get(name, "share")
        found.append({"what": name, **where, "value": value, "lo": None, "hi": None, "unit": unit})
    return found
