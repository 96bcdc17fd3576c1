"""Films as files."""

import imageio.v3 as iio
import numpy as np

from dreamer_h.train.evaluation.video import write_video


def test_a_film_keeps_its_size_and_says_nothing(tmp_path, caplog):
    frames = np.zeros((5, 63, 101, 3), np.uint8)
    frames[:, :, 50:] = 200
    write_video(tmp_path / "a film.mp4", frames, 10)
    seen = iio.imread(tmp_path / "a film.mp4")
    assert seen.shape == (5, 62, 100, 3) and not caplog.records
    np.testing.assert_allclose(seen, frames[:, :62, :100], atol=30)
