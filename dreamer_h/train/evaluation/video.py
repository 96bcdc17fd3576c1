"""Films as files."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8


def write_video(
    path: Path, frames: UInt8[np.ndarray, "L height width 3"], fps: int | float
) -> None:
    """An mp4. Encoders want even sides: an odd row or column at the edge is left out."""
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    # in blocks of 16, which is the default, other sizes would be stretched, with a warning
    iio.imwrite(path, frames[:, :height, :width], fps=fps, macro_block_size=2)
