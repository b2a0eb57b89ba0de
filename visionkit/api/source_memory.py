"""What a finished run stores of the images it learnt from, in weights whose norms remember nothing of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from visionkit.advice.similarity import norms_remember
from visionkit.api.evaluate import split_loader
from visionkit.api.prepare import Prepared
from visionkit.build import LoadedModel, keep_source_statistics, load_model
from visionkit.data.dataset import DetectionDataset
from visionkit.engine.events import ImagesDone, Listener
from visionkit.nn.source_statistics import SourceStatistics, observing_units

SOURCE_IMAGES = 64
"""A pass of a large backbone over more would be felt in a short run; a stage sees some thousand places in each."""

FILES = 2
"""That a run ends with: the best weights and the last."""


def remember_source(run: Prepared, files: Sequence[Path], listen: Listener = lambda event: None) -> None:
    """Store in weights files of a run what the backbone's units give on its training images, for `advise` to compare
    with; files that have it, or norms that remember, stay as they are.

    Args:
        files: that the run wrote; the same one may be named twice.
        listen: told how many images are through.

    Raises:
        DataError: an image cannot be read any more.
    """
    if norms_remember(run.state.model):
        return
    data = DetectionDataset(run.train_images.spread(SOURCE_IMAGES))
    for file in dict.fromkeys(files):
        loaded = load_model(file)
        if loaded.source_statistics is None:
            keep_source_statistics(file, _seen_by(loaded, data, run, listen))


def seconds_to_remember(run: Prepared, file: Path, clock: Callable[[], float] = time.monotonic) -> float:
    """How long `remember_source` will take at the end of a run, by trying it on one file and one batch of images.

    Args:
        file: weights as the run will write them; it is written anew, with what the batch says.
        clock: gives seconds.
    """
    if norms_remember(run.state.model):
        return 0.0
    most, few = (
        DetectionDataset(run.train_images.spread(count))
        for count in (SOURCE_IMAGES, min(SOURCE_IMAGES, run.config.train.batch))
    )
    began = clock()
    loaded = load_model(file)
    is_read = clock()
    statistics = _seen_by(loaded, few, run)
    has_seen = clock()
    keep_source_statistics(file, statistics)
    looking = (has_seen - is_read) * len(most) / len(few)
    return FILES * (is_read - began + looking + clock() - has_seen)


def _seen_by(
    loaded: LoadedModel, data: DetectionDataset, run: Prepared, listen: Listener = lambda event: None
) -> SourceStatistics:
    """What the units of a model's backbone give on images, at the size that the run learns at."""
    config = run.config
    model = loaded.model.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = split_loader(data, config.imgsz, config.train.batch, config.workers, run.device)
    done = 0
    with torch.inference_mode(), observing_units(model, model.units) as seen:
        for batch in loader:
            model.backbone(model.normalize(batch.images.to(run.device)))
            done += len(batch.images)
            listen(ImagesDone("remembering the images", done, len(data)))
    return SourceStatistics.of(seen, done)
