"""Mode B: a policy acts inside the simulator, and what it did is repeated in reality.

The simulator is so judged where the policy takes it, not where the recorded actions went.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dreamer_h.horizon.metrics import errors
from dreamer_h.horizon.scale import Scale
from dreamer_h.horizon.simulator import Context, Forecast, Simulator
from dreamer_h.horizon.statistics import STATISTICS, interval, mean, resamples
from dreamer_h.horizon.windows import Windows
from dreamer_h.types import Physics, Policy


def imagined_episodes(
    simulator: Simulator, make_policy: Callable[[], Policy], windows: Windows, *, seed: int
) -> tuple[Forecast, np.ndarray]:
    """The policy's way from every window's start, and its actions (W, H, A).

    Every window has a policy of its own, which begins there with an empty memory.
    """
    policies = [make_policy() for _ in range(len(windows))]
    for number, policy in enumerate(policies):
        policy.begin(seed + number)
    state = simulator.start(Context(windows.context_obs, windows.context_action), seed=seed)
    now, taken, seen, paid = windows.context_obs[:, -1], [], [], []
    for t in range(windows.horizon):
        pairs = zip(policies, now, strict=True)
        action = np.stack([policy.act(obs.astype(np.float32)) for policy, obs in pairs])
        state, now, reward = simulator.step(state, action, seed=seed + 1 + t)
        taken.append(action)
        seen.append(now)
        paid.append(reward)
    forecast = Forecast(np.stack(seen, axis=1)[None], np.stack(paid, axis=1)[None])
    return forecast, np.stack(taken, axis=1)


def repeated(physics: Physics, windows: Windows, action: np.ndarray) -> Windows:
    """The windows as they would have gone under these actions."""
    obs, reward = np.empty_like(windows.future_obs), np.empty_like(windows.future_reward)
    for w, moment in enumerate(windows.moments):
        physics.restore(moment)
        for t, chosen in enumerate(action[w]):
            obs[w, t], reward[w, t] = physics.step(chosen)
    return replace(windows, action=action, future_obs=obs, future_reward=reward)


def closed_loop(
    simulator: Simulator,
    make_policy: Callable[[], Policy],
    physics: Physics,
    windows: Windows,
    scale: Scale,
    horizons: list[int],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Median nrmse at every horizon; the summed rewards, imagined and real, and their gap."""
    forecast, action = imagined_episodes(simulator, make_policy, windows, seed=seed)
    truth = repeated(physics, windows, action)
    found = errors(forecast, truth, scale)
    assert forecast.reward is not None
    counts = resamples(windows.episode)
    sums = {
        "return_imagined": forecast.reward[0].sum(axis=1),
        "return_real": truth.future_reward.sum(axis=1),
    }
    sums["gap"] = sums["return_imagined"] - sums["return_real"]
    return {
        "nrmse_median": {
            h: interval(STATISTICS["median"](found["nrmse"][:, h - 1], counts)) for h in horizons
        },
        **{name: interval(mean(values, counts)) for name, values in sums.items()},
    }
