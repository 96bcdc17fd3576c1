import dataclasses

import numpy as np
import pytest
import tiny

from dreamer_h.config import Config, JumpConfig, ReplayConfig
from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.evaluation.subgoal_film import subgoal_film, subgoal_picture
from dreamer_h.train.state import init_agent

STEPS = 7
CONFIG = Config(
    levels=2, strides="2", behaviour=tiny.BEHAVIOUR,
    world=dataclasses.replace(tiny.WORLD, residual=True, learned_scale=True),
    jump=JumpConfig(deter=8, hidden=8, units=8, groups=2, chunk_units=8),
    replay=ReplayConfig(batch=2, length=8),
)  # fmt: skip
PIXELS = dataclasses.replace(CONFIG, obs="pixels", size=16, world=tiny.WORLD)


def played(obs: np.ndarray, anchor: int, frames=None) -> Episode:
    rng = np.random.default_rng(1)
    intent = rng.normal(size=(STEPS, anchor)).astype(np.float32)
    action, reward = np.zeros((STEPS, 2), np.float32), np.zeros(STEPS + 1, np.float32)
    return Episode(False, obs, action, reward, frames, intent)


@pytest.mark.slow
def test_a_film_of_states_has_the_camera_beside_the_signals():
    agent = tiny.weights(lambda: init_agent(tiny.STATE, tiny.ACTION, CONFIG))
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(STEPS + 1, 3)).astype(np.float32)
    camera = rng.integers(0, 255, (STEPS + 1, 60, 80, 3), dtype=np.uint8)
    anchor = CONFIG.world.groups * CONFIG.world.classes + 3
    names = ["a", "b", "c"]
    alone = subgoal_film(agent, played(obs, anchor), names, 0.1)
    both = subgoal_film(agent, played(obs, anchor, camera), names, 0.1)
    assert alone is not None and both is not None
    assert alone.shape[0] == STEPS + 1 and both.shape[2] > alone.shape[2]
    assert np.any(alone[0] != alone[5])  # the cursor moves
    assert subgoal_film(agent, Episode(False, obs, obs[1:], obs[:, 0], None), names, 0.1) is None


@pytest.mark.slow
def test_subgoals_of_images_are_pictures():
    agent = tiny.weights(lambda: init_agent(tiny.PIXELS, tiny.ACTION, PIXELS))
    obs = np.random.default_rng(0).integers(0, 255, (STEPS + 1, 16, 16, 3), dtype=np.uint8)
    anchor = PIXELS.world.groups * PIXELS.world.classes
    frames = subgoal_film(agent, played(obs, anchor), [], 0.1)
    assert frames is not None and frames.shape[0] == STEPS + 1
    assert frames.shape[2] == 2 * frames.shape[1]


def test_a_subgoal_is_drawn_where_it_should_be_reached():
    obs = np.zeros((STEPS + 1, 1), np.float32)
    goals = np.arange(STEPS, dtype=np.float32)[:, None]
    figure = subgoal_picture(played(obs, 3), goals, ["x"], 0.5, 2)
    marks = figure.axes[0].lines[1]
    np.testing.assert_allclose(marks.get_xdata(), [1.0, 2.0, 3.0, 3.5])  # a last one is cut short
    np.testing.assert_allclose(marks.get_ydata(), [0.0, 2.0, 4.0, 6.0])
