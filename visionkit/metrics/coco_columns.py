"""Truth and detections in columns, checked: what COCO evaluation compares, one array a property."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages, ImageRecord

Task = Literal["bbox", "segm"]
Rle = dict[str, Any]
Integers = NDArray[np.int64]

FEWEST_NUMBERS = 6
"""Of a polygon; pycocotools takes fewer for a box."""


@dataclass(frozen=True, slots=True)
class Objects:
    """G annotations by group, an image and class each; those of one group in file order.

    Args:
        group: i64 [G], ascending: image by image in the order of their ids, and class by class in an image.
        label: i64 [G].
        boxes: f64 [G, 4] x y w h in pixels.
        area: f64 [G], pixels, as annotated.
        crowd: bool [G].
        masks: G compressed RLEs, or None where boxes are compared.
        row: i64 [G], which annotation it is, counted through the images in their order.
    """

    group: Integers
    label: Integers
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    masks: Sequence[Rle] | None
    row: Integers

    def take(self, rows: Integers) -> Objects:
        """The objects at these positions, in this order."""
        boxes, masks = self.boxes[rows], _taken(self.masks, rows)
        crowd, row = self.crowd[rows], self.row[rows]
        return Objects(self.group[rows], self.label[rows], boxes, self.area[rows], crowd, masks, row)


@dataclass(frozen=True, slots=True)
class Found:
    """N detections by group; of one group the highest score first, equal scores in the order given.

    Columns as in `Objects`, with the same groups, and `score` f64 [N] in place of `crowd`; `row` counts the detections
    given.
    """

    group: Integers
    label: Integers
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    score: NDArray[np.float64]
    masks: Sequence[Rle] | None
    row: Integers

    def take(self, rows: Integers) -> Found:
        """The detections at these positions, in this order."""
        boxes, masks = self.boxes[rows], _taken(self.masks, rows)
        score, row = self.score[rows], self.row[rows]
        return Found(self.group[rows], self.label[rows], boxes, self.area[rows], score, masks, row)


def _taken(masks: Sequence[Rle] | None, rows: Integers) -> list[Rle] | None:
    return None if masks is None else [masks[row] for row in rows]


def check_task(task: str) -> None:
    """Raises UsageError unless the task is one of `Task`."""
    if task not in get_args(Task):
        raise UsageError(f"task must be one of {', '.join(get_args(Task))}, got {task!r}; choose one of them")


def truth_columns(truth: AnnotatedImages, task: Task) -> Objects:
    """Every annotation, with a mask each for `segm`.

    Raises:
        DataError: the task is `segm` and an annotation has no segmentation.
    """
    annotations = [annotation for image in truth.images for annotation in image.annotations]
    masks = [mask for image in truth.images for mask in _masks_of(image)] if task == "segm" else None
    counts = [len(image.annotations) for image in truth.images]
    positions = _image_positions(truth)
    image = np.repeat(_integers((positions[image.id] for image in truth.images), len(counts)), counts)
    label = _integers((truth.classes.label(a.category_id) for a in annotations), len(annotations))
    objects = Objects(
        group=image * len(truth.classes) + label,
        label=label,
        boxes=_boxes([annotation.bbox for annotation in annotations]),
        area=np.array([annotation.area for annotation in annotations], np.float64),
        crowd=np.array([annotation.iscrowd for annotation in annotations], np.bool_),
        masks=masks,
        row=np.arange(len(annotations)),
    )
    return objects.take(stable_order(objects.group))


def detection_columns(truth: AnnotatedImages, detections: Sequence[Mapping[str, Any]], task: Task) -> Found:
    """Every detection of COCO results rows, with a mask each for `segm`.

    The rules are those of pycocotools' `loadRes`: where the first detection has a box, all must have one, and the
    area of each is its box's, even for `segm`; otherwise box and area are the mask's. (The area decides which
    unmatched detections count as false positives among small, medium and large objects.)

    Raises:
        DataError: an image or category the truth lacks, a box or mask missing, a box that is not four numbers, a box or
            score that is not finite.
    """
    image_ids, category_ids = (list(map(itemgetter(key), detections)) for key in ("image_id", "category_id"))
    image = _places("image ids", image_ids, sorted(image.id for image in truth.images), truth)
    label = _places("category ids", category_ids, truth.classes.category_ids, truth)
    boxes: list[Any] = [detection.get("bbox") for detection in detections]
    masks: list[Rle] | None = None
    with_boxes = bool(boxes) and _has_numbers(boxes[0])
    if task == "segm" or not with_boxes:
        masks = _detection_masks([detection.get("segmentation") for detection in detections], image_ids, truth)
        if not with_boxes:
            pairs = zip(boxes, masks, strict=True)
            boxes = [box if _has_numbers(box) else coco_mask.toBbox(mask) for box, mask in pairs]
    _check_four_numbers(boxes, image_ids)
    columns = _boxes(boxes)
    score = np.fromiter(map(itemgetter("score"), detections), np.float64, len(detections))
    _check_finite(columns, score, image_ids)
    if with_boxes or masks is None:
        area = columns[:, 2] * columns[:, 3]
    else:
        area = np.array([coco_mask.area(mask) for mask in masks], np.float64)
    group, row = image * len(truth.classes) + label, np.arange(len(label))
    found = Found(group, label, columns, area, score, masks if task == "segm" else None, row)
    by_score = np.argsort(-found.score, kind="stable")
    return found.take(by_score[stable_order(found.group[by_score])])


def stable_order(values: Integers) -> Integers:
    """The stable order of whole numbers from 0: NumPy's of 16 bits at a time is a radix sort, and takes a fraction of
    the time of comparing."""
    order = np.argsort(values.astype(np.uint16), kind="stable")
    for shift in range(16, int(values.max(initial=0)).bit_length(), 16):
        order = order[np.argsort((values[order] >> shift).astype(np.uint16), kind="stable")]
    return order


def _image_positions(truth: AnnotatedImages) -> dict[int, int]:
    """Image id -> position in ascending order, in which pycocotools ranks equal scores of different images."""
    return {image_id: position for position, image_id in enumerate(sorted(image.id for image in truth.images))}


def _integers(values: Iterable[int], count: int) -> Integers:
    return np.fromiter(values, np.int64, count)


def _boxes(boxes: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """[N, 4]. Every box has four numbers."""
    # Three times as fast as np.array on a list of lists.
    return np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)


def _has_numbers(box: Any) -> bool:
    return box is not None and len(box) > 0


def _name(index: int, image_id: int) -> str:
    return f"detection {index} (image {image_id})"


def _places(kind: str, ids: Sequence[Any], known: Sequence[int], truth: AnnotatedImages) -> Integers:
    """i64 [N], the place of each id among those that are known.

    Raises:
        DataError: one is not known.
    """
    if set(map(type, chain(known, ids))) <= {int}:
        with suppress(OverflowError):  # an id that no dataset can have
            table, said = np.array(known, np.int64), np.fromiter(ids, np.int64, len(ids))
            order = np.argsort(table)
            nearest = order[np.minimum(np.searchsorted(table, said, sorter=order), len(table) - 1)]
            if (table[nearest] == said).all():
                return nearest
    places = {known_id: place for place, known_id in enumerate(known)}
    unknown = sorted(set(ids) - places.keys(), key=str)
    if unknown:
        some = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise DataError(
            f"detections name {len(unknown)} {kind} that {truth.source.name} lacks ({some}); "
            f"judge them against the annotations they were made for"
        )
    return _integers(map(places.__getitem__, ids), len(ids))


def _check_four_numbers(boxes: Sequence[Any], image_ids: Sequence[int]) -> None:
    with suppress(TypeError):  # None has no length
        if set(map(len, boxes)) <= {4}:
            return
    lengths = [0 if box is None else len(box) for box in boxes]
    index = next(index for index, length in enumerate(lengths) if length != 4)
    what = _name(index, image_ids[index])
    if lengths[index] == 0:
        raise DataError(f"{what} has no bbox, and the first detection has one; give all of them a bbox, or none")
    raise DataError(
        f"{what} has a bbox of {lengths[index]} numbers, it must be four: x, y, width, height; correct or remove it"
    )


def _check_finite(boxes: NDArray[np.float64], scores: NDArray[np.float64], image_ids: Sequence[int]) -> None:
    if np.isfinite(boxes).all() and np.isfinite(scores).all():
        return
    broken = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores)))
    first = int(broken[0])
    raise DataError(
        f"{_name(first, image_ids[first])} has a bbox or score that is not finite; leave it out ({len(broken)} in all)"
    )


def _masks_of(image: ImageRecord) -> list[Rle]:
    """The masks of an image's annotations; single polygons are drawn all at once."""
    masks: list[Rle | None] = [None] * len(image.annotations)
    single = [
        place
        for place, annotation in enumerate(image.annotations)
        if isinstance(annotation.segmentation, list)
        and len(annotation.segmentation) == 1
        and len(annotation.segmentation[0]) >= FEWEST_NUMBERS
    ]
    if single and image.width and image.height:
        polygons = [image.annotations[place].segmentation[0] for place in single]  # type: ignore[index]
        drawn = coco_mask.frPyObjects(polygons, image.height, image.width)
        for place, mask in zip(single, drawn, strict=True):
            masks[place] = mask
    return [
        mask or _rle(annotation.segmentation, image, f"annotation {annotation.id} of image {image.id}")
        for mask, annotation in zip(masks, image.annotations, strict=True)
    ]


