"""What a finished run stores of the images it learnt from, in weights whose norms remember nothing of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from visionkit.advice.similarity import norms_remember
from visionkit.api.evaluate import split_loader
from visionkit.api.prepare import Prepared
from visionkit.build import keep_source_statistics, load_model
from visionkit.data.dataset import DetectionDataset
from visionkit.engine.events import ImagesDone, Listener
from visionkit.nn.source_statistics import SourceStatistics, observing_units

SOURCE_IMAGES = 64
"""A pass of a large backbone over more would be felt in a short run; a stage sees some thousand places in each."""


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
    config = run.config
    data = DetectionDataset(run.train_images.spread(SOURCE_IMAGES))
    for file in dict.fromkeys(files):
        loaded = load_model(file)
        if loaded.source_statistics is not None:
            continue
        model = loaded.model.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loader = split_loader(data, config.imgsz, config.train.batch, min(1, config.workers or 0), run.device)
        done = 0
        with torch.inference_mode(), observing_units(model, model.units) as seen:
            for batch in loader:
                model.backbone(model.normalize(batch.images.to(run.device)))
                done += len(batch.images)
                listen(ImagesDone("remembering the images", done, len(data)))
        keep_source_statistics(file, SourceStatistics.of(seen, done))
