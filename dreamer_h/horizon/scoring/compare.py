"""Several scored simulators against each other, window by window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer_h.horizon.scoring.scored_files import finite, read_reports
from dreamer_h.horizon.statistics import interval, mean, resamples

METRICS = ("nrmse", "crps", "return")  # and slow/<name> of each slow quantity


def paired(
    folders: list[Path], against: Sequence[str] = (), models: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Differences of every two models on the same windows, per metric and horizon; of each to
    those it is held `against`, if there are such. Of `models` alone, if some are named.

    Each {"metric", "left", "right", "horizon", "value", "lo", "hi"}: the mean over windows of
    left - right; the interval resamples episodes. Models of several folders (seeds) stay apart.
    A model under other actions (`score --changed`) has another truth on these windows: the
    difference to it as it was says how much harder that is. None stands for differences that are
    not finite. Raises ValueError where the recordings or the windows differ.
    """
    if len({folder.name for folder in folders}) < len(folders):
        raise ValueError("two folders have the same name; give folders of different names")
    named = {
        name if len(folders) == 1 else f"{folder.name}/{name}": (folder, name, report)
        for folder in folders
        for name, report in read_reports(folder).items()
    }
    if unknown := sorted({*against, *models} - named.keys()):
        raise ValueError(f"there is no {unknown[0]} among {', '.join(named)}")
    named = {label: one for label, one in named.items() if not models or label in models}
    labels, scored = list(named), list(named.values())
    data = scored[0][2]["data"]
    for label, (_, _, report) in named.items():
        if report["data"] != data:
            raise ValueError(
                f"{label} was scored on recording {report['data'][:12]}, {labels[0]} on "
                f"{data[:12]}; score both on one recording"
            )
    arrays = []
    for folder, name, _ in scored:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            arrays.append({key: file[key] for key in file.files})
    first = arrays[0]
    for label, array in zip(labels, arrays, strict=True):
        if any(
            not np.array_equal(first[key], array[key])
            for key in ("far_episode", "far_start", "near_episode", "near_start")
        ):
            raise ValueError(
                f"{label} was scored on other windows than {labels[0]}; score both on one recording"
            )
    horizons, found = scored[0][2]["horizons"], []
    close = first[f"near/{METRICS[0]}"].shape[1]
    slow = sorted(key.removeprefix("far/") for key in first if key.startswith("far/slow/"))
    for metric in (*METRICS, *slow):
        if not all(f"far/{metric}" in array for array in arrays):
            continue  # some of them foretell no rewards
        for place, h in enumerate(horizons):
            far, near = f"far/{metric}", f"near/{metric}"
            episodes = first["far_episode"]
            values = [array[far][:, place].astype(np.float64) for array in arrays]
            if place < close:
                episodes = np.concatenate([episodes, first["near_episode"]])
                values = [
                    np.concatenate([value, array[near][:, place]])
                    for value, array in zip(values, arrays, strict=True)
                ]
            counts = resamples(episodes)
            for i, left in enumerate(labels):
                for j, right in enumerate(labels[:i]):
                    if against and not {left, right} & set(against):
                        continue
                    with np.errstate(invalid="ignore"):  # inf - inf, where both blow up
                        difference = interval(mean(values[i] - values[j], counts))
                    found.append(
                        {"metric": metric, "left": left, "right": right, "horizon": h, **difference}
                    )
    return finite(found)