def _detection_masks(segmentations: Sequence[Any], image_ids: Sequence[int], truth: AnnotatedImages) -> list[Rle]:
    """A mask for each detection. Raises DataError as `_rle`."""
    images = {image.id: image for image in truth.images}
    if set(map(type, segmentations)) == {dict}:
        # As a rule all are compressed RLEs of the right sizes, which can be seen at once.
        sizes = {image.id: [image.height, image.width] for image in truth.images if image.height and image.width}
        said = [segmentation.get("size") for segmentation in segmentations]
        kinds = {type(segmentation.get("counts")) for segmentation in segmentations}
        if kinds <= {str, bytes} and said == [sizes.get(image_id) for image_id in image_ids]:
            return list(segmentations)
    return [
        _rle(segmentation, images[image_id], _name(index, image_id))
        for index, (segmentation, image_id) in enumerate(zip(segmentations, image_ids, strict=True))
    ]


def _rle(segmentation: Any, image: ImageRecord, what: str) -> Rle:
    """Polygons or an RLE of either kind as one compressed RLE of the image's size."""
    if not segmentation:
        raise DataError(f"{what} has no segmentation, which comparing masks needs; compare boxes with task bbox")
    if not (image.width and image.height):
        raise DataError(
            f"{what} is of an image without width and height, which comparing masks needs; add them to the annotations"
        )
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != [image.height, image.width]:
            raise DataError(
                f"{what} has a mask of size {list(segmentation['size'])}, height and width of its image are "
                f"{[image.height, image.width]}; make masks in pixels of the original image"
            )
        if not isinstance(segmentation["counts"], list):
            return dict(segmentation)
        return dict(coco_mask.frPyObjects(dict(segmentation), image.height, image.width))
    return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, image.height, image.width)))
