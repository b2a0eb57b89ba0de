"""How fast a model is on this machine: latency by step, and throughput, from files to results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from visionkit.api.detect import Detector
from visionkit.data.sample_scene import SampleClass, draw_scene
from visionkit.errors import DataError, UsageError
from visionkit.predict.backend import Backend
from visionkit.predict.detect import detect_loaded, read_images
from visionkit.predict.sources import Source, find_images
from visionkit.predict.writers import save_picture

STEPS = ("read", "preprocess", "model", "postprocess")
DRAWN = (SampleClass(1, "striped disc", "disc", "stripes"), SampleClass(2, "dotted star", "star", "dots"))
LONGER_SIDE = 640
"""Of the picture that is drawn where none is given, pixels."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the milliseconds that a step took: half of the images took less than `median`, nine tenths less than `p90`."""

    median: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least one value.

        >>> Spread.of([1.0, 2.0, 3.0, 4.0, 11.0])  # 0.9 of the way from the 1st to the 5th: 4 + 0.6 * 7
        Spread(median=3.0, p90=8.2)
        """
        median, p90 = np.quantile(values, [0.5, 0.9]).round(6).tolist()
        return cls(median, p90)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, and of what.

    Args:
        model: its name.
        sha256: of its file.
        runtime: what ran it, with its version.
        image_size: side in pixels of the square network input.
        threads: asked for; 0 where the runtime chose.
        cores: CPU cores here.
        batch: images the model was handed at once.
        images: measured, after `warm_up` others.
        sources: how many files they came from.
        milliseconds: an image, by step and in all. A model that is handed several at once takes its share of their time
            for each.
        images_per_second: one after another, or a batch after another, by the clock.
        tile: side in pixels of the tiles that larger images were seen in, as the model learnt to; 0 where whole.
    """

    model: str
    sha256: str
    task: str
    runtime: str
    image_size: int
    threads: int
    cores: int
    batch: int
    images: int
    warm_up: int
    sources: int
    milliseconds: Mapping[str, Spread]
    images_per_second: float
    tile: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def benchmark(
    detector: Detector,
    sources: Sequence[str | Path] = (),
    *,
    images: int = 100,
    warm_up: int = 10,
    batch: int = 1,
    conf: float = 0.25,
    threads: int = 0,
) -> Benchmark:
    """Let a model look at pictures again and again, as `detect` does, each read from its file every time.

    Args:
        detector: as `load` gives it.
        sources: images, folders, globs and lists; where there is none, one picture that is drawn for it.
        images: how many are measured.
        warm_up: how many are not, before.
        batch: images the model is handed at once.
        conf: lowest score shown.
        threads: that the detector was loaded with, to be told.

    Raises:
        UsageError: a number is out of range.
        DataError: a source is missing or cannot be read.
    """
    for name, value, least in (("images", images, 1), ("warm_up", warm_up, 0), ("batch", batch, 1)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, got {value}; choose a larger value")
    with _pictures(sources) as paths:
        for _ in _looked_at(detector, paths, warm_up, batch, conf):
            pass
        began = perf_counter()
        taken = list(_looked_at(detector, paths, images, batch, conf))
        seconds = perf_counter() - began
    by_step = {step: [one[step] for one in taken] for step in STEPS}
    by_step["all"] = [sum(one.values()) for one in taken]
    return Benchmark(
        model=detector.backend.name,
        sha256=detector.backend.sha256,
        task=detector.task,
        runtime=runtime_of(detector.backend),
        image_size=detector.backend.image_size,
        threads=threads,
        cores=os.cpu_count() or 1,
        batch=batch,
        images=images,
        warm_up=warm_up,
        sources=len(paths),
        milliseconds={step: Spread.of(values) for step, values in by_step.items()},
        images_per_second=images / seconds,
        tile=0 if detector.tiling is None else detector.tiling.size,
    )


def runtime_of(backend: Backend) -> str:
    """What runs a model, with its version: `ONNX Runtime 1.31.1`."""
    said = getattr(backend, "runtime", None)
    return f"PyTorch {metadata.version('torch')}" if said is None else str(said)


def _looked_at(
    detector: Detector, sources: Sequence[Source], count: int, batch: int, conf: float
) -> Iterator[Mapping[str, float]]:
    """The milliseconds by step of so many images, from the sources in turn, and again."""

    def refuse(_path: object, error: DataError) -> None:
        raise error

    images = islice(read_images(cycle(sources), on_skip=refuse), count)
    pairs = detect_loaded(detector.backend, images, score=conf, batch=batch, tiling=detector.tiling)
    return (result.milliseconds for _, result in pairs)


@contextmanager
def _pictures(sources: Sequence[str | Path]) -> Iterator[Sequence[Source]]:
    """What was named; where nothing was, a picture that is drawn and goes again."""
    if sources:
        yield find_images([str(source) for source in sources])
        return
    with tempfile.TemporaryDirectory(prefix="visionkit-benchmark-") as folder:
        yield [draw_picture(Path(folder) / "picture.jpg")]


def draw_picture(path: Path) -> Path:
    """A JPEG of textured shapes on cluttered ground, the same every time; its longer side is `LONGER_SIDE`."""
    scene = draw_scene(np.random.default_rng(0), DRAWN, LONGER_SIDE)
    save_picture(path, np.ascontiguousarray(scene.image))
    return path
