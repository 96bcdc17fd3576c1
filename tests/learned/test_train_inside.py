"""Agents of other libraries learn inside and play outside; `make test-agents`."""

import json

import numpy as np
import pytest


@pytest.mark.parametrize("library, agent", [("sb3", "agent.zip"), ("rejax", "agent.msgpack")])
def test_an_agent_is_trained_inside_and_played_outside(cli, run, tmp_path, library, agent):
    pytest.importorskip({"sb3": "stable_baselines3"}.get(library, library))
    sizes = ("--steps", 64, "--envs", 8, "--episodes", 1, "--out", tmp_path)
    sizes += ("--rows", tmp_path / "rows.json", "--algorithm", f"{library}-ppo")
    assert cli("train_inside.py", "--run", run, *sizes) == 0
    assert (tmp_path / agent).stat().st_size > 1000
    found = json.loads((tmp_path / "returns.json").read_text())
    assert len(found["inside"]) == 8 and len(found["real"]) == 1
    assert 0 <= found["real"][0] <= 1000
    told = {row["what"]: row["value"] for row in json.loads((tmp_path / "rows.json").read_text())}
    assert told["return_inside"] == pytest.approx(np.mean(found["inside"]))


def test_environments_that_do_not_divide_a_rollout_are_refused(cli, run, tmp_path):
    pytest.importorskip("rejax")
    sizes = ("--algorithm", "rejax-ppo", "--envs", 10, "--out", tmp_path)
    assert "a power of two, like 8" in str(cli("train_inside.py", "--run", run, *sizes))
