import json
import math

import jax
import jax.numpy as jnp
import pytest

from scripts import benchmark_speed

TINY = "world.deter=8 world.hidden=8 world.units=8 world.groups=2 world.blocks=2 world.bins=9"
TINY += " behaviour.units=8 behaviour.bins=9 behaviour.imagine_length=3"
TINY += " replay.batch=2 replay.length=4"


def count(function, *inputs):
    return benchmark_speed.multiply_adds(jax.jit(function).trace(*inputs).jaxpr.jaxpr)


def test_multiply_adds_of_products_loops_and_gradients():
    weight, x = jnp.ones((5, 5)), jnp.ones((3, 5))
    once = 3 * 5 * 5
    assert count(lambda w, x: jax.nn.silu(x @ w), weight, x) == once
    loop = lambda w, x: jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=7)[0]
    assert count(loop, weight, x) == 7 * once
    # backwards: one product for the carry, one for the weight
    assert count(jax.grad(lambda w, x: loop(w, x).sum()), weight, x) == 3 * 7 * once
    batched = jax.vmap(loop, in_axes=(None, 0))
    assert count(batched, weight, jnp.ones((4, 3, 5))) == 4 * 7 * once


def test_multiply_adds_of_a_convolution():
    kernel, images = jnp.ones((5, 5, 3, 8)), jnp.ones((2, 16, 16, 3))
    convolve = lambda kernel, images: jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert count(convolve, kernel, images) == 2 * 16 * 16 * 8 * 5 * 5 * 3


def test_products_in_a_loop_of_unknown_length_are_refused():
    loop = lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c, x)
    with pytest.raises(ValueError, match="while loop"):
        count(loop, jnp.ones((2, 2)))


def test_rows_hold_the_times_and_the_rates_that_follow():
    times = {"median": 2.0, "min": 1.0, "max": 4.0}
    found = {"preset": "size1m", "starts": 10, "imagined_steps": 80, "seconds_per_update": times}
    found["profile"] = {"imagination": {"median": 0.5, "min": 0.25, "max": 1.0}}
    rows = [[row[k] for k in ("x", "lo", "value", "hi")] for row in benchmark_speed.rows(found)]
    assert rows == [[None, 1.0, 2.0, 4.0], [None, 20.0, 40.0, 80.0], [10, 80.0, 160.0, 320.0]]


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
