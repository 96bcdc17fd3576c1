"""The open-loop picture as a film: real beside imagined, one frame an agent step."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dreamer_h.train.evaluation.openloop import OpenLoop
from dreamer_h.train.evaluation.openloop_figure import picture

CURSOR = np.array([220, 30, 30], np.uint8)
BORDERS = {0: (128, 128, 128), 1: (44, 160, 44), 2: (214, 39, 40), 3: (148, 103, 189)}
BORDER = 3  # pixels
HEIGHT = 192  # of a film of images, at least


def film(loop: OpenLoop, camera: np.ndarray | None = None) -> np.ndarray:
    """Frames (T+1, height, width, 3). `camera` (T+1, height, width, 3) are those of reality.

    Of states: the signals with a cursor, beside the camera where there is one. Of pixels: real,
    imagined and error; a coloured border is a waypoint of that level, a gray one the context.
    """
    if loop.obs.ndim == 4:
        return _images(loop)
    return swept(picture(loop), len(loop.obs), loop.dt, camera)


def swept(figure: Figure, steps: int, dt: float, camera: np.ndarray | None) -> np.ndarray:
    """Frames of a figure over `steps` times, `dt` seconds apart, with a cursor that moves along,
    beside those of the camera where there is one."""
    drawn = _drawn(figure)
    frames = np.repeat(drawn[None], steps, axis=0)
    for axis in figure.axes:
        if not axis.axison:
            continue
        box = axis.get_window_extent()
        rows = slice(int(len(drawn) - box.y1), int(len(drawn) - box.y0))
        for step in range(steps):
            x = int(axis.transData.transform((step * dt, 0.0))[0])
            frames[step, rows, x - 1 : x + 1] = CURSOR
    if camera is None:
        return frames
    times = max(1, len(drawn) // camera.shape[1])
    camera = camera.repeat(times, axis=1).repeat(times, axis=2)[:, : len(drawn)]
    missing = len(drawn) - camera.shape[1]
    camera = np.pad(camera, [(0, 0), (missing // 2, missing - missing // 2), (0, 0), (0, 0)])
    return np.concatenate([camera, frames], axis=2)


def _drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _images(loop: OpenLoop) -> np.ndarray:
    real = loop.obs.astype(np.float32)
    guess = real.copy()
    guess[loop.context :] = loop.imagined.mean(axis=0)
    error = np.abs(real - guess).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    panels = np.clip(np.stack([real, guess, error]), 0, 255).astype(np.uint8)
    times = max(1, HEIGHT // panels.shape[2])
    panels = panels.repeat(times, axis=2).repeat(times, axis=3)
    stood = {loop.context + int(step): mark.level for mark in loop.marks for step in mark.steps}
    for step in range(len(real)):
        level = stood.get(step, 0 if step < loop.context else None)
        if level is not None:
            _framed(panels[1, step], BORDERS[min(level, 3)])
    return np.concatenate(list(panels), axis=2)


def _framed(image: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draws a border, in place."""
    for part in (image[:BORDER], image[-BORDER:], image[:, :BORDER], image[:, -BORDER:]):
        part[:] = colour
