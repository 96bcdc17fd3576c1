"""A policy acts inside the simulator; then what it did is repeated in reality (mode B of the
design), and the policy acts in reality itself from the same states (mode C).

The simulator is so judged where the policy takes it, not where the recorded actions went; and its
promise, by what the policy earns.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from dm_control.rl.control import PhysicsError

from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.metrics import errors
from dreamer_h.horizon.simulator import Context, Doubting, Forecast, Simulator
from dreamer_h.horizon.statistics import STATISTICS, interval, mean, resamples
from dreamer_h.types import Physics, Policy


def imagined_episodes(
    simulator: Simulator,
    make_policy: Callable[[], Policy],
    windows: Windows,
    scale: Scale,
    *,
    seed: int,
) -> tuple[Forecast, np.ndarray, np.ndarray | None]:
    """The policy's way from every window's start, its actions (W, H, A), and how much the
    simulator doubts each step (W, H), in nats, where it is `Doubting`.

    Every window has a policy of its own, which begins there with an empty memory. A window that
    diverges, by an observation, a reward or an action that is not finite, stays so: from there on
    its observations and rewards are NaN and its actions zero. Angles of what a policy sees go on
    counting their turns, as in reality. Raises ValueError for a simulator without rewards.
    """
    policies = [make_policy() for _ in range(len(windows))]
    for number, policy in enumerate(policies):
        policy.begin(seed + number)
    state = simulator.start(Context(windows.context_obs, windows.context_action), seed=seed)
    now, taken, seen, paid, told = windows.context_obs[:, -1], [], [], [], []
    alive = np.isfinite(now).all(axis=1)
    for t in range(windows.horizon):
        action = np.zeros_like(windows.action[:, 0])
        for w in np.flatnonzero(alive):
            action[w] = policies[w].act(now[w])
        alive = alive & np.isfinite(action).all(axis=1)
        action[~alive] = 0.0
        if isinstance(simulator, Doubting):
            told.append(np.where(alive, simulator.doubt(state, action), 0.0))
        state, obs, reward = simulator.step(state, action, seed=seed + 1 + t)
        if reward is None:
            raise ValueError(
                f"{type(simulator).__name__} predicts no reward; --policy needs one that does"
            )
        # beyond float32 is beyond what a policy can see
        with np.errstate(over="ignore", invalid="ignore"):
            now = np.asarray(scale.nearest(np.asarray(obs), now), np.float32)
        alive = alive & np.isfinite(now).all(axis=1) & np.isfinite(reward)
        taken.append(action)
        seen.append(np.where(alive[:, None], obs, np.nan))
        paid.append(np.where(alive, reward, np.nan))
    forecast = Forecast(np.stack(seen, axis=1)[None], np.stack(paid, axis=1)[None])
    return forecast, np.stack(taken, axis=1), np.stack(told, axis=1) if told else None


def repeated(physics: Physics, windows: Windows, action: np.ndarray, steps: np.ndarray) -> Windows:
    """The windows as they would have gone under these actions (W, H, A), NaN behind `steps` (W,).

    NaN also from where the physics itself fails.
    """
    obs, reward = (
        np.full_like(like, np.nan) for like in (windows.future_obs, windows.future_reward)
    )
    for w, moment in enumerate(windows.moments):
        physics.restore(moment)
        for t in range(steps[w]):
            try:
                obs[w, t], reward[w, t] = physics.step(action[w, t])
            except PhysicsError:
                break
    return replace(windows, action=action, future_obs=obs, future_reward=reward)


def real_episodes(
    make_policy: Callable[[], Policy], physics: Physics, windows: Windows, *, seed: int
) -> np.ndarray:
    """Rewards (W, H) that the policy is paid in reality, from the states of the windows.

    It begins with an empty memory, as in `imagined_episodes`. NaN from where the physics fails.
    """
    reward, policy = np.full_like(windows.future_reward, np.nan), make_policy()
    for w, moment in enumerate(windows.moments):
        physics.restore(moment)
        policy.begin(seed + w)
        now = windows.context_obs[w, -1]
        for t in range(windows.horizon):
            try:
                now, reward[w, t] = physics.step(policy.act(now))
            except PhysicsError:
                break
    return reward


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
    """Median nrmse at every horizon, and rewards summed over the windows, their mean and each one.

    return_imagined is what the simulator promises, return_repeated what the same actions are paid
    in reality, return_real what the policy is paid where it sees reality; gap is the first minus
    the last; doubt, of one that tells, is what it gathers on the way, in nats. A window in which
    the simulator or the physics diverges counts as infinitely wrong from there on, and rewards and
    doubt are summed up to there; "diverged" is how many windows did.
    """
    forecast, action, doubt = imagined_episodes(simulator, make_policy, windows, scale, seed=seed)
    assert forecast.reward is not None
    truth = repeated(physics, windows, action, np.isfinite(forecast.reward[0]).sum(axis=1))
    ended = ~np.isfinite(truth.future_reward)  # (W, H)
    kept = Forecast(np.where(ended[None, :, :, None], np.nan, forecast.obs), None)
    found = errors(kept, replace(truth, future_obs=np.nan_to_num(truth.future_obs)), scale)
    counts = resamples(windows.episode)
    sums = {
        "return_imagined": np.where(ended, 0.0, forecast.reward[0]).sum(axis=1),
        "return_repeated": np.where(ended, 0.0, truth.future_reward).sum(axis=1),
        "return_real": np.nansum(real_episodes(make_policy, physics, windows, seed=seed), axis=1),
    }
    sums["gap"] = sums["return_imagined"] - sums["return_real"]
    if doubt is not None:
        sums["doubt"] = np.where(ended, 0.0, doubt).sum(axis=1)
    return {
        "diverged": int(ended.any(axis=1).sum()),
        "nrmse_median": {
            h: interval(STATISTICS["median"](found["nrmse"][:, h - 1], counts)) for h in horizons
        },
        **{name: interval(mean(values, counts)) for name, values in sums.items()},
        "windows": {name: values.tolist() for name, values in sums.items()},
    }
