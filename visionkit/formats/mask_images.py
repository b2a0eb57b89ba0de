"""Images and the masks beside them -> records, whatever folders they lie in. Masks hold numbers or colours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.dataset_files import is_one_line
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import upright_size
from visionkit.formats.json_file import read_json
from visionkit.formats.mask_colours import MaskColours, read_mask_colours
from visionkit.formats.records import AnnotatedImages, ImageRecord, MaskFile
from visionkit.imaging.mask import read_colour_mask, read_mask

IGNORED = 255
"""The label of pixels that no one judges."""

UNUSED_REMARK = "classes without a pixel"

BLACK_AND_WHITE_REMARK = (
    "masks hold 0 and 255 alone, and 255 is judged by no one; if it is a class, name both in classes.json and say "
    '"colours": [[0, 0, 0], [255, 255, 255]] there'
)

_NO_MASK_RULE = "every image needs a mask of its name; add the mask or remove the image"
_MASK_RULE = "every mask must be readable; replace the file or remove it with its image"
_SIZE_RULE = "a mask must have the size of its upright picture; make it again"
_LABEL_RULE = "a mask holds the numbers, or colours, of the classes and of what is ignored; correct it or add the class"


class MaskedImage(NamedTuple):
    """An image file and its mask; None where it has none."""

    file_name: str
    image: Path
    mask: Path | None


class MaskClasses(NamedTuple):
    """What the values of masks mean: label i is category id i; `ignored` and 255 are not judged. Where there are
    `colours`, these stand for the labels."""

    table: ClassTable
    ignored: int = IGNORED
    colours: MaskColours | None = None


def read_mask_classes(file: Path) -> MaskClasses:
    """The classes of a `classes.json`: `{"names": [...], "ignore_index": 255}`, or the list of names alone; for masks
    that hold colours `{"names": [...], "colours": [[r, g, b], ...], "ignored_colours": [[0, 0, 0]]}`. Other keys, such
    as `palette`, are passed over.

    Raises:
        DataError: it cannot be read or does not say so.
    """
    content = read_json(file)
    names = content.get("names") if isinstance(content, dict) else content
    ignored = content.get("ignore_index", IGNORED) if isinstance(content, dict) else IGNORED
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and is_one_line(n) for n in names):
        raise DataError(f'{file} has no list of class names, such as {{"names": ["road", "car"]}}; write one')
    if len(names) > IGNORED:
        raise DataError(f"{file} names {len(names)} classes, masks of 8 bits hold at most {IGNORED}; merge some")
    if type(ignored) is not int or not len(names) <= ignored <= IGNORED:
        raise DataError(
            f"{file} has ignore_index {shown(ignored)}, it must be a whole number from {len(names)}, which no class "
            f"has, to {IGNORED}; correct it"
        )
    colours = read_mask_colours(content, names, file)
    try:
        return MaskClasses(ClassTable(tuple(range(len(names))), tuple(names)), ignored, colours)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def read_masked_images(
    pairs: Iterable[MaskedImage], classes: MaskClasses, source: Path, *, findings: Findings
) -> AnnotatedImages:
    """The records of images with their masks, every mask decoded (1 ms for 480x360 px) and its labels counted.

    Ids count from 1 in the order of the pairs.

    Args:
        findings: get what is wrong; with `skip_bad` an image goes with its mask.

    Raises:
        DataError: something is wrong, or there is no image.
    """
    images: list[ImageRecord] = []
    totals = np.zeros(len(classes.table), np.int64)
    partly_judged = 0
    for image_id, pair in enumerate(pairs, 1):
        mark = findings.mark()
        item = f"image {shown(pair.file_name)}"
        size = upright_size(pair.image, item, findings)
        counts = _label_counts(pair.mask, classes, size, item, findings)
        if findings.is_bad(mark) or size is None or counts is None or pair.mask is None:
            continue
        totals += counts
        partly_judged += int(counts.sum() < size[0] * size[1])
        mask = MaskFile(pair.mask, tuple(counts.tolist()), classes.ignored, classes.colours)
        images.append(ImageRecord(image_id, pair.file_name, pair.image, *size, mask=mask))
    findings.refuse_errors()
    if findings.errors and not images:
        findings.refuse_nothing_left("images")
    if not images:
        raise DataError(f"{source} holds no images, at least one is needed; add them or name another folder")
    unused = int((totals == 0).sum())
    if unused:
        findings.remark(UNUSED_REMARK, unused)
    if partly_judged and is_black_and_white(totals, classes):
        findings.remark(BLACK_AND_WHITE_REMARK, partly_judged)
    return AnnotatedImages(classes.table, tuple(images), source, findings.remarks, tuple(findings.left_out))


def is_black_and_white(totals: NDArray[np.int64], classes: MaskClasses) -> bool:
    """Whether masks that hold ignored pixels too, of whose judged pixels i64 [K] are of each class, may have been drawn
    in black and white: nothing can be learnt from one class."""
    of_numbers = classes.colours is None and classes.ignored == IGNORED
    return of_numbers and bool(totals[0]) and not totals[1:].any()


def _label_counts(
    mask: Path | None, classes: MaskClasses, size: tuple[int, int] | None, item: str, findings: Findings
) -> NDArray[np.int64] | None:
    """Pixels of each class in a mask; None, and an error, if the mask cannot be used."""
    if mask is None:
        findings.error(f"{item} has no mask", _NO_MASK_RULE)
        return None
    count = len(classes.table)
    try:
        labels, stray = read_labels(mask, count, classes.ignored, classes.colours)
    except DataError as error:
        findings.error(f"the mask of {item} cannot be read ({error})", _MASK_RULE)
        return None
    height, width = labels.shape
    if size is not None and (width, height) != size:
        findings.error(f"the mask of {item} is {width}x{height} and the picture {size[0]}x{size[1]}", _SIZE_RULE)
        return None
    if stray:
        findings.error(f"the mask of {item} has the {stray}, of which there is no class", _LABEL_RULE)
        return None
    return np.bincount(labels.ravel(), minlength=256)[:count].astype(np.int64)


def read_labels(
    mask: Path, count: int, ignored: int = IGNORED, colours: MaskColours | None = None
) -> tuple[NDArray[np.uint8], str]:
    """A mask as labels u8 [H, W], `IGNORED` where no one judges; and what in it stands for no class, in words such as
    `label 9` or `colour 1 2 3`, empty where all is known.

    Args:
        count: of classes.
        ignored, colours: as `MaskFile` has them.

    Raises:
        DataError: as `read_mask`, or where colours are wanted `read_colour_mask`.
    """
    if colours is not None:
        labels, stray = colours.labels(read_colour_mask(mask), IGNORED)
        return labels, "" if stray is None else "colour {} {} {}".format(*stray)
    labels = read_mask(mask)
    if ignored != IGNORED:
        labels[labels == ignored] = IGNORED
    unknown = labels[(labels >= count) & (labels != IGNORED)]
    return labels, f"label {unknown.min()}" if len(unknown) else ""
