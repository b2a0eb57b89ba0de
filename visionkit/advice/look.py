"""One pass of a network over the user's images: what its norms see, and the features of true boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visionkit.advice.separability import Separability, separability_of
from visionkit.advice.similarity import Similarity, observing_norms, similarity_of, similarity_to
from visionkit.nn.source_statistics import SourceStatistics, observing_units
from visionkit.nn.units import evaluating
from visionkit.ops.boxes import box_iou
from visionkit.ops.roi import roi_features
from visionkit.types import Batch, Target, Unit

MOST_CROPS = 2000
BINS = 4
"""A box's features are a mean over 4 x 4 places of it."""

TRIES = 10
"""To place a box beside all objects, before it is given up."""

TOUCHES = 0.1
"""Intersection over union above which a box counts as being on an object."""

LEAST_SIDE = 4
"""Smaller boxes, in network pixels, show nothing."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen.

    Args:
        images: how many.
        similarity: None where neither the network's norms nor its weights file remember a source.
        separability: None where there are no boxes of two kinds to tell apart.
    """

    images: int
    similarity: Similarity | None
    separability: Separability | None


@torch.inference_mode()
def look(
    model: nn.Module,
    units: Sequence[Unit],
    batches: Iterable[Batch],
    *,
    strides: Sequence[int],
    classes: int,
    background: bool,
    device: torch.device,
    source: SourceStatistics | None = None,
    on_images: Callable[[int], None] = lambda done: None,
) -> Looked:
    """Run a model's backbone over images in eval mode; nothing of the model changes.

    Args:
        model: with the children `normalize` and `backbone`, whose weights and statistics are the source's.
        units: the model's, or the backbone's under the model's names.
        batches: letterboxed images with their true boxes.
        strides: of the backbone's maps.
        classes: K of the targets.
        background: whether places beside the objects count as one more class, as for a detector.
        source: what the weights file remembers, for a network whose norms do not.
        on_images: told how many images are through.
    """
    normalize, backbone = model.get_submodule("normalize"), model.get_submodule("backbone")
    features: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.int64]] = []
    images: list[NDArray[np.int64]] = []
    count = 0
    observed = units if source is not None else ()
    with evaluating(model), observing_norms(model) as seen, observing_units(model, observed) as given:
        for batch in batches:
            maps = backbone(normalize(batch.images.to(device)))
            for place, target in enumerate(batch.targets):
                boxes, named = _crops(target, classes, background, count, batch.images.shape[-1])
                features.append(_features([x[place : place + 1] for x in maps], strides, boxes.to(device)))
                labels.append(named.numpy())
                images.append(np.full(len(boxes), count))
                count += 1
            on_images(count)
    separability = None
    if sum(map(len, labels)):
        named_so = np.concatenate(labels)
        # Evenly spread over each class.
        kept = np.argsort(named_so, kind="stable")[:: -(-len(named_so) // MOST_CROPS)]
        separability = separability_of(
            np.concatenate(features)[kept], named_so[kept], np.concatenate(images)[kept], background=background
        )
    similarity = similarity_of(model, units, seen, count)
    if similarity is None and source is not None:
        similarity = similarity_to(source, units, given, count)
    return Looked(count, similarity, separability)


def _crops(target: Target, classes: int, background: bool, image: int, side: int) -> tuple[Tensor, Tensor]:
    """Boxes f32 [N, 4] and labels i64 [N] of an image's objects, and where asked for of as many places beside them.

    Args:
        classes: K, the label of what is beside.
        image: its number, which decides these places.
        side: of the network's square in pixels.
    """
    large = (target.boxes[:, 2:] - target.boxes[:, :2] >= LEAST_SIDE).all(1)
    boxes, labels = target.boxes[large & ~target.ignore], target.labels[large & ~target.ignore]
    if not background or len(boxes) == 0:
        return boxes, labels
    beside = places_beside(boxes, target.boxes, side, np.random.default_rng([image]))
    return torch.cat((boxes, beside)), torch.cat((labels, torch.full((len(beside),), classes, dtype=torch.int64)))


def places_beside(boxes: Tensor, all_boxes: Tensor, side: int, generator: np.random.Generator) -> Tensor:
    """For each box [N, 4] one of its size elsewhere in the square, on no object of `all_boxes`; fewer where it is full.

    Args:
        side: of the square in pixels; boxes lie in it.
    """
    found = []
    for size in (boxes[:, 2:] - boxes[:, :2]).tolist():
        for _ in range(TRIES):
            x, y = (float(generator.uniform(0, max(side - length, 0))) for length in size)
            place = torch.tensor([[x, y, x + size[0], y + size[1]]])
            if float(box_iou(place, all_boxes).max()) <= TOUCHES:
                found.append(place)
                break
    return torch.cat(found) if found else boxes[:0]


def _features(maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor) -> NDArray[np.float64]:
    """[N, channels of all maps] of boxes [N, 4] in one image: the mean of each map in the box."""
    image = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    read = [
        roi_features([x.float()], [stride], boxes, image, size=BINS).mean((2, 3))
        for x, stride in zip(maps, strides, strict=True)
    ]
    return torch.cat(read, 1).cpu().double().numpy()
