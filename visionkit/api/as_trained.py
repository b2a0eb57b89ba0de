"""What a detector says of annotated images that it sees as it learnt to: whole, or the large ones in tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from visionkit.api.evaluate import split_loader
from visionkit.api.task_data import task_dataset
from visionkit.api.tiled_evaluation import tiled_results, tiled_rows
from visionkit.build import LoadedModel
from visionkit.engine.evaluate import detect_batches
from visionkit.formats.records import AnnotatedImages
from visionkit.models.assembly import frame_multiple_of


def rows_as_trained(
    loaded: LoadedModel,
    images: AnnotatedImages,
    *,
    device: torch.device,
    amp: bool,
    workers: int | None,
    iou: float | None = None,
    proposals: Path | None = None,
    on_images: Callable[[int], None],
) -> list[dict[str, Any]]:
    """COCO results rows of a detector, with its own category ids, as `evaluate` gets them where no one says otherwise:
    image size, batch and tiles are those it was trained with. It is on the CPU again afterwards.

    Args:
        iou: NMS threshold; the model's own where None.
        proposals: the file of them, for a model that is fed by them.
        on_images: told how many images are through since it was last told.

    Raises:
        DataError, UsageError: as `task_dataset`, or an image cannot be read.
    """
    recipe = loaded.recipe
    data = task_dataset(recipe, images, proposals=proposals)
    if loaded.tiling is not None:
        rows = tiled_rows(
            tiled_results(
                loaded,
                images,
                loaded.tiling,
                image_size=recipe.imgsz,
                batch=recipe.train.batch,
                iou=iou,
                device=device,
                amp=amp,
                on_images=on_images,
            )
        )
    else:
        multiple = frame_multiple_of(loaded.model)
        loader = split_loader(data, recipe.imgsz, recipe.train.batch, workers, device, multiple)
        model = loaded.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows = detect_batches(model, loader, loaded.classes, device=device, amp=amp, iou=iou, on_images=on_images)
    loaded.model.cpu()
    return rows
