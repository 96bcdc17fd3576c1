import json
import math

import pytest

from dreamer_h.presets import preset, with_levels, with_settings
from scripts import benchmark_speed

TINY = "world.deter=8 world.hidden=8 world.units=8 world.groups=2 world.blocks=2 world.bins=9"
TINY += " behaviour.units=8 behaviour.bins=9 behaviour.imagine_length=3"
TINY += " replay.batch=2 replay.length=4"


def test_rows_hold_the_times_and_the_rates_that_follow():
    times = {"median": 2.0, "min": 1.0, "max": 4.0}
    found = {"preset": "size1m", "starts": 10, "imagined_steps": 80, "seconds_per_update": times}
    found["gradient_steps"] = 1
    found["profile"] = {"imagination": {"median": 0.5, "min": 0.25, "max": 1.0}}
    rows = [[row[k] for k in ("x", "lo", "value", "hi")] for row in benchmark_speed.rows(found)]
    assert rows == [[None, 1.0, 2.0, 4.0], [None, 20.0, 40.0, 80.0], [10, 80.0, 160.0, 320.0]]
    # an update that takes four gradient steps imagines four times as much
    _, often, alone = benchmark_speed.rows(found | {"gradient_steps": 4})
    assert (often["value"], alone["value"]) == (160.0, 160.0)


@pytest.mark.parametrize(
    "changes, paths, steps",
    [
        ({}, 256, 256 * 15),
        ({"paths": 64, "gradient_steps": 4}, 64, 64 * 15),
        ({"levels": 2, "worker_waypoints": 96}, 32, (32 + 96) * 8),
        ({"levels": 2, "worker_waypoints": 96, "paths": 64}, 64, (64 + 96) * 8),
    ],
)
def test_what_a_gradient_step_imagines(changes, paths, steps):
    levels = changes.get("levels", 1)
    own = {"paths": 0} | {name: of for name, of in changes.items() if name != "levels"}
    config = with_levels(preset("cpu"), levels, "8,8")
    config = with_settings(config, [f"behaviour.{name}={of}" for name, of in own.items()])
    assert benchmark_speed.imagined_paths(config) == paths
    assert benchmark_speed.imagined_steps(config) == steps


@pytest.mark.slow
def test_it_prints_json_and_writes_rows(tmp_path, capsys):
    path = tmp_path / "new" / "rows.json"
    arguments = ["--preset", "debug", "--updates", "2", "--obs", "3", "--action", "2"]
    assert benchmark_speed.main([*arguments, "--rows", str(path), "--set", *TINY.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["starts"] == 8 and found["imagine_length"] == 3
    seconds = found["seconds_per_update"]
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
    assert math.isclose(
        found["imagined_steps_per_second"]["in_updates"], 24 / seconds["median"], rel_tol=1e-9
    )
    profile = found["profile"]
    parts = profile["imagination"]["multiply_adds"] + profile["behaviour"]["multiply_adds"]
    both = profile["imagination_and_behaviour"]["multiply_adds"]
    assert parts < both < 1.5 * parts  # with the replayed value
    assert profile["update"]["multiply_adds"] > profile["world"]["multiply_adds"] + parts
    rows = json.loads(path.read_text())
    assert [(row["what"], row["variant"], row["x"]) for row in rows] == [
        ("seconds_per_update", "debug", None),
        ("steps_per_second", "debug", None),
        ("steps_per_second", "debug", 8),
    ]
    assert all(row["lo"] <= row["value"] <= row["hi"] for row in rows)
