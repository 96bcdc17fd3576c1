"""The numbers that jobs leave, and `summary.json`, which holds those of all."""

import json
import math
from pathlib import Path
from typing import Any

from dreamer_h.files import write_text
from table_parts.jobs import Job

ROW = ("what", "task", "variant", "seed", "x", "value", "lo", "hi", "unit")
IDENTITY = ("what", "task", "variant", "seed", "x")


def read_rows(job: Job, started: float) -> list[dict[str, Any]]:
    """The rows that the job's commands left since `started` (seconds of time.time).

    Raises ValueError if there are none, if they are older, or if they are no rows.
    """
    try:
        if job.rows.stat().st_mtime < math.floor(started):  # some file systems count in seconds
            raise ValueError(f"{job.rows} is older than the run")
        found = json.loads(job.rows.read_text())
    except FileNotFoundError:
        raise ValueError(f"no rows at {job.rows}") from None
    if not isinstance(found, list) or not found:
        raise ValueError(f"{job.rows} is no list of rows, or is empty")
    own = {"task": job.task, "variant": job.variant, "seed": job.seed}
    rows = []
    for row in found:
        if not isinstance(row, dict) or not {"what", "value"} <= row.keys():
            raise ValueError(f"{job.rows}: a row needs what and value, found {row!r}")
        row = {**dict.fromkeys(ROW), **own, **row}
        odd = [k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)]
        rows.append({**row, **dict.fromkeys(odd)})  # JSON has no nan
    return rows


def merge(old: list[dict], new: list[dict]) -> list[dict]:
    """Both lists in a fixed order; of two rows that measure the same thing the new one."""
    by_identity = {json.dumps([row.get(name) for name in IDENTITY]): row for row in old + new}
    return [by_identity[identity] for identity in sorted(by_identity)]


def read_json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


def write_rows(path: Path, rows: list[dict]) -> None:
    """One a line, so that a diff shows what changed."""
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")
