"""What a model says of a dataset, in the form that its task is judged by, and its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.classes import ClassTable
from visionkit.engine.device import precision
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import semantic_map
from visionkit.imaging.letterbox import Frame
from visionkit.metrics.classification import ClassificationScores, classification_scores
from visionkit.metrics.coco_map import CocoScores, coco_scores
from visionkit.metrics.mean_iou import MapCounts, SegmentationScores
from visionkit.metrics.task_scores import TaskScores
from visionkit.predict.maps import labels_in_pixels
from visionkit.predict.masks import pasted_masks
from visionkit.types import Batch, Detections, Task

# COCO's protocol ranks up to 100 detections an image and class: keep all that may rank, however unsure.
EVALUATION_SCORE = 0.001
EVALUATION_MAX_DET = 300


@torch.inference_mode()
def detect_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    classes: ClassTable,
    *,
    device: torch.device,
    amp: bool,
    masks: bool = False,
    iou: float | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """COCO results rows of a model in eval mode on batches of letterboxed images.

    Args:
        model: gives raw outputs for u8 images, and decides by `predict`.
        classes: the class table the model was trained with; labels become its category ids here.
        amp: bf16 autocast where the hardware has it.
        masks: whether a model that says masks is asked for them.
        iou: NMS threshold; the model's own where None.
        on_images: told how many images each batch held.

    Returns:
        `{"image_id", "category_id", "bbox": [x, y, w, h], "score"[, "segmentation"]}` in original pixels.
    """
    rows: list[dict[str, Any]] = []
    own = {} if iou is None else {"iou": iou}
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        proposals = None if batch.proposals is None else [boxes.to(device) for boxes in batch.proposals]
        with precision(device, amp):
            outputs = model(images, proposals=proposals)
        found = model.predict(  # type: ignore[operator]
            outputs, score=EVALUATION_SCORE, max_det=EVALUATION_MAX_DET, masks=masks, **own
        )
        for image_id, frame, detections in zip(batch.image_ids, batch.frames, found, strict=True):
            rows.extend(_rows(image_id, frame, detections, classes))
        on_images(len(images))
    return rows


def _rows(image_id: int, frame: Frame, detections: Detections, classes: ClassTable) -> Iterator[dict[str, Any]]:
    boxes = frame.to_original(detections.boxes.cpu().numpy())
    boxes[:, 2:] -= boxes[:, :2]
    scores, labels = detections.scores.cpu().tolist(), detections.labels.cpu().tolist()
    masks: list[dict[str, Any]] = [{}] * len(labels)
    if detections.masks is not None:
        whole = frame.to_plane(detections.boxes.cpu().numpy())
        rles = pasted_masks(detections.masks.cpu().numpy(), whole, frame.height, frame.width)
        masks = [{"segmentation": rle} for rle in rles]
    for box, score, label, mask in zip(boxes.tolist(), scores, labels, masks, strict=True):
        if not (box[2] > 0 and box[3] > 0):
            continue  # wholly in the padding: no box of the image, in prediction either
        yield {"image_id": image_id, "category_id": classes.category_ids[label], "bbox": box, "score": score, **mask}


@torch.inference_mode()
def classify_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    classes: ClassTable,
    *,
    device: torch.device,
    amp: bool,
    on_images: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Truth and probabilities of a classifier in eval mode on batches of pictures of one class each.

    Args: as `detect_batches`.

    Returns:
        The pictures' labels i64 [N], and their probabilities f32 [N, K] by the model's labels.
    """
    truth, found = [], []
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        with precision(device, amp):
            outputs = model(images)
        truth += [int(target.labels) for target in batch.targets]
        for said in model.predict(outputs, score=0.0, max_det=len(classes)):  # type: ignore[operator]
            found.append(torch.zeros(len(classes)).index_copy(0, said.labels.cpu(), said.scores.cpu()).numpy())
        on_images(len(images))
    return np.array(truth, np.int64), np.stack(found)


@torch.inference_mode()
def segment_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    amp: bool,
    on_images: Callable[[int], None] = lambda count: None,
) -> Iterator[NDArray[np.uint8]]:
    """The semantic maps u8 [H, W] of a segmenter in eval mode, image by image in original pixels.

    Args: as `detect_batches`.
    """
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        with precision(device, amp):
            outputs = model(images)
        for frame, said in zip(batch.frames, model.predict(outputs), strict=True):  # type: ignore[operator]
            yield labels_in_pixels(said.scores.float().cpu().numpy(), frame)
        on_images(len(images))


def count_maps(
    maps: Iterable[NDArray[np.uint8]], truth: AnnotatedImages, *, boundaries: bool = False, intervals: bool = False
) -> SegmentationScores:
    """The scores of semantic maps, one for each image of a split in its order, by the split's labels."""
    counts = MapCounts(truth.classes, boundaries=boundaries, intervals=intervals)
    for record, predicted in zip(truth.images, maps, strict=True):
        counts.add(semantic_map(record, truth.classes), predicted)
    return counts.scores()


class Evaluation(Protocol):
    """Scores a model in eval mode on a split that has the classes it was made for."""

    def __call__(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        truth: AnnotatedImages,
        *,
        device: torch.device,
        amp: bool,
        on_images: Callable[[int], None],
    ) -> TaskScores: ...


def _evaluate_detector(
    model: nn.Module, batches: Iterable[Batch], truth: AnnotatedImages, **settings: Any
) -> CocoScores:
    return coco_scores(truth, detect_batches(model, batches, truth.classes, **settings))


def _evaluate_classifier(
    model: nn.Module, batches: Iterable[Batch], truth: AnnotatedImages, **settings: Any
) -> ClassificationScores:
    labels, probabilities = classify_batches(model, batches, truth.classes, **settings)
    return classification_scores(labels, probabilities, truth.classes)


def _evaluate_segmenter(
    model: nn.Module, batches: Iterable[Batch], truth: AnnotatedImages, **settings: Any
) -> SegmentationScores:
    return count_maps(segment_batches(model, batches, **settings), truth)


EVALUATIONS: dict[Task, Evaluation] = {
    "detect": _evaluate_detector,
    "classify": _evaluate_classifier,
    "segment": _evaluate_segmenter,
}
