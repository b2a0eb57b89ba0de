"""A model's detections on a dataset, as COCO results, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from visionkit.classes import ClassTable
from visionkit.engine.device import precision
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Detections

# COCO's protocol ranks up to 100 detections an image and class: keep all that may rank, however unsure.
EVALUATION_SCORE = 0.001
EVALUATION_IOU = 0.7
EVALUATION_MAX_DET = 300


@torch.inference_mode()
def detect_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    classes: ClassTable,
    *,
    device: torch.device,
    amp: bool,
    on_images: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """COCO results rows of a model in eval mode on batches of letterboxed images.

    Args:
        model: gives raw outputs for u8 images, and decides by `predict`.
        classes: the class table the model was trained with; labels become its category ids here.
        amp: bf16 autocast where the hardware has it.
        on_images: told how many images each batch held.

    Returns:
        `{"image_id", "category_id", "bbox": [x, y, w, h], "score"}` in original pixels.
    """
    rows: list[dict[str, Any]] = []
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        with precision(device, amp):
            outputs = model(images)
        found = model.predict(outputs, score=EVALUATION_SCORE, iou=EVALUATION_IOU, max_det=EVALUATION_MAX_DET)  # type: ignore[operator]
        for image_id, frame, detections in zip(batch.image_ids, batch.frames, found, strict=True):
            rows.extend(_rows(image_id, frame, detections, classes))
        on_images(len(images))
    return rows


def _rows(image_id: int, frame: Frame, detections: Detections, classes: ClassTable) -> Iterator[dict[str, Any]]:
    boxes = frame.to_original(detections.boxes.cpu().numpy())
    boxes[:, 2:] -= boxes[:, :2]
    scores, labels = detections.scores.cpu().tolist(), detections.labels.cpu().tolist()
    for box, score, label in zip(boxes.tolist(), scores, labels, strict=True):
        if not (box[2] > 0 and box[3] > 0):
            continue  # wholly in the padding: no box of the image, in prediction either
        yield {"image_id": image_id, "category_id": classes.category_ids[label], "bbox": box, "score": score}
