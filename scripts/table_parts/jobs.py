"""The rows of a table as jobs: `runs.toml` with its placeholders filled."""

import itertools
import shlex
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One (variant, task, seed) of the table, its placeholders filled."""

    variant: str
    task: str
    seed: int
    logdir: Path
    commands: tuple[str, ...]
    rows: Path
    env: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.variant}/{self.task}/{self.seed}"


def read_jobs(table: Path) -> list[Job]:
    """Raises ValueError for fields that are missing or wrong and for rows that come twice."""
    content = tomllib.loads(table.read_text())
    jobs: dict[str, Job] = {}
    for number, run in enumerate(content.get("runs", []), start=1):
        fields = {**content.get("defaults", {}), **run}
        if lacking := sorted({"variant", "task", "seeds", "command", "rows"} - fields.keys()):
            raise ValueError(f"{table}: run {number} has no {', '.join(lacking)}; add it there")
        tasks = fields["task"] if isinstance(fields["task"], list) else [fields["task"]]
        for task, seed in itertools.product(tasks, fields["seeds"]):
            job = _job(table, {**fields, "task": task, "seed": seed})
            if job.key in jobs:
                raise ValueError(f"{table}: {job.key} comes twice; give each row its own variant")
            jobs[job.key] = job
    if not jobs:
        raise ValueError(f"{table} has no rows; add a [[runs]] with variant, task and seeds")
    return list(jobs.values())


def _job(table: Path, fields: dict[str, Any]) -> Job:
    name, variant, task, seed = table.parent.name, fields["variant"], fields["task"], fields["seed"]
    places = {"runs": Path("runs") / name, "results": table.parent}
    logdir = places["runs"] / variant / task / str(seed)

    def fill(template: str) -> str:
        try:
            return template.format(**{**fields, "logdir": logdir, **places})
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"{table}: nothing fills {{{error.args[0]}}} of {template!r} in {variant}/{task}; "
                "add a field of that name, or write {{ }} for braces"
            ) from error

    commands = tuple(fill(command) for command in [fields["command"], *fields.get("then", [])])
    for command in commands:
        program = shlex.split(command)[0]
        if program != "python" and shutil.which(program) is None:
            raise ValueError(f"{table}: {program} of {command!r} is no program; correct its name")
    env = {key: str(value) for key, value in fields.get("env", {}).items()}
    return Job(variant, task, seed, logdir, commands, Path(fill(fields["rows"])), env)
