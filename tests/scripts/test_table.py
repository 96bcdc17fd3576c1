import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "table.py"

# As train.py: told to stop, it exits 0 without rows; started again, it finishes.
TRAIN = """
import json, os, pathlib, signal, sys, time
logdir, variant, task, seed = pathlib.Path(sys.argv[1]), *sys.argv[2:5]
with open("calls.txt", "a") as file:
    file.write(f"{variant}/{task}/{seed}\\n")
def stop(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
started = logdir / "starting"
started.write_text(str(os.getpid()))
started.rename(logdir / "started")
if variant == "slow" and not pathlib.Path("fast").exists():
    time.sleep(60)
if variant == "bad" and not pathlib.Path("mended").exists():
    print("boom")
    sys.exit(3)
if variant == "meets":  # waits for its twin: ends only if both run at once
    other = logdir.parent / str(1 - int(seed)) / "started"
    while not other.exists():
        time.sleep(0.02)
if variant != "silent":
    value = float("nan") if variant == "nan" else int(seed) + float(os.environ.get("BONUS", 0))
    rows = [{"what": "return_mode", "value": value, "x": 100, "unit": "return"},
            {"what": "crps", "value": 0.5, "variant": "persistence", "seed": None}]
    (logdir / "rows.json").write_text(json.dumps(rows))
"""

