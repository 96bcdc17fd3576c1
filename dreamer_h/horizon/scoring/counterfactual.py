"""What would have happened under other actions: asked of a simulator, and played by physics."""

from dataclasses import replace

import numpy as np

from dreamer_h.horizon.parallel import Progress
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.score import Benchmark
from dreamer_h.types import Physics


def altered(
    windows: Windows, physics: Physics, changes: int, rng: np.random.Generator, progress: Progress
) -> Windows:
    """The same windows with their first `changes` actions drawn anew, uniformly, and what follows.

    The context stays what happened: a simulator is asked from the state that it infers from that.
    """
    action = windows.action.copy()
    action[:, :changes] = rng.uniform(-1.0, 1.0, action[:, :changes].shape)
    obs, reward = np.empty_like(windows.future_obs), np.empty_like(windows.future_reward)
    for w in progress(iter(range(len(windows)))):
        physics.restore(windows.moments[w])
        for t, chosen in enumerate(action[w]):
            obs[w, t], reward[w, t] = physics.step(chosen)
    return replace(windows, action=action, future_obs=obs, future_reward=reward)


def counterfactual(
    bench: Benchmark, physics: Physics, changes: int, *, progress: Progress = iter
) -> Benchmark:
    """All windows of a benchmark under other actions; without a floor, which is another one.

    Raises ValueError for a recording that cannot be restarted, and for fewer changes than one or
    more than there are steps.
    """
    if not bench.recording.restartable:
        raise ValueError(f"{bench.recording.folder} cannot be restarted: nothing else can happen")
    shortest = min(part.horizon for part in (bench.far, bench.near, bench.calibration))
    if not 1 <= changes <= shortest:
        raise ValueError(f"changes are {changes}; windows have 1 to {shortest} actions")
    rng = np.random.default_rng(changes)
    parts = {
        name: altered(getattr(bench, name), physics, changes, rng, progress)
        for name in ("far", "near", "calibration")
    }
    return replace(bench, **parts, floor=None)
