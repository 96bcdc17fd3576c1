"""A level for a frozen run: trained, kept and found by itself."""

import json
import shutil

import chex
import jax
import numpy as np
import pytest
import toy

from dreamer_h.fields import flatten
from dreamer_h.train.add_level import add_level, with_one_more
from dreamer_h.train.checkpoints import level_files
from dreamer_h.train.checkpoints.load import load_agent
from dreamer_h.world.upper.hierarchy import Hierarchy
from dreamer_h.world.world import World

UPDATES = [0.0, 0.5]  # shares of a budget of two


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer = toy.trainer(folder)
    toy.finish(trainer)
    (folder / "config.json").write_text(json.dumps(flatten(trainer.config)))
    return folder


def add(run, logdir, stride):
    return add_level(run, logdir, stride, UPDATES, lambda **_: toy.Plain(), seed=1)


@pytest.fixture(scope="module")
def added(run, tmp_path_factory):
    logdir = tmp_path_factory.mktemp("added") / "with a level"
    return logdir, add(run, logdir, 2)


@pytest.mark.slow
def test_a_level_is_added_and_every_lower_parameter_stays_bit_for_bit(run, added):
    logdir, crossovers = added
    config, agent, manifest = load_agent(logdir)
    assert config.levels == 2 and config.jumps == (2,)
    assert isinstance(agent.world, Hierarchy) and [one.level for one in crossovers] == [1]
    assert [one["level"] for one in manifest["crossovers"]] == [1]
    _, below, _ = load_agent(run)
    assert isinstance(below.world, World)
    chex.assert_trees_all_equal(agent.world.base, below.world)
    chex.assert_trees_all_equal(agent.behaviour, below.behaviour)
    # the run itself is as it was, and the new folder needs nothing of it
    copy = logdir.parent / "copy"
    shutil.copytree(logdir, copy)
    again = load_agent(copy)[1]
    chex.assert_trees_all_equal(agent, again)


def test_a_run_that_has_finished_no_episode_is_refused(tmp_path):
    endless = lambda: toy.Toy(length=1000)
    trainer = toy.trainer(tmp_path / "run", endless, steps=100)
    toy.finish(trainer)
    (tmp_path / "run" / "config.json").write_text(json.dumps(flatten(trainer.config)))
    with pytest.raises(ValueError, match="has no finished episode in its replay"):
        add(tmp_path / "run", tmp_path / "added", 2)
    assert not (tmp_path / "added").exists()


@pytest.mark.slow
def test_a_third_level_leaves_the_second_as_it_is(added, tmp_path):
    logdir, _ = added
    crossovers = add(logdir, tmp_path / "third", 2)
    assert [one.level for one in crossovers] == [1, 2]
    config, agent, _ = load_agent(tmp_path / "third")
    assert config.jumps == (2, 4) and isinstance(agent.world, Hierarchy)
    below = load_agent(logdir)[1].world
    assert isinstance(below, Hierarchy)
    lower = lambda world: (world.base, world.jumps[0], world.see, world.arrive)
    chex.assert_trees_all_equal(lower(agent.world), lower(below))
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), agent.world.jumps[1], below.jumps[0]
    )
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.slow
def test_a_level_that_was_trained_on_others_is_refused(run, added, tmp_path):
    logdir, _ = added
    _, agent, manifest = load_agent(run)
    path = level_files.level_path(logdir, 1)
    other = jax.tree.map(lambda leaf: leaf + 1e-6, agent.world)
    with pytest.raises(ValueError, match="was trained on other levels"):
        level_files.load_level(path, other, manifest)
    damaged = tmp_path / "level1.ckpt"
    damaged.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        level_files.load_level(damaged, agent.world, manifest)


def test_the_stride_counts_steps_of_the_level_below(run):
    config = load_agent(run)[0]
    two = with_one_more(config, 4)
    assert (two.levels, two.jumps, two.replay.length) == (2, (4,), 16)
    three = with_one_more(two, 2)
    assert (three.levels, three.jumps, three.replay.length) == (3, (4, 8), 32)


@pytest.mark.slow
def test_windows_longer_than_the_episodes_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="the longest episode has 20 agent steps"):
        add(run, tmp_path / "long", 8)
    assert not (tmp_path / "long").exists()
