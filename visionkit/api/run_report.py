"""The report of a finished run: its best weights on its own val split, as one HTML file in its folder."""

from __future__ import annotations

import torch

from visionkit.api.detection_scores import Beside, score_detections
from visionkit.api.evaluate import counted_images, score_maps, split_loader
from visionkit.api.prepare import Prepared, Say
from visionkit.api.task_data import proposals_file, task_dataset, task_of
from visionkit.api.tiled_evaluation import tiled_as_trained, tiled_maps, tiled_rows
from visionkit.api.training_run import FinetuneResult
from visionkit.api.training_tiles import training_tiling
from visionkit.build import load_model
from visionkit.engine.evaluate import detect_batches, segment_batches
from visionkit.engine.events import Listener
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import UsageError
from visionkit.models.assembly import frame_multiple_of


def check_reportable(run: Prepared) -> None:
    """Raises UsageError where a run has no report."""
    if task_of(run.config) == "classify":
        raise UsageError(
            f"model {run.config.model} is a classifier, and reports are of detections or maps; leave out --report"
        )


def write_run_report(run: Prepared, result: FinetuneResult, listen: Listener, say: Say) -> None:
    """`report.html` in the run's folder, where it is not there yet; it takes an evaluation more.

    The images are the very ones that the run was judged on, also where they were held out, dealt out in folds or left
    over by `skip_bad`: what `evaluate` with other words may read anew.

    Raises:
        DataError: an image cannot be read any more, or the file cannot be written.
    """
    file = RunFolder(result.folder).report
    if file.exists():
        return
    config, truth, device = run.config, run.val_images, run.device
    loaded = load_model(result.best)
    beside, title = Beside(report=file), f"{loaded.name} on {run.layout.root.resolve().name}, val"
    amp, count = config.train.amp, counted_images(len(truth.images), listen)
    tiling = training_tiling(config)
    is_map = task_of(config) == "segment"
    if tiling is not None:
        results = tiled_as_trained(loaded, truth, tiling, device=device, on_images=count)
        if is_map:
            score_maps(truth, tiled_maps(results), beside, title)
        else:
            score_detections(truth, tiled_rows(results), "bbox", beside, title)
    else:
        model = loaded.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        data = task_dataset(config, truth, proposals=proposals_file(config, "val"))
        multiple = frame_multiple_of(model)
        loader = split_loader(data, config.imgsz, config.train.batch, config.workers, device, multiple)
        if is_map:
            score_maps(truth, segment_batches(model, loader, device=device, amp=amp, on_images=count), beside, title)
        else:
            rows = detect_batches(model, loader, truth.classes, device=device, amp=amp, on_images=count)
            score_detections(truth, rows, "bbox", beside, title)
    say(f"Report: {file}")
