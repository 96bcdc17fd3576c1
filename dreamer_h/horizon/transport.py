"""Files for simulators that live elsewhere: questions out, forecasts in.

`queries.npz` holds no future observation; docs/horizon.md shows a worker that answers it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dreamer_h.files import replacing
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.simulator import Forecast


def export(path: Path, parts: dict[str, Windows], dt: float) -> None:
    """Writes context_obs (W, C+1, O), context_action (W, C, A), action (W, H, A), window_id (W,),
    length (W,) and dt. `action[t]` is taken from obs[t]; the last context observation is obs[0].

    All parts in one row; behind `length` steps a window's actions are zero and its answer unread.
    """
    longest = max(windows.horizon for windows in parts.values())
    pad = lambda w: np.pad(w.action, ((0, 0), (0, longest - w.horizon), (0, 0)))
    join = lambda of: np.concatenate([of(windows) for windows in parts.values()])
    arrays: dict[str, Any] = {
        "context_obs": join(lambda w: w.context_obs),
        "context_action": join(lambda w: w.context_action),
        "action": join(pad),
        "length": join(lambda w: np.full(len(w), w.horizon)),
        "dt": np.float64(dt),
    }
    arrays["window_id"] = np.arange(len(arrays["action"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read(path: Path, parts: dict[str, Windows]) -> dict[str, Forecast]:
    """Forecasts of the exported parts from `predictions.npz`, whatever the order of its windows.

    It holds window_id (W,), obs (S, W, H, O) and, if it likes, reward (S, W, H), in physical units.
    Raises ValueError for missing fields, wrong ids, shapes and dtypes, and for values within a
    window's `length` that are not finite.
    """
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    for name in ("window_id", "obs"):
        if name not in found:
            raise ValueError(f"{path} has no {name}; it has {sorted(found)}")
    count = sum(len(windows) for windows in parts.values())
    ids, obs, reward = found["window_id"], found["obs"], found.get("reward")
    if ids.shape != (count,) or not np.array_equal(np.sort(ids), np.arange(count)):
        raise ValueError(
            f"{path}: window_id must hold each of 0 to {count - 1} once, as queries.npz does; "
            f"found {ids.dtype} of shape {ids.shape}"
        )
    longest = max(windows.horizon for windows in parts.values())
    size = next(iter(parts.values())).context_obs.shape[-1]
    if obs.ndim != 4 or obs.shape[1:] != (count, longest, size) or len(obs) == 0:
        raise ValueError(
            f"{path}: obs has shape {obs.shape}; needed is (S, {count}, {longest}, {size})"
        )
    if reward is not None and reward.shape != obs.shape[:3]:
        raise ValueError(f"{path}: reward has shape {reward.shape}; needed is {obs.shape[:3]}")
    for name, array in (("obs", obs), ("reward", reward)):
        if array is not None and not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{path}: {name} is {array.dtype}; needed are floats")
    order, start, forecasts = np.argsort(ids), 0, {}
    for name, windows in parts.items():
        chosen = order[start : start + len(windows)]
        start += len(windows)
        forecasts[name] = Forecast(
            obs[:, chosen, : windows.horizon],
            None if reward is None else reward[:, chosen, : windows.horizon],
        )
    _check_finite(path, forecasts)
    return forecasts


def _check_finite(path: Path, forecasts: dict[str, Forecast]) -> None:
    """Raises ValueError with the place of the first value that is not finite, by window id."""
    for name in ("obs", "reward"):
        count, first, begin = 0, None, 0
        for forecast in forecasts.values():
            values = getattr(forecast, name)
            if values is None:
                return
            wrong = ~np.isfinite(values)
            places = np.argwhere(wrong.any(axis=(0, *range(3, wrong.ndim))))  # (N, 2): window, step
            if len(places) and first is None:
                first = begin + places[0, 0], places[0, 1]
            count, begin = count + wrong.sum(), begin + values.shape[1]
        if first is not None:
            raise ValueError(
                f"{path}: {count} values of {name} are not finite, the first in the window with "
                f"window_id {first[0]} at step {first[1]} (counted from 0); clip what your model "
                "says before it overflows"
            )
