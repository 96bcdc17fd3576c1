import errno
import json
import warnings

import imageio.v3 as iio
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX.proto import layout_pb2

from dreamer_h.train import logger as module
from dreamer_h.train.logger import Counts, Logger


def at(update: int) -> Counts:
    return Counts(env_step=20 * update, agent_step=10 * update, update=update, seconds=0.5 * update)


def lines(folder):
    def refuse(word):
        raise ValueError(f"{word} is not JSON")

    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def events(folder) -> EventAccumulator:
    guidance = {"images": 0, "scalars": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=guidance).Reload()


def test_scalars_are_read_back_from_both_files(tmp_path):
    log = Logger(tmp_path / "run")
    log.scalars(at(1), {"world/kl/0": jnp.float32(0.5), "eval/return_mode": np.float64(100.0)})
    log.scalars(at(2), {"world/kl/0": float("nan"), "grad/norm": float("-inf")})
    log.close()
    first, second = lines(tmp_path / "run")
    assert first == {
        "env_step": 20,
        "agent_step": 10,
        "update": 1,
        "seconds": 0.5,
        "world/kl/0": 0.5,
        "eval/return_mode": 100.0,
    }
    assert (second["world/kl/0"], second["grad/norm"]) == ("nan", "-inf")
    read = events(tmp_path / "run")
    points = read.Scalars("world/kl/0")
    assert [p.step for p in points] == [20, 40]
    assert points[0].value == 0.5 and np.isnan(points[1].value)


def test_pictures_histograms_text_and_layout_are_read_back(tmp_path):
    log = Logger(tmp_path)
    frames = np.random.default_rng(0).integers(0, 255, (4, 16, 24, 3), np.uint8)
    log.image(at(1), "eval/frame", frames[0])
    log.video(at(1), "eval/video", frames, fps=10)
    fig = Figure(figsize=(2, 1), dpi=50)
    fig.subplots().plot([0, 1])
    log.figure(at(1), "horizon/error", fig)
    log.histogram(at(1), "world/code", np.array([[0.0, 1.0], [1.0, np.nan]]))
    log.histogram(at(1), "world/empty", np.array([np.nan]))
    log.text("config", "| key | value |\n|---|---|\n| seed | 0 |")
    log.close()
    read = events(tmp_path)
    png = iio.imread(read.Images("eval/frame")[0].encoded_image_string)
    np.testing.assert_array_equal(png, frames[0])
    video = read.Images("eval/video")[0]
    assert video.encoded_image_string[:6] == b"GIF89a"
    assert (video.width, video.height, video.step) == (24, 16, 20)
    assert iio.imread(video.encoded_image_string, plugin="pillow").shape == frames.shape
    assert iio.immeta(video.encoded_image_string, plugin="pillow")["duration"] == 100
    assert iio.imread(read.Images("horizon/error")[0].encoded_image_string).shape == (50, 100, 3)
    histogram = read.Histograms("world/code")[0].histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (3, 0.0, 1.0)
    assert "world/empty" not in read.Tags()["histograms"]
    text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert b"| seed | 0 |" in text
    layout = layout_pb2.Layout()  # type: ignore[attr-defined]
    layout.ParseFromString(read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [c.title for c in layout.category][:2] == ["return", "world"]
    assert "custom_scalars__config__" in read.PluginTagToContent("custom_scalars")


def test_pixels_must_be_uint8_with_three_channels(tmp_path):
    log = Logger(tmp_path)
    for wrong in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)):
        with pytest.raises(Exception, match="type"):
            log.image(at(1), "eval/frame", wrong)
    log.close()


def test_a_resumed_run_has_one_curve_and_no_torn_line(tmp_path):
    log = Logger(tmp_path)
    for update in range(1, 6):
        log.scalars(at(update), {"world/recon": update})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"env_step": 120, "upd')
    log = Logger(tmp_path)
    log.resume_at(at(3).agent_step)
    for update in (4, 5, 6):
        log.scalars(at(update), {"world/recon": 10 * update})
    log.close()
    assert [r["update"] for r in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
    read = events(tmp_path).Scalars("world/recon")
    assert [(p.step, p.value) for p in read] == [
        (20, 1.0),
        (40, 2.0),
        (60, 3.0),
        (80, 40.0),
        (100, 50.0),
        (120, 60.0),
    ]


def test_without_a_checkpoint_all_is_taken_back(tmp_path):
    log = Logger(tmp_path)
    log.scalars(at(0), {"world/recon": 1.0})
    log.close()
    log = Logger(tmp_path)
    log.resume_at(-1)
    log.scalars(at(0), {"world/recon": 2.0})
    log.close()
    assert [r["world/recon"] for r in lines(tmp_path)] == [2.0]
    read = events(tmp_path)
    assert [p.value for p in read.Scalars("world/recon")] == [2.0]
    assert "custom_scalars__config__" in read.Tags()["tensors"]


class Disk:
    """A file on a disk that is full from some point on: half a record fits, then none."""

    def __init__(self, file):
        self.file = file
        self.full = False

    def write(self, data):
        if self.full and len(data) < 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data[: len(data) // 2] if self.full else data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_warns_once_and_leaves_whole_records(tmp_path, monkeypatch):
    disks = []

    def opened(*args, **kwargs):
        disks.append(Disk(open(*args, **kwargs)))
        return disks[-1]

    monkeypatch.setattr(module, "open", opened, raising=False)
    log = Logger(tmp_path)
    log.scalars(at(1), {"world/recon": 1.0})
    for disk in disks:
        disk.full = True
    with pytest.warns(UserWarning, match="metrics are incomplete"):
        log.scalars(at(2), {"world/recon": 2.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.scalars(at(3), {f"world/recon/{i}": 3.0 for i in range(30)})
        for disk in disks:
            disk.full = False
        log.scalars(at(4), {"world/recon": 4.0})
        log.close()
    assert [r["update"] for r in lines(tmp_path)] == [1, 4]
    assert [p.value for p in events(tmp_path).Scalars("world/recon")] == [1.0, 4.0]
