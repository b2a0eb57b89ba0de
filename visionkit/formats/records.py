"""Annotation records: what a dataset's files say, in the file's own ids and conventions, validated and read-only.

Boxes stay `x y w h` and categories stay dataset ids here; `visionkit.data.dataset` converts both, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visionkit.classes import ClassTable
from visionkit.formats.mask_colours import MaskColours


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object of one image.

    Args:
        id: the dataset's annotation id.
        category_id: a dataset category id that is in the class table.
        bbox: x, y, width, height in pixels of the upright image; finite, width and height > 0.
        area: pixels; the file's `area`, or the box's where the file has none.
        iscrowd: a crowd region: ignored in training, honoured in evaluation.
        segmentation: COCO polygons `[[x0, y0, x1, y1, ...], ...]`, an RLE `{"size": [h, w], "counts": ...}`, or None.
        extra: what else the file says of it, where it was read to be written again (`formats.extras`,
            `formats.object_fields`).
    """

    id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: bool = False
    segmentation: list[list[float]] | dict[str, Any] | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The mask of an image: a class for each pixel.

    Args:
        path: where the file lies.
        pixels: how many it has of each label, when it was read.
        ignored: the value that stands for no class, beside 255.
        colours: what stands for the labels; None where the values are labels.
    """

    path: Path
    pixels: tuple[int, ...]
    ignored: int = 255
    colours: MaskColours | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image and its annotations; an image without any is a background image and stays in the dataset.

    Args:
        id: the dataset's image id.
        file_name: as the annotation file writes it.
        path: where the file lies, or None where only annotations were read (predictions against ground truth).
        width, height: pixels of the upright image (after EXIF orientation).
        annotations: the image's objects, in file order.
        mask: the class of every pixel, in a dataset of masks.
        extra: what else the file says of it, where it was read to be written again (`formats.extras`).
    """

    id: int
    file_name: str
    path: Path | None
    width: int
    height: int
    annotations: tuple[Annotation, ...] = ()
    mask: MaskFile | None = None
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class AnnotatedImages:
    """One split of a dataset, as read from its files.

    Args:
        classes: the dataset's class table.
        images: in file order.
        source: the annotation file.
        remarks: what was odd, ignored or filled in, counted: `{"annotations without iscrowd, taken as 0": 3}`.
            Nothing is changed in silence: whoever reads a dataset prints these.
        left_out: items in error that were skipped because the reader was told so, a line each: file, item, rule.
        whole_images: each image has one class and no boxes; it stands in one annotation that covers the image.
    """

    classes: ClassTable
    images: tuple[ImageRecord, ...]
    source: Path
    remarks: Counter[str] = field(default_factory=Counter)
    left_out: tuple[str, ...] = ()
    whole_images: bool = False

    @property
    def object_count(self) -> int:
        return sum(len(image.annotations) for image in self.images)

    def spread(self, count: int) -> AnnotatedImages:
        """The same with `count` of the images, or all where there are no more, evenly spread: what stands together in a
        file is often alike."""
        there = len(self.images)
        taken = min(count, there)
        return replace(self, images=tuple(self.images[i * there // taken] for i in range(taken)))
