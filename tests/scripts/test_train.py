import dataclasses
import json
import re
import shlex
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest
import toy

import envs
from dreamer_h.config import Config
from dreamer_h.fields import flatten, with_field
from dreamer_h.presets import preset, with_levels
from dreamer_h.train.checkpoints.archive import read_manifest
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.checkpoints.load import load_agent
from dreamer_h.train.evaluation.evaluate import play_held_out
from dreamer_h.train.lock import logdir_lock

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import train  # noqa: E402


class Running:
    """scripts/train.py in a process of its own."""

    def __init__(self, tiny, logdir: Path):
        self.logdir = logdir
        self.process = subprocess.Popen(
            [sys.executable, "scripts/train.py", *tiny, "--logdir", str(logdir)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def wait_for_checkpoint(self) -> None:
        while self.process.poll() is None:
            if self.newest() > 0:
                return
            time.sleep(0.01)
        raise AssertionError(f"ended before it was meant to:\n{self.process.stdout.read()}")  # type: ignore[union-attr]

    def newest(self) -> int:
        paths = Checkpoints(self.logdir / "checkpoints").retained()
        try:
            return read_manifest(paths[-1])["agent_step"] if paths else -1
        except FileNotFoundError:
            return -1  # replaced in between

    def send(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        output = self.process.communicate(timeout=300)[0]
        return self.process.returncode, output


def test_kill_9_loses_nothing_and_changes_nothing(tmp_path, tiny, finished):
    run = Running(tiny, tmp_path / "run")
    run.wait_for_checkpoint()
    assert run.send(signal.SIGKILL)[0] == -signal.SIGKILL
    assert 0 < run.newest() < 600
    last = Running(tiny, tmp_path / "run")  # the same command goes on
    output = last.process.communicate(timeout=300)[0]
    assert last.process.returncode == 0, output
    assert "mode" in output and "tensorboard --logdir" in output
    toy.same_runs(tmp_path / "run", finished)
    rows = [json.loads((logdir / "rows.json").read_text()) for logdir in (run.logdir, finished)]
    kept = [[row for row in found if row["what"] != "minutes"] for found in rows]
    assert kept[0] == kept[1] and len(rows[0]) == len(rows[1]) == 3 * 6


def test_signals_save_and_print_how_to_resume(tmp_path, tiny, cli):
    runs = [Running(tiny, tmp_path / "a run"), Running(tiny, tmp_path / "other")]
    for run in runs:
        run.wait_for_checkpoint()
        run.process.send_signal(signal.SIGSTOP)  # it would end while we look
    # a second process finds the logdir taken
    answer = str(cli("train.py", *tiny, "--logdir", runs[0].logdir))
    assert answer.startswith("LogdirBusy: ")
    assert f"in use by process {runs[0].process.pid};" in answer
    for run, number in zip(runs, (signal.SIGINT, signal.SIGTERM), strict=True):
        run.process.send_signal(number)
        code, output = run.send(signal.SIGCONT)
        assert code == 0, output
        saved = run.newest()
        assert 0 < saved < 600
        assert f"saved at env step {4 * saved}; to resume:" in output
        command = shlex.split(output.strip().splitlines()[-1])
        assert command == ["python", "scripts/train.py", *tiny, "--logdir", str(run.logdir)]
        assert cli("train.py", *command[2:]) == 0
        assert run.newest() == 600


def test_a_finished_run_stays_as_it_is(finished, tiny, cli, capsys):
    before = {p: p.read_bytes() for p in (finished / "rows.json", finished / "metrics.jsonl")}
    start = time.monotonic()
    assert cli("train.py", *tiny, "--logdir", finished) == 0
    assert time.monotonic() - start < 30
    assert {path: path.read_bytes() for path in before} == before
    assert "policy" in capsys.readouterr().out


def test_a_finished_run_goes_on_to_more_steps_as_if_it_had_never_stopped(
    tmp_path, finished, tiny, cli
):
    shorter = ["1200" if argument == "2400" else argument for argument in tiny]
    for arguments in (shorter, tiny):
        assert cli("train.py", *arguments, "--logdir", tmp_path / "run") == 0
    toy.same_runs(tmp_path / "run", finished)
    answer = str(cli("train.py", *shorter, "--logdir", tmp_path / "run"))
    assert "--steps: 2400 there, 1200 now" in answer


def test_another_config_in_an_old_logdir_is_refused_with_the_difference(finished, tiny, cli):
    before = (finished / "config.json").read_bytes()
    answer = str(cli("train.py", *tiny, "--logdir", finished, "--seed", 3, "--replay.ratio", 9))
    assert answer.startswith("ValueError: ")
    assert "--seed: 0 there, 3 now" in answer and "--replay.ratio: 8.0 there, 9.0 now" in answer
    assert "--steps" not in answer and "choose another --logdir" in answer
    assert (finished / "config.json").read_bytes() == before


def test_exploring_goes_on_and_a_video_is_no_other_run(tmp_path):
    explored = ["--world.ensemble", "2", "--explore", "--steps"]
    old = train.parse([*explored, "400"])[0]
    (tmp_path / "config.json").write_text(json.dumps(flatten(old)))
    train.check_logdir(train.parse([*explored, "800"])[0], tmp_path)
    train.check_logdir(train.parse([*explored, "400", "--video", "False"])[0], tmp_path)
    first = ["--world.ensemble", "2", "--steps", "8000", "--explore-steps"]
    with pytest.raises(ValueError, match="--explore_steps: 400 there, 5000 now"):
        train.check_logdir(train.parse([*first, "5000"])[0], tmp_path)


@pytest.mark.slow
def test_a_task_that_cannot_be_drawn_has_no_video(tmp_path, cli):
    short = "--preset debug --steps 64 --prefill 16 --envs 2 --replay.length 4 --eval_every 0"
    task = "--task probe/constant-terminate-v0 --action_repeat 1 --video True --logdir"
    with pytest.warns(UserWarning, match="there is no video: render raised NotImplementedError"):
        assert cli("train.py", *short.split(), *task.split(), tmp_path) == 0
    assert not (tmp_path / "video.mp4").exists()


def test_an_environment_that_refuses_to_be_drawn_is_evaluated_all_the_same(finished):
    """As Gymnasium's own template does, by an assertion."""

    def make_env(render_mode=None):
        assert render_mode is None
        return envs.make(config.task, **config.environment)

    config, agent, _ = load_agent(finished)
    with pytest.warns(UserWarning, match="there is no video: AssertionError"):
        episodes, _ = play_held_out(agent, config, make_env, 1, film=True)
    assert len(episodes) == 2 and episodes[0].frames is None


def test_windows_are_of_whole_jumps_whatever_the_stride(tmp_path):
    config, _ = train.parse(["--levels", "2", "--strides", "3"])
    assert config.replay.length % 3 == 0 and config.replay.length >= 16
    assert train.parse(["--levels", "3", "--strides", "3,5"])[0].replay.length == 60
    with pytest.raises(ValueError, match="--levels is 0"):
        train.parse(["--levels", "0"])


def test_a_busy_logdir_is_refused(tmp_path, tiny, cli):
    with logdir_lock(tmp_path):
        assert str(cli("train.py", *tiny, "--logdir", tmp_path)).startswith("LogdirBusy: ")


@pytest.mark.parametrize(
    "arguments, answer",
    [
        ("--task walker-wlk", "no task 'walker-wlk'; did you mean walker-walk or"),
        ("--preset debg", "unknown preset 'debg'; did you mean debug"),
        ("--recipe dmc_propio", "unknown recipe 'dmc_propio'; did you mean dmc_proprio"),
        ("--recipe dmc_proprio --replay.ratio 32",
         "recipe dmc_proprio needs --replay.ratio 512.0, found --replay.ratio 32.0"),
        ("--preset debug --replay.length 600", "longer than the shortest episode, 500 agent"),
        ("--preset debug --replay.capacity 10", "set it to at least 1000"),
        ("--preset debug --world.ensemble 2 --steps 9000 --explore --explore-steps 4000",
         "--explore is for the whole run, and --explore-steps is 4000"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_with_advice(tmp_path, cli, arguments, answer):
    found = cli("train.py", "--logdir", tmp_path / "run", *arguments.split())
    assert str(found).startswith("ValueError: ") and answer in str(found)
    assert "\n" not in str(found)
    # the mistake binds nothing: the mended command may use the same logdir
    assert not (tmp_path / "run" / "config.json").exists()


def test_sizes_that_do_not_divide_are_answered_by_the_parser(cli, capsys):
    assert cli("train.py", "--preset", "debug", "--world.deter", 30) == 2
    answer = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert (
        "--world.deter 30 is not a multiple of --world.blocks 4; set --world.deter to 28" in answer
    )


def test_the_shell_sees_exit_code_1_and_no_traceback(tmp_path):
    run = subprocess.run(
        [sys.executable, "scripts/train.py", "--task", "cartpol-balance", "--logdir", tmp_path],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("ValueError: no task 'cartpol-balance'")


def descriptions(config, prefix="") -> dict[str, str]:
    """What the source says below each field."""
    import ast
    import inspect

    found = {}
    body = ast.parse(inspect.getsource(type(config))).body[0].body  # type: ignore[attr-defined]
    for item, text in zip(body, body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[prefix + item.target.id] = text.value.value  # type: ignore[union-attr]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= descriptions(value, f"{field.name}.")
    return found


def test_help_names_and_explains_every_field(capsys):
    with pytest.raises(SystemExit) as end:
        train.parse(["--help"])
    assert end.value.code == 0
    # without frames, colours and line breaks
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    told = descriptions(Config())
    assert told.keys() == flatten(Config()).keys()
    for name, help in told.items():
        flag = f"--{name}".replace("_", "-").rstrip("-")
        assert flag in text.replace("_", "-"), name
        assert " ".join(help.split()) in text, name
    assert "--preset {size1m," in text and "--recipe {dmc_proprio,dmc_vision}" in text


OTHER = {"task": "walker-walk", "obs": "pixels", "size": 32, "camera": 1, "precision": "bfloat16",
         "strides": "4,4", "average": 0.5, "jump.chunk": "flat", "replay.tick": 2,
         "world.deter": 64, "world.blocks": 2, "world.bins": 21,
         "behaviour.bins": 21, "behaviour.gradient": "dynamics"}  # fmt: skip


GUESSES = {"world.ensemble": 5}
NEEDS = {"explore_steps": {**GUESSES, "prefill": 0}, "behaviour.pessimism": GUESSES,
         "behaviour.trust_horizon": {**GUESSES, "eval_episodes": 5}}  # fmt: skip


def other(name: str, value: typing.Any) -> typing.Any:
    """Another value that may stand there: shares and rates shrink, counts grow."""
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) and 0 < value <= 1 else value + 1


@pytest.mark.parametrize("name", flatten(Config()))
def test_every_field_can_be_set_from_the_command_line(name):
    debug, flags = preset("debug"), ["--preset", "debug"]
    for path, needed in NEEDS.get(name, {}).items():
        debug, flags = with_field(debug, path, needed), [*flags, f"--{path}", str(needed)]
    value = other(name, flatten(debug)[name])
    assert value != flatten(debug)[name]
    config, _ = train.parse([*flags, f"--{name}", str(value)])
    # windows grow with the levels
    wanted = with_levels(debug, value, debug.strides) if name == "levels" else debug
    assert config == with_field(wanted, name, value)


def test_what_is_made_of_doubt_has_short_names():
    flags = ["--preset", "debug", "--world.ensemble", "5", "--eval_episodes", "5"]
    config, _ = train.parse([*flags, "--pessimism", "0.1", "--trust-horizon", "0.5"])
    assert (config.behaviour.pessimism, config.behaviour.trust_horizon) == (0.1, 0.5)
    assert config.explore_steps == 0
    assert train.parse([*flags, "--explore"])[0].explore_steps == config.steps
    assert train.parse([*flags, "--explore-steps", "500"])[0].explore_steps == 500


def test_pixels_are_seen_without_what_is_for_states(capsys):
    config, _ = train.parse(["--preset", "cpu", "--obs", "pixels"])
    assert config == preset("cpu", obs="pixels")
    with pytest.raises(SystemExit):
        train.parse(["--preset", "cpu", "--obs", "pixels", "--world.residual", "True"])
    assert "--world.residual" in capsys.readouterr().err


@pytest.mark.parametrize("recipe, obs", [("dmc_proprio", "pixels"), ("dmc_vision", "state")])
def test_the_small_preset_says_which_recipe_an_observation_breaks(recipe, obs):
    with pytest.raises(ValueError, match=f"recipe {recipe} needs --obs"):
        train.parse(["--preset", "cpu", "--recipe", recipe, "--obs", obs])


def test_the_logdir_is_named_after_task_and_seed():
    _, logdir = train.parse(["--task", "dmc/walker-walk-v0", "--seed", "3"])
    assert logdir == Path("runs/dmc-walker-walk-v0-3")


@pytest.mark.slow
@pytest.mark.skipif(not envs.video_available(), reason="OpenGL is missing")
def test_a_video_ends_the_run(tmp_path, tiny, cli):
    import imageio.v3 as iio

    short = "--steps 200 --eval_every 0 --video True --logdir".split()
    assert cli("train.py", *tiny, *short, tmp_path) == 0
    frames = iio.imread(tmp_path / "video.mp4")
    assert frames.shape == (251, 240, 320, 3) and frames.std() > 1
