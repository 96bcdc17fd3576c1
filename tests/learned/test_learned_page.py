"""The recipes of docs/learned.md run as they are written."""

from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "learned.md").read_text()


def recipe(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("```python\n")[1].split("```")[0]


def played(title: str, run: str) -> dict:
    names: dict = {"RUN": run}
    exec(compile(recipe(title), "docs/learned.md", "exec"), names)
    return names


def test_a_plain_loop(run):
    assert played("A plain loop", run)["info"]["steps"] == 250


def test_pure_jax(run):
    names = played("Pure jax", run)
    assert names["reward"].shape == (64, 100) and not names["done"].any()


def test_stable_baselines3(run):
    pytest.importorskip("stable_baselines3")
    assert played("Stable-Baselines3", run)["model"].num_timesteps == 64 * 32
