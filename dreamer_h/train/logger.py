"""Metrics to `metrics.jsonl` and to TensorBoard.

Events are framed and appended here, with tensorboardX's records, and not by its SummaryWriter:
that one's thread dies on a full disk, and the training then waits on its queue for ever.
"""

import json
import math
import os
import struct
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c

from dreamer_h.files import replacing

# The curves that tell whether a run is well, in the order in which one asks. Tags are regexes.
LAYOUT = {
    "return": {
        "evaluation": ["Multiline", [r"eval/return_(mode|sampled)"]],
        "collection": ["Multiline", [r"collect/return"]],
    },
    "world": {
        "reconstruction": ["Multiline", [r"world/recon.*"]],
        "reward and continuation": ["Multiline", [r"world/(reward|cont)"]],
        "KL of each level": ["Multiline", [r"world/kl.*"]],
    },
    "imagined against real": {
        "return": ["Multiline", [r".*/return_(manager|imagined|inside|real)"]],
        "gap": ["Multiline", [r".*/gap_.*"]],
    },
    "manager": {
        "subgoals reached": ["Multiline", [r"eval/attained/(real|foretold|oracle_real)"]],
        "entropy, and nats from the prior": ["Multiline", [r"eval/manager/.*(entropy|nats)"]],
    },
    "error against horizon": {
        "CRPS skill": ["Multiline", [r"horizon/crps_skill/.*"]],
        "nRMSE": ["Multiline", [r"horizon/nrmse/.*"]],
        "trusted horizon": ["Multiline", [r"horizon/trusted"]],
    },
    "speed": {"speed": ["Multiline", [r"speed/.*"]]},
}


@dataclass(frozen=True)
class Counts:
    """Where a run is."""

    env_step: int  # environment steps: agent steps times the action repeat
    agent_step: int
    update: int  # gradient updates
    seconds: float  # of training, over restarts


class Logger:
    """Writes metrics, pictures and text into `logdir`, which it creates.

    Names are `room/what[/level]`. What cannot be written, on a full disk say, is left out with one
    warning: metrics are not worth the run. Records are whole or absent, and reach the kernel at
    once, so that kill -9 loses none.
    """

    def __init__(self, logdir: Path | str):
        folder = Path(logdir)
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = _Appended(folder / "metrics.jsonl")
        # nanoseconds: TensorBoard reads the files of a restarted run in the order of their names
        now = time.time_ns()
        self._events = _Appended(folder / f"events.out.tfevents.{now // 10**9}.{now}")
        self._warned = False
        self._event(Event(file_version="brain.Event:2"))
        self._summary(0, summary.custom_scalars(LAYOUT))

    def resume_at(self, agent_step: int) -> None:
        """Takes back what was written after `agent_step`; call it before anything is written.

        Also drops the torn last line of a killed process. If there is no checkpoint, -1 takes back
        all. TensorBoard hides the curves behind the last env step that is left.
        """
        kept, last = [], -1
        for line in self._lines.path.read_bytes().splitlines(keepends=True):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["agent_step"] <= agent_step and line.endswith(b"\n"):
                kept.append(line)
                last = max(last, record["env_step"])
        with self._tolerant(), replacing(self._lines.path) as file:
            file.writelines(kept)
        self._lines.close()
        self._lines.reopen()
        self._event(Event(step=last + 1, session_log=SessionLog(status=SessionLog.START)))
        self._summary(0, summary.custom_scalars(LAYOUT))  # hidden too if all is taken back

    def scalars(self, counts: Counts, values: Mapping[str, SupportsFloat]) -> None:
        """One line, and one point for each curve. nan and inf are strings in the line."""
        floats = {name: float(value) for name, value in values.items()}
        record = asdict(counts) | {
            name: value if math.isfinite(value) else str(value) for name, value in floats.items()
        }
        with self._tolerant():
            self._lines.append(json.dumps(record, allow_nan=False).encode() + b"\n")
        points = [Summary.Value(tag=name, simple_value=value) for name, value in floats.items()]
        self._summary(counts.env_step, Summary(value=points))

    def histogram(self, counts: Counts, name: str, array: Any) -> None:
        """The distribution of the finite numbers in `array`, of any shape, in 64 bins."""
        numbers = np.asarray(array, np.float64)
        finite = numbers[np.isfinite(numbers)]
        if finite.size:
            self._summary(counts.env_step, summary.histogram(name, finite, bins=64))

    def image(self, counts: Counts, name: str, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        encoded = iio.imwrite("<bytes>", pixels, extension=".png")
        self._encoded(counts, name, pixels.shape[:2], encoded)

    def figure(self, counts: Counts, name: str, fig: Figure) -> None:
        """Draws the figure with Agg, whatever the display. The caller closes it."""
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        self.image(counts, name, np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))

    def video(
        self,
        counts: Counts,
        name: str,
        frames: UInt8[np.ndarray, "T height width 3"],
        fps: int | float,
    ) -> None:
        """An animated GIF, which TensorBoard plays as an image; its clock ticks in 10 ms."""
        encoded = iio.imwrite(
            "<bytes>", frames, extension=".gif", plugin="pillow", duration=1000 / fps, loop=0
        )
        self._encoded(counts, name, frames.shape[1:3], encoded)

    def text(self, name: str, md: str) -> None:
        """Markdown that belongs to no step, as the configuration."""
        self._summary(0, summary.text(name, md))

    def flush(self) -> None:
        """Makes all of it survive a power cut."""
        with self._tolerant():
            self._lines.sync()
            self._events.sync()

    def close(self) -> None:
        self.flush()
        self._lines.close()
        self._events.close()

    def _encoded(self, counts: Counts, name: str, size: tuple, encoded: bytes) -> None:
        picture = Summary.Image(
            height=size[0], width=size[1], colorspace=3, encoded_image_string=encoded
        )
        value = Summary.Value(tag=name, image=picture)
        self._summary(counts.env_step, Summary(value=[value]))

    def _summary(self, step: int, content: Summary) -> None:
        self._event(Event(step=step, summary=content))

    def _event(self, event: Event) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        # TFRecord: length, its checksum, data, its checksum
        length = struct.pack("<Q", len(data))
        checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
        with self._tolerant():
            self._events.append(length + checksums[0] + data + checksums[1])

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(f"metrics are incomplete from here on: {error}", stacklevel=4)


class _Appended:
    """A file that only grows, by whole records."""

    def __init__(self, path: Path):
        self.path = path
        self.reopen()

    def reopen(self) -> None:
        # unbuffered: a buffer would be lost by kill -9, and torn by a full disk
        self._file = open(self.path, "ab", buffering=0)

    def append(self, record: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(record)
            if written != len(record):
                raise OSError(f"{self.path}: {written} of {len(record)} bytes written, disk full?")
        except OSError:
            self._file.truncate(start)
            raise

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
