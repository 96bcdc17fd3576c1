"""When a level is better than the one below it."""

import jax.random as jr
import numpy as np
import pytest
import recorded
import tiny

from dreamer_h.horizon.levels import crossover
from dreamer_h.horizon.levels.crossover import Crossover, first_lasting, handed_over
from dreamer_h.horizon.scoring.score import benchmark
from dreamer_h.presets import preset, with_levels
from dreamer_h.types import Observed
from dreamer_h.world.upper.hierarchy import Hierarchy, make_world


@pytest.mark.parametrize("gain, wanted", [
    ([1, 1, 1, 1, 1, 1], 0),
    ([-1, -1, 1, 1, 1, 1], 0),  # what is lost at first is won back
    ([-3, -3, 1, 1, 1, 1], 2),
    ([-1, -1, -1, -1, 2, -1], 4),
    ([3, 3, 3, 3, -1, -1], None),  # better at first only: nothing to jump to
    ([-1, -1, -1, -1, -1, -1], None),
    ([0, 0, 0, 0, 0, 0], None),
])  # fmt: skip
def test_a_crossover_lasts(gain, wanted):
    assert first_lasting(np.array(gain, float), 2) == wanted


def test_levels_without_a_sure_crossover_are_never_reached():
    found = [Crossover(1, 16, 8, 24), Crossover(2, 0, 0, None), Crossover(3, None, None, None)]
    assert handed_over(found) == (24, None, None)
    assert [one.accepted for one in found] == [True, False, False]
    assert "from 16 agent steps on [95 % interval 8 to 24]; used from 24" in found[0].described()
    assert "[95 % interval 0 to never]; not surely; not used" in found[1].described()
    assert crossover.from_json(crossover.as_json(found)) == found


def test_every_level_is_measured_against_the_one_below(tmp_path):
    bench = benchmark(recorded.driven(tmp_path / "data"), {})
    config = with_levels(preset("debug"), 2, "4")
    episode = bench.recording.train[0]
    obs = Observed(episode.obs.shape[1:], episode.obs.dtype)
    make = lambda: make_world(obs, episode.action.shape[-1], config, key=jr.key(0))
    world = tiny.weights(make)
    assert isinstance(world, Hierarchy)
    (found,) = crossover.measured(world, bench.calibration, bench.scale, samples=3)
    assert found.level == 1
    if found.steps is not None:
        assert found.steps % 4 == 0 and found.lo is not None
