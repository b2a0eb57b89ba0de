"""A class for every pixel of an image: read from its mask, or drawn from the polygons and RLEs of its objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.mask_images import IGNORED, read_labels
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord

BACKGROUND = "background"
"""The class of pixels that lie in no object."""

BOXES_REMARK = "objects without a mask, whose boxes are ignored pixels"


def with_background(annotated: AnnotatedImages) -> AnnotatedImages:
    """A split whose every pixel has a class: as it is where it has masks; where it has objects, with `BACKGROUND` among
    the classes, the last label where it is new.

    Raises:
        DataError: no object has a polygon or an RLE, or there are more classes than labels.
    """
    if any(image.mask is not None for image in annotated.images):
        return annotated
    objects = [annotation for image in annotated.images for annotation in image.annotations]
    drawn = sum(annotation.segmentation is not None for annotation in objects)
    if objects and not drawn:
        raise DataError(
            f"{annotated.source} has boxes alone, a segmenter learns from masks, polygons or RLEs; add them, or "
            "train a detector such as --model yolo"
        )
    remarks = Counter(annotated.remarks)
    if drawn < len(objects):
        remarks[BOXES_REMARK] += len(objects) - drawn
    classes = _table_with_background(annotated.classes)
    if len(classes) > IGNORED:
        raise DataError(
            f"{annotated.source} has {len(classes)} classes with {BACKGROUND}, a map of 8 bits tells at most {IGNORED} "
            "apart; merge some"
        )
    return replace(annotated, classes=classes, remarks=remarks)


def require_judged_pixels(annotated: AnnotatedImages) -> None:
    """Raises DataError where there is nothing to learn: no mask of a split has a pixel of a class."""
    masks = [image.mask for image in annotated.images if image.mask is not None]
    if masks and not any(any(mask.pixels) for mask in masks):
        raise DataError(
            f"no mask of {annotated.source} has a pixel of a class, all is ignored, and learning needs some; correct "
            "the masks, or what classes.json says of them"
        )


def _table_with_background(table: ClassTable) -> ClassTable:
    if BACKGROUND in table.names:
        return table
    free = 0 if 0 not in table.category_ids else max(table.category_ids) + 1
    return ClassTable((*table.category_ids, free), (*table.names, BACKGROUND))


def semantic_map(image: ImageRecord, classes: ClassTable) -> NDArray[np.uint8]:
    """u8 [H, W] of labels, `IGNORED` where no one judges.

    Of objects the smaller lies on the larger; crowd regions and the boxes of objects without a mask are ignored where
    no object with one lies.

    Args:
        classes: of the split, with `BACKGROUND` where the image has objects and no mask.

    Raises:
        DataError: the mask cannot be read any more, or is not what it was.
    """
    if image.mask is None:
        return _drawn(image, classes)
    labels, stray = read_labels(image.mask.path, len(classes), image.mask.ignored, image.mask.colours)
    if labels.shape != (image.height, image.width):
        height, width = labels.shape
        raise DataError(
            f"{image.mask.path} is {width}x{height}, its picture {image.width}x{image.height}; put back the mask"
        )
    if stray:
        raise DataError(f"{image.mask.path} has the {stray}, of which there is no class, unlike before; put it back")
    return labels


def _drawn(image: ImageRecord, classes: ClassTable) -> NDArray[np.uint8]:
    labels = np.full((image.height, image.width), classes.names.index(BACKGROUND), np.uint8)
    ignored = [o for o in image.annotations if o.iscrowd or o.segmentation is None]
    judged = [o for o in image.annotations if not o.iscrowd and o.segmentation is not None]
    for annotation in (*ignored, *sorted(judged, key=lambda o: -o.area)):
        is_judged = not annotation.iscrowd and annotation.segmentation is not None
        value = classes.label(annotation.category_id) if is_judged else IGNORED
        labels[_region(annotation, image)] = value
    return labels


def _region(annotation: Annotation, image: ImageRecord) -> NDArray[np.bool_]:
    """bool [H, W], with COCO's own rasteriser."""
    segmentation = annotation.segmentation
    if segmentation is None:
        region = np.zeros((image.height, image.width), np.bool_)
        x, y, width, height = annotation.bbox
        region[max(0, round(y)) : max(0, round(y + height)), max(0, round(x)) : max(0, round(x + width))] = True
        return region
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        rle = segmentation
    elif isinstance(segmentation, dict):
        rle = coco_mask.frPyObjects(dict(segmentation), image.height, image.width)
    else:
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, image.height, image.width))
    return np.asarray(coco_mask.decode(rle)).astype(np.bool_)


def label_counts(annotated: AnnotatedImages) -> NDArray[np.int64]:
    """Pixels of each class in each image of a split, i64 [N, K]; counted when its masks were read, else drawn and
    counted now."""
    counts = np.zeros((len(annotated.images), len(annotated.classes)), np.int64)
    for row, image in zip(counts, annotated.images, strict=True):
        if image.mask is not None:
            row[:] = image.mask.pixels
        else:
            row[:] = np.bincount(_drawn(image, annotated.classes).ravel(), minlength=256)[: len(row)]
    return counts
