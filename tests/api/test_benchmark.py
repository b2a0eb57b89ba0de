"""`visionkit benchmark`: what it measures, on a backend of known speed; and the command, on the tests' own model."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from tiny import TinyRun

import visionkit
from visionkit.api.benchmark import STEPS, Benchmark, Spread, draw_picture
from visionkit.classes import ClassTable
from visionkit.cli.benchmark import benchmark_table
from visionkit.errors import DataError, UsageError
from visionkit.imaging.reader import read_image
from visionkit.predict.backend import RawDetections
from visionkit.predict.tiling import Tiling


class Slow:
    """Takes 5 ms a batch and sees nothing."""

    name, sha256, classes, image_size, runtime = "slow", "0" * 64, ClassTable((1,), ("cat",)), 64, "Python"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, images: np.ndarray, *, score: float, iou: float | None, max_det: int) -> Sequence[RawDetections]:
        self.batches.append(len(images))
        time.sleep(0.005)
        nothing = np.zeros(0, np.float32)
        return [RawDetections(nothing.reshape(0, 4), nothing, nothing.astype(np.int64))] * len(images)


def test_each_step_of_each_image_is_measured() -> None:
    backend = Slow()
    measured = visionkit.benchmark(visionkit.Detector(backend), images=6, warm_up=2, threads=3)
    assert backend.batches == [1] * 8
    assert list(measured.milliseconds) == [*STEPS, "all"]
    assert 5 <= measured.milliseconds["model"].median <= measured.milliseconds["model"].p90
    parts = [measured.milliseconds[step].median for step in STEPS]
    assert min(parts) > 0
    assert measured.milliseconds["all"].p90 >= max(parts)
    assert 0 < measured.images_per_second < 200  # 5 ms, and what is not the model's
    assert (measured.model, measured.runtime, measured.threads, measured.sources) == ("slow", "Python", 3, 1)
    assert json.loads(json.dumps(measured.to_json()))["milliseconds"]["model"].keys() == {"median", "p90"}


def test_an_image_of_a_batch_takes_its_share() -> None:
    backend = Slow()
    measured = visionkit.benchmark(visionkit.Detector(backend), images=7, warm_up=3, batch=5)
    assert backend.batches == [3, 5, 2]
    assert measured.milliseconds["model"].median < 4  # 5 ms / 5, of five of the seven


def test_given_pictures_take_turns(tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((32, 32, 3), i, np.uint8))
    measured = visionkit.benchmark(visionkit.Detector(Slow()), [tmp_path], images=4, warm_up=0)
    assert (measured.sources, measured.images) == (3, 4)
    (tmp_path / "3.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"3\.png"):
        visionkit.benchmark(visionkit.Detector(Slow()), [tmp_path], images=4, warm_up=0)


def test_a_model_that_learnt_from_tiles_is_measured_in_them(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((64, 96, 3), np.uint8))
    backend = Slow()
    detector = visionkit.Detector(backend, tiling=Tiling(64, 0.0))
    measured = visionkit.benchmark(detector, [tmp_path], images=2, warm_up=0)
    # Two tiles, and the whole image.
    assert backend.batches == [1] * 6
    assert measured.milliseconds["model"].median >= 15
    assert benchmark_table(measured).startswith("slow at 64 px in tiles of 64 px, Python with ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": 0}, "images must be at least 1, got 0; choose a larger value"),
        ({"warm_up": -1}, "warm_up must be at least 0, got -1; choose a larger value"),
        ({"batch": 0}, "batch must be at least 1, got 0; choose a larger value"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError) as error:
        visionkit.benchmark(visionkit.Detector(Slow()), **options)
    assert str(error.value) == words


def test_the_drawn_picture_is_always_the_same(tmp_path: Path) -> None:
    first, second = (draw_picture(tmp_path / name).read_bytes() for name in ("a.jpg", "b.jpg"))
    assert first == second
    pixels = read_image(tmp_path / "a.jpg")
    assert max(pixels.shape) == 640
    assert pixels.std() > 20  # it has something in it


def test_the_table() -> None:
    spreads = {step: Spread(1.25 * i, 2.5 * i) for i, step in enumerate([*STEPS, "all"], start=1)}
    measured = Benchmark("yolo/x", "", "detect", "ONNX Runtime 1.31.1", 320, 0, 4, 1, 20, 5, 1, spreads, 99.96)
    assert benchmark_table(measured).splitlines() == [
        "yolo/x at 320 px, ONNX Runtime 1.31.1 with its own number of threads on 4 cores: 20 images, one at a time, "
        "after 5",
        "ms             median      p90",
        "read             1.25     2.50",
        "preprocess       2.50     5.00",
        "model            3.75     7.50",
        "postprocess      5.00    10.00",
        "all              6.25    12.50",
        "100.0 images/s",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_the_command(command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path) -> None:
    options = ["--weights", tiny_run.result.best, "--images", 3, "--warm-up", 1, "--threads", 1, "--device", "cpu"]
    finished = command_line("benchmark", *options, "--json")
    assert (finished.code, finished.stderr) == (0, "")
    said = finished.json
    assert (said["image_size"], said["threads"], said["images"], said["batch"]) == (64, 1, 3, 1)
    assert said["runtime"].startswith("PyTorch ")
    assert said["milliseconds"]["model"]["median"] > 0
    finished = command_line("benchmark", tiny_data / "images", *options, "--batch", 2)
    assert finished.code == 0
    assert "3 images, 2 at a time, after 1" in finished.stdout.splitlines()[0]
    assert finished.stdout.splitlines()[-1].endswith(" images/s")
    refused = command_line("benchmark", "nowhere.jpg", *options)
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.error.startswith("nowhere.jpg does not exist")
