"""Runs the rows of a table, one after another, and collects their numbers in `summary.json`.

    python scripts/table.py results/<name>/runs.toml [--jobs 2] [--only REGEX] [--list]

Run it from the repository root. Stop it at any time and start it again: finished rows are skipped,
`progress.json` beside the table remembers them; delete a row's entry there,
and its logdir, to run it again. The rows file must be written last: it tells that a row is done.
After a kill -9 of the queue its children go on: wait for them, or stop them, before a restart.

    [defaults]                # every field may stand here or in a run
    command = "python scripts/train.py --task {task} --seed {seed} --logdir {logdir} {args}"
    then = ["python scripts/bench.py --logdir {logdir}"]   # after the command; optional
    rows = "{logdir}/rows.json"   # the JSON list of rows that the commands leave
    env = { OMP_NUM_THREADS = "1" }                        # optional

    [[runs]]
    variant = "flat"
    task = "walker-walk"      # or a list of tasks
    seeds = [0, 1]
    args = "--world.levels 1"     # any further field fills its {placeholder}

{logdir} is {runs}/<variant>/<task>/<seed>, {runs} is runs/<name>, {results} the table's own folder.
"""

import argparse
import itertools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from dreamer_h.files import write_json, write_text
from dreamer_h.train.lock import LogdirBusy, logdir_lock

ROW = ("what", "task", "variant", "seed", "x", "value", "lo", "hi", "unit")
IDENTITY = ("what", "task", "variant", "seed", "x")
POLL = 0.1  # seconds between two looks at the children
LOG_TAIL = 10  # lines of a failed command that are shown


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


@dataclass
class Running:
    """A job under way: the process of its command number `index`."""

    job: Job
    index: int
    process: subprocess.Popen
    began: float  # time.monotonic
    log: IO[bytes]
    cores: set[int]  # its own share of the machine's; empty where cores cannot be given


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


class Queue:
    """Runs jobs, at most `parallel` at a time, and writes down each one that is done."""

    def __init__(self, folder: Path, jobs: list[Job], parallel: int):
        self.folder = folder
        self.parallel = parallel
        self.keys = [job.key for job in jobs]
        self.running: list[Running] = []
        self.failed: list[str] = []
        self.signals: list[int] = []
        self.progress = read_json(folder / "progress.json", {})
        self.shares = share_cores(parallel)
        states = {key: entry["state"] for key, entry in self.progress.items()}
        self.waiting = deque(job for job in jobs if states.get(job.key) != "done")

    def stop(self, number: int, frame: FrameType | None) -> None:
        """A signal handler; the loop passes it on, so that no child that just starts is missed."""
        self.signals.append(number)

    def run(self) -> int:
        """Returns the exit code: 0 all done, 1 some failed, 128 + n stopped by signal n."""
        passed_on = 0
        while self.running or (self.waiting and not self.signals):
            while self.waiting and len(self.running) < self.parallel and not self.signals:
                self.begin(self.waiting.popleft())
            for number in self.signals[passed_on:]:
                passed_on += 1
                for running in self.running:
                    running.process.send_signal(number)
            for running in [r for r in self.running if r.process.poll() is not None]:
                self.running.remove(running)
                self.ended(running)
            if self.running:
                time.sleep(POLL)
        if self.signals:
            return 128 + self.signals[0]
        return 1 if self.failed else 0

    def begin(self, job: Job) -> None:
        entry = self.progress.get(job.key, {})
        if entry.get("commands") != list(job.commands):  # another command: earlier rows are not its
            entry = {"commands": list(job.commands), "started": time.time(), "seconds": 0.0}
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
        commit = git.stdout.strip() or None
        self.progress[job.key] = {**entry, "state": "running", "commit": commit}
        write_json(self.folder / "progress.json", self.progress)
        job.logdir.mkdir(parents=True, exist_ok=True)
        self.say(f"{job.key} starts")
        log = open(job.logdir / "log.txt", "ab")
        cores = self.shares.pop()
        process = launch(job, 0, log, cores)
        self.running.append(Running(job, 0, process, time.monotonic(), log, cores))

    def ended(self, running: Running) -> None:
        job, status = running.job, running.process.returncode
        if status == 0 and running.index + 1 < len(job.commands) and not self.signals:
            running.index += 1
            running.process = launch(job, running.index, running.log, running.cores)
            self.running.append(running)
            return
        running.log.close()
        self.shares.append(running.cores)
        entry = self.progress[job.key]
        entry["seconds"] = round(entry["seconds"] + time.monotonic() - running.began, 1)
        reason = f"exit {status}" if status else ""
        if self.signals:  # a train.py that is told to stop saves and exits 0: not a sign of done
            entry["state"] = "interrupted"
        elif status == 0:
            try:
                rows = read_rows(job, entry["started"])
            except ValueError as error:
                reason = str(error)
            else:
                # before progress.json: rows that come twice are merged, lost ones stay lost
                summary = self.folder / "summary.json"
                write_rows(summary, merge(read_json(summary, []), rows))
                entry["state"] = "done"
        if entry["state"] == "running":
            entry["state"] = "failed"
            self.failed.append(job.key)
            tail = (job.logdir / "log.txt").read_text(errors="replace").splitlines()[-LOG_TAIL:]
            reason = "\n    ".join([f": {reason}; its log ends with", *tail])
        write_json(self.folder / "progress.json", self.progress)
        self.say(f"{job.key} {entry['state']} after {entry['seconds'] / 60:.1f} min{reason}")

    def say(self, line: str) -> None:
        done = sum(self.progress.get(key, {}).get("state") == "done" for key in self.keys)
        print(f"{time.strftime('%H:%M:%S')} [{done}/{len(self.keys)} done] {line}", flush=True)


