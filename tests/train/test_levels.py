"""A run whose simulator has levels, from the command's config to its last record."""

import json

import numpy as np
import pytest
import toy

from dreamer_h.config import flatten
from dreamer_h.train.load import load_agent
from dreamer_h.world.hierarchy import Hierarchy


@pytest.mark.slow
def test_a_run_with_two_levels_trains_saves_and_comes_back(tmp_path):
    trainer = toy.trainer(
        tmp_path, levels=2, strides="4", replay={"length": 8, "batch": 4}, steps=160, prefill=40
    )
    toy.finish(trainer)
    (tmp_path / "config.json").write_text(json.dumps(flatten(trainer.config)))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {name: value for record in records for name, value in record.items()}
    for name in ("obs", "code", "selffed", "dyn"):
        assert np.isfinite(found[f"world/level1/{name}"]), name
    assert found["train/skipped"] == 0 and np.isfinite(found["world/arrive"])
    config, agent, _ = load_agent(tmp_path)
    assert config.levels == 2 and isinstance(agent.world, Hierarchy)
