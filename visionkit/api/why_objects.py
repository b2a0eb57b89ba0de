"""What became of the annotated objects of an image, and why: found, or lost at which step of the detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionkit.api.datasets import find_dataset
from visionkit.api.evaluate import known_classes, seen_tiling
from visionkit.api.task_data import given_proposals, task_dataset
from visionkit.api.training_tiles import least_visible
from visionkit.api.weights import find_model
from visionkit.api.why_looks import Looking, look_in_views
from visionkit.classes import ClassTable
from visionkit.engine.device import choose_device, use_threads
from visionkit.engine.events import Listener
from visionkit.engine.explain import require_explainable
from visionkit.errors import UsageError
from visionkit.formats.layout import read_split
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.imaging.reader import read_image
from visionkit.predict.tiling import chosen_tiling
from visionkit.predict.why_drawing import draw_objects_why
from visionkit.predict.writers import OutputNames, save_picture

SCORE = 0.25
"""From this score on an object counts as found where no one says otherwise: what `detect` shows."""


def why_objects(
    weights: str | Path = "default",
    data: str | Path | None = None,
    image: str = "",
    *,
    split: str = "val",
    conf: float = SCORE,
    iou: float | None = None,
    max_det: int = 300,
    proposals: str | Path | None = None,
    imgsz: int | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    device: str = "auto",
    threads: int = 0,
    amp: bool | None = None,
    offline: bool = False,
    pictures: str | Path | None = None,
    skip_bad: bool = False,
    on_skip: Callable[[str], None] = lambda line: None,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """What learns each annotated object of an image, and at which step it was found or lost.

    The model looks at the image as evaluation does. What learns an object is decided by the rules of training, at the
    weights as they are, on the image as it is. Where it is seen in tiles, each object is told of in the view that shows
    all of it and in which it came farthest: see `visionkit.api.why_looks.look_in_views`.

    Args:
        image: its file name, path or id.
        conf: from this score on an object counts as found.
        max_det: most detections of the image.
        pictures: folder for a picture of the objects and of what became of each.
        others: as for `visionkit.api.evaluate.evaluate`.

    Returns:
        `{"image": {"id", "path", "width", "height"}, "model": {"name", "sha256"}, "split", "steps": {STEP: objects},
        "objects": [...], "why": {...}}`. `why` is the document of `visionkit.predict.why`. An object has the `id`,
        `bbox` x1 y1 x2 y2, `category_id` and `name` of its annotation; `ignored` where it is a crowd region;
        `assigned`, for each stage of the model `what` learns it (points, cells, anchors, proposals), how many
        `positives` by stride, of these the 50 `places` that overlap it most, each with its `iou` and where it is as
        `from` has it, and the `best_iou` that `best_iou_of` have with it. Unless it is ignored it has a `step`,
        one of `visionkit.models.lost_objects.Outcome`, with the `iou`, the `score` and the box (`candidate`) of what
        came that far for it, where that is `from`, the `rival` in its way and the `other_object` that a detection
        counts for, by its place in the list; and where there was no proposal near it, what became of the nearest,
        `proposal`. Of an image in tiles it has the window of its `view`, and a step may be `gave_way`.

    Raises:
        UsageError: as `evaluate`; or the model is no detector, or the split has no such image.
        CheckpointError, DataError: as `evaluate`.
    """
    for name, value in (("conf", conf), ("iou", iou)):
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{name} must be between 0 and 1, got {value}; choose a value such as 0.5")
    chosen_tiling(tile, overlap)
    loaded = find_model(weights, offline=offline, listen=listen, say=say)
    require_explainable(loaded.model)
    tiling = seen_tiling(loaded, tile, overlap, say)
    image_size = loaded.image_size(imgsz)
    truth = read_split(find_dataset(data, say, loaded.recipe.train.seed), split, skip_bad=skip_bad)
    for line in truth.left_out:
        on_skip(line)
    record = find_image(truth, image, split)
    match = known_classes(loaded, truth, say)
    where = choose_device(device)
    use_threads(threads)
    file = given_proposals(proposals, split)
    samples = task_dataset(loaded.recipe, replace(truth, images=(record,)), proposals=file)
    sample = samples.read(0)
    # known_classes made sure that each class of the data has one of the model's.
    theirs = np.array([label for _, label in match.pairs], np.int64)
    sample = replace(sample, labels=theirs[sample.labels])
    looking = Looking(
        loaded.model.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]
        loaded.classes,
        image_size=image_size,
        device=where,
        amp=loaded.recipe.train.amp if amp is None else amp,
        conf=conf,
        iou=iou,
        max_det=max_det,
        min_visible=least_visible(loaded.recipe),
    )
    height, width = sample.image.shape[:2]
    grid = None if tiling is None else tiling.grid(height, width)
    if grid is None:
        look = looking.at(sample, (0, 0, width, height))
        rows, why = list(look.rows.values()), look.document
    else:
        rows, why = look_in_views(looking, sample, grid.views)
    objects = [_annotation(record, number, truth.classes) | row for number, row in enumerate(rows)]
    document = {
        "image": {"id": record.id, "path": str(record.path), "width": width, "height": height},
        "model": {"name": loaded.name, "sha256": loaded.sha256},
        "split": split,
        "steps": dict(Counter(row["step"] for row in objects if not row["ignored"])),
        "objects": objects,
        "why": why,
    }
    if pictures is not None:
        assert record.path is not None
        drawn = draw_objects_why(read_image(record.path), document)
        save_picture(OutputNames(Path(pictures)).take(record.path), drawn)
    return document


def find_image(truth: AnnotatedImages, image: str, split: str) -> ImageRecord:
    """The image of a split that its file name, with or without folders, its path or its id means.

    Raises:
        UsageError: there is none, or there are several.
    """
    ways = (
        [one for one in truth.images if image in (one.file_name, str(one.path or ""))],
        [one for one in truth.images if Path(one.file_name).name == Path(image).name],
        [one for one in truth.images if str(one.id) == image],
    )
    found = next(filter(None, ways), [])
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(one.file_name for one in found[:3])
        raise UsageError(
            f"{split} of {truth.source} has {len(found)} images {image}: {some}; give a longer path or an id"
        )
    example = f", such as {truth.images[0].file_name}" if truth.images else ""
    raise UsageError(f"{split} of {truth.source} has no image {image!r}; give the file name or the id of one{example}")


def _annotation(record: ImageRecord, number: int, classes: ClassTable) -> dict[str, Any]:
    annotation = record.annotations[number]
    x, y, width, height = annotation.bbox
    return {
        "id": annotation.id,
        "bbox": [round(corner, 2) for corner in (x, y, x + width, y + height)],
        "category_id": annotation.category_id,
        "name": classes.names[classes.label(annotation.category_id)],
    }