def share_cores(parallel: int) -> list[set[int]]:
    """A set of cores for each of the jobs that run at a time.

    Two multi-threaded programs on the same cores wait for each other's threads by spinning: pinned
    to a core each, two trainings take half the time. Empty sets, which pin nothing, where the
    system cannot pin, or has fewer cores than jobs, or one job has them all.
    """
    available = sorted(getattr(os, "sched_getaffinity", lambda pid: [])(0))
    if parallel == 1 or len(available) < parallel:
        return [set() for _ in range(parallel)]
    return [set(available[i::parallel]) for i in range(parallel)]


def launch(job: Job, index: int, log: IO[bytes], cores: set[int]) -> subprocess.Popen:
    words = shlex.split(job.commands[index])
    log.write(f"$ {job.commands[index]}\n".encode())
    log.flush()
    if words[0] == "python":
        words[0] = sys.executable
    # its own session: a ctrl-C in the terminal reaches it once, from the queue
    options: dict[str, Any] = {"env": {**os.environ, **job.env}, "start_new_session": True}
    if cores:
        options["preexec_fn"] = lambda: os.sched_setaffinity(0, cores)
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options
    )


def read_json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else otherwise


def write_rows(path: Path, rows: list[dict]) -> None:
    """One a line, so that a diff shows what changed."""
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="results/<name>/runs.toml")
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time")
    parser.add_argument("--only", default="", help="regex searched in variant/task/seed")
    parser.add_argument("--list", action="store_true", help="show the state of the rows, run none")
    args = parser.parse_args()
    table = Path(os.path.relpath(args.table))
    try:
        jobs = [job for job in read_jobs(table) if re.search(args.only, job.key)]
    except (OSError, ValueError, re.error) as error:
        sys.exit(str(error))
    if args.jobs < 1:
        sys.exit(f"--jobs is {args.jobs}, at least one command must run; set it to 1 or more")
    if not jobs:
        sys.exit(f"--only {args.only} finds no row of {table}; --list shows all")
    progress = read_json(table.parent / "progress.json", {})
    for job in jobs:
        entry = progress.get(job.key, {"state": "waiting"})
        if entry["state"] == "done" and entry["commands"] != list(job.commands):
            print(f"{job.key} is done with other commands; delete its entry to run it again")
        elif args.list:
            print(f"{job.key} {entry['state']}")
    if args.list:
        return 0
    try:
        with logdir_lock(Path("runs") / table.parent.name):
            queue = Queue(table.parent, jobs, args.jobs)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, queue.stop)
            if not queue.waiting:
                print(f"all {len(jobs)} rows are done, {table.parent}/progress.json says; to run "
                      "them again copy runs.toml into another folder of results/")  # fmt: skip
            return queue.run()
    except LogdirBusy as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main())