HEAD = """
[defaults]
command = "python train.py {logdir} {variant} {task} {seed}"
rows = "{logdir}/rows.json"
seeds = [0, 1]
task = "walker-walk"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "results" / "demo").mkdir(parents=True)
    return tmp_path


def write(folder, runs, head=HEAD):
    (folder / "results" / "demo" / "runs.toml").write_text(head + runs)


def start(folder, *args) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "results/demo/runs.toml", *args],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def table(folder, *args) -> tuple[int, str]:
    process = start(folder, *args)
    out = process.communicate(timeout=30)[0]
    return process.returncode, out


def result(folder, name):
    return json.loads((folder / "results" / "demo" / f"{name}.json").read_text())


def calls(folder):
    return sorted((folder / "calls.txt").read_text().split())


def test_rows_are_completed_collected_and_skipped_the_next_time(folder):
    write(folder, '[[runs]]\nvariant = "flat"\n[[runs]]\nvariant = "nan"\nseeds = [2]')
    code, out = table(folder)
    assert code == 0, out
    assert "[3/3 done] nan/walker-walk/2 done after" in out
    expected = {"task": "walker-walk", "lo": None, "hi": None, "what": "return_mode", "x": 100}
    expected |= {"unit": "return"}
    returns = [row for row in result(folder, "summary") if row["what"] == "return_mode"]
    assert returns == [
        expected | {"variant": "flat", "seed": 0, "value": 0.0},
        expected | {"variant": "flat", "seed": 1, "value": 1.0},
        expected | {"variant": "nan", "seed": 2, "value": None},
    ]
    # a row that names its own variant and seed keeps them, and is there once
    others = [row for row in result(folder, "summary") if row["what"] == "crps"]
    assert [(row["variant"], row["seed"]) for row in others] == [("persistence", None)]
    entry = result(folder, "progress")["flat/walker-walk/0"]
    assert entry["commands"] == ["python train.py runs/demo/flat/walker-walk/0 flat walker-walk 0"]
    assert entry["state"] == "done" and entry["seconds"] >= 0 and "commit" in entry
    before = calls(folder)
    assert table(folder)[0] == 0
    assert calls(folder) == before
    for path in (folder / "results" / "demo").iterdir():
        assert str(folder) not in path.read_text() and sys.executable not in path.read_text()


def test_a_copied_table_keeps_to_its_own_folders_and_says_when_all_is_done(folder):
    own = (
        '[[runs]]\nvariant = "flat"\nseeds = [0]\nthen = ["cp {logdir}/rows.json {results}/{task}"]'
    )
    write(folder, own + '\nrows = "{runs}/flat/{task}/{seed}/rows.json"')
    again = folder / "results" / "again" / "runs.toml"
    again.parent.mkdir()
    again.write_bytes((folder / "results" / "demo" / "runs.toml").read_bytes())
    assert table(folder)[0] == 0
    command = [sys.executable, str(SCRIPT), str(again)]
    for said in ("[1/1 done] flat/walker-walk/0 done", "all 1 rows are done"):
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
        assert found.returncode == 0 and said in found.stdout
    nothing = subprocess.run([*command, "--only", "no such"], cwd=folder, capture_output=True)
    assert nothing.returncode == 1 and b"finds no row" in nothing.stderr
    for name in ("demo", "again"):
        assert (folder / "results" / name / "walker-walk").exists()
        assert (folder / "runs" / name / "flat" / "walker-walk" / "0" / "started").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_row_is_not_done_and_is_resumed(folder, number):
    write(folder, '[[runs]]\nvariant = "flat"\nseeds = [0]\n[[runs]]\nvariant = "slow"')
    process = start(folder)
    started = folder / "runs/demo/slow/walker-walk/0/started"
    deadline = time.monotonic() + 20
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out = process.communicate(timeout=20)[0]
    assert process.returncode == 128 + number
    assert "slow/walker-walk/0 interrupted" in out and "slow/walker-walk/1" not in out
    if number == signal.SIGTERM:
        assert (started.parent / "log.txt").read_text().endswith("saved\n")
    assert result(folder, "progress")["slow/walker-walk/0"]["state"] == "interrupted"
    (folder / "fast").touch()
    code, out = table(folder)
    assert code == 0, out
    assert calls(folder).count("flat/walker-walk/0") == 1
    assert calls(folder).count("slow/walker-walk/0") == 2
    assert len([r for r in result(folder, "summary") if r["what"] == "return_mode"]) == 3


def test_a_killed_queue_is_started_again(folder):
    write(folder, '[[runs]]\nvariant = "slow"\nseeds = [0]')
    process = start(folder)
    started = folder / "runs/demo/slow/walker-walk/0/started"
    deadline = time.monotonic() + 20
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    os.kill(int(started.read_text()), signal.SIGKILL)  # the command outlives its queue
    (folder / "fast").touch()
    assert table(folder)[0] == 0
    assert result(folder, "progress")["slow/walker-walk/0"]["state"] == "done"


def test_a_failing_row_is_shown_stops_nothing_and_is_tried_again(folder):
    runs = '[[runs]]\nvariant = "bad"\nseeds = [0]\n[[runs]]\nvariant = "silent"\nseeds = [0]\n'
    write(folder, runs + '[[runs]]\nvariant = "flat"')
    code, out = table(folder)
    assert code == 1
    assert "bad/walker-walk/0 failed" in out and "exit 3" in out and "    boom" in out
    assert "silent/walker-walk/0 failed" in out and "no rows at" in out
    assert "[2/4 done] flat/walker-walk/1 done" in out
    (folder / "mended").touch()
    code, out = table(folder, "--only", "^bad")
    assert code == 0, out
    assert "[1/1 done] bad/walker-walk/0 done" in out
    assert calls(folder).count("bad/walker-walk/0") == 2
    listed = table(folder, "--list")[1].splitlines()
    assert listed[:2] == ["bad/walker-walk/0 done", "silent/walker-walk/0 failed"]


def test_two_jobs_run_at_once(folder):
    write(folder, '[[runs]]\nvariant = "meets"')
    code, out = table(folder, "--jobs", "2")
    assert code == 0, out
    assert len(result(folder, "summary")) == 3


def test_follow_up_commands_the_environment_and_placeholders(folder):
    write(
        folder,
        '[[runs]]\nvariant = "flat"\nseeds = [0]\nword = "two words"\nenv = { BONUS = "7" }\n'
        "then = [\"python -c 'import sys; open(sys.argv[1], sys.argv[2])' '{word}' w\"]",
    )
    assert table(folder)[0] == 0
    assert (folder / "two words").exists()
    assert {r["value"] for r in result(folder, "summary")} == {7.0, 0.5}
    (folder / "results/demo/progress.json").unlink()
    write(
        folder,
        '[[runs]]\nvariant = "silent"\nseeds = [0]\nthen = ["python -c 1/0", "python -c open()"]',
    )
    code, out = table(folder)
    assert code == 1 and "ZeroDivisionError" in out and "$ python -c open()" not in out


def test_a_run_may_name_several_tasks(folder):
    write(folder, '[[runs]]\nvariant = "flat"\nseeds = [0]\ntask = ["walker-walk", "hopper-hop"]')
    assert table(folder)[0] == 0
    assert {row["task"] for row in result(folder, "summary")} == {"walker-walk", "hopper-hop"}


def test_rows_older_than_the_run_do_not_count(folder):
    write(folder, '[[runs]]\nvariant = "silent"\nseeds = [0]')
    rows = folder / "runs/demo/silent/walker-walk/0/rows.json"
    rows.parent.mkdir(parents=True)
    rows.write_text('[{"what": "return_mode", "value": 1.0}]')
    os.utime(rows, (0, 0))
    code, out = table(folder)
    assert code == 1 and "is older than the run" in out


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ('[[runs]]\nvariant = "a"\n[[runs]]\nvariant = "a"', "a/walker-walk/0 comes twice"),
        ("[[runs]]\nseeds = [0]", "run 1 has no variant"),
        ('[[runs]]\nvariant = "a"\ncommand = "python {steps}"', "nothing fills {steps}"),
        ('[[runs]]\nvariant = "a"\ncommand = "no-such-program"', "is no program"),
        ("", "has no rows"),
    ],
)
def test_a_wrong_table_is_explained(folder, runs, message):
    write(folder, runs)
    code, out = table(folder)
    assert code == 1 and message in out and "Traceback" not in out
