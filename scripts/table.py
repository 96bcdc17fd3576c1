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
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from table_parts.jobs import Job, read_jobs
from table_parts.rows import merge, read_json, read_rows, write_rows

from dreamer_h.files import write_json
from dreamer_h.train.lock import LogdirBusy, logdir_lock

POLL = 0.1  # seconds between two looks at the children
LOG_TAIL = 10  # lines of a failed command that are shown


@dataclass
class Running:
    """A job under way: the process of its command number `index`."""

    job: Job
    index: int
    process: subprocess.Popen
    began: float  # time.monotonic
    log: IO[bytes]
    cores: set[int]  # its own share of the machine's; empty where cores cannot be given


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
