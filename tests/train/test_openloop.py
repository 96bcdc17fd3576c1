"""The open-loop picture and its film."""

import dataclasses

import jax.random as jr
import numpy as np
import pytest
import tiny

from dreamer_h.train.evaluation.evaluate import Episode
from dreamer_h.train.evaluation.openloop import Marks, OpenLoop, open_loop
from dreamer_h.train.evaluation.openloop_figure import picture
from dreamer_h.train.evaluation.openloop_film import BORDERS, film
from dreamer_h.world.world import World

CONTEXT, AHEAD = 4, 12


def loop(shape: tuple[int, ...]) -> OpenLoop:
    rng = np.random.default_rng(0)
    pixels = len(shape) == 3
    draw = lambda *lead: rng.uniform(0, 255 if pixels else 1, (*lead, *shape))
    obs = draw(CONTEXT + AHEAD + 1)
    return OpenLoop(
        obs=obs.astype(np.uint8) if pixels else obs,
        reward=np.zeros(CONTEXT + AHEAD + 1),
        action=np.zeros((2, AHEAD, 1)),
        imagined=draw(2, AHEAD + 1),
        imagined_reward=np.zeros((2, AHEAD + 1)),
        marks=(Marks(1, np.array([0, 4, 8, 12]), draw(2, 4)),),
        names=tuple(f"signal {i}" for i in range(shape[0])),
        dt=0.1,
    )


def test_signals_have_a_cursor_beside_the_camera():
    camera = np.zeros((CONTEXT + AHEAD + 1, 24, 32, 3), np.uint8)
    plain, beside = film(loop((3,))), film(loop((3,)), camera)
    assert plain.shape[0] == CONTEXT + AHEAD + 1 and plain.dtype == np.uint8
    assert beside.shape[2] > plain.shape[2] and beside.shape[1] == plain.shape[1]
    assert np.any(plain[2] != plain[9])  # the cursor moves


def test_images_have_the_border_of_their_level():
    frames = film(loop((16, 16, 3)))
    side = frames.shape[1]
    assert frames.shape == (CONTEXT + AHEAD + 1, side, 3 * side, 3)
    corner = frames[:, 0, side]  # of the imagined image
    assert [tuple(corner[step]) for step in (0, CONTEXT, CONTEXT + 4)] == [
        BORDERS[0], BORDERS[1], BORDERS[1]
    ]  # fmt: skip
    assert tuple(corner[CONTEXT + 1]) not in BORDERS.values()


@pytest.mark.parametrize("shape", [(3,), (16, 16, 3)])
def test_a_picture_names_what_it_shows(shape):
    titles = [axis.get_title() for axis in picture(loop(shape)).axes]
    assert ("signal 0" in titles) if len(shape) == 1 else (titles[0] == "+0.00 s, level 1")


def test_an_episode_that_ends_too_soon_is_refused():
    world = tiny.weights(lambda: World(tiny.STATE, tiny.ACTION, tiny.WORLD, key=jr.key(0)))
    short = Episode(False, np.zeros((11, 3)), np.zeros((10, 1)), np.zeros(11), None)
    with pytest.raises(ValueError, match="has 10 agent steps; 4 of context and 7 imagined need 11"):
        open_loop(world, short, ["a"], 0.1, context=4, length=7)


def test_an_angle_goes_on_from_the_turn_that_was_seen():
    seen = dataclasses.replace(tiny.STATE, angles=(1,))
    config = dataclasses.replace(tiny.WORLD, residual=True)
    world = tiny.weights(lambda: World(seen, tiny.ACTION, config, key=jr.key(0)))
    window = tiny.window(steps=10)
    turned = np.asarray(window.obs) + np.array([0.0, 40 * np.pi, 0.0], np.float32)
    ask = lambda obs: open_loop(
        world, Episode(False, np.asarray(obs), np.asarray(window.action),
        np.asarray(window.reward), None), ["a", "b", "c"], 0.1, length=6, context=4,
    ).imagined  # fmt: skip
    found, plain = ask(turned), ask(window.obs)
    np.testing.assert_allclose(found, plain + turned[4] - np.asarray(window.obs)[4], atol=1e-3)
    assert (np.abs(np.diff(found[..., 1], axis=1)) <= np.pi + 1e-3).all()
