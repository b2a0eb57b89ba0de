"""Images and the index masks beside them -> records, whatever folders they lie in."""

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
from visionkit.formats.records import AnnotatedImages, ImageRecord, MaskFile
from visionkit.imaging.mask import read_mask

IGNORED = 255
"""The label of pixels that no one judges."""

UNUSED_REMARK = "classes without a pixel"

_NO_MASK_RULE = "every image needs a mask of its name; add the mask or remove the image"
_MASK_RULE = "every mask must be readable; replace the file or remove it with its image"
_SIZE_RULE = "a mask must have the size of its upright picture; make it again"
_LABEL_RULE = "a mask holds the numbers of the classes and the ignore index; correct it or add the class"


class MaskedImage(NamedTuple):
    """An image file and its mask; None where it has none."""

    file_name: str
    image: Path
    mask: Path | None


class MaskClasses(NamedTuple):
    """What the values of masks mean: label i is category id i; `ignored` and 255 are not judged."""

    table: ClassTable
    ignored: int = IGNORED


def read_mask_classes(file: Path) -> MaskClasses:
    """The classes of a `classes.json`: `{"names": [...], "ignore_index": 255}`, or the list of names alone. Other keys,
    such as `palette`, are passed over.

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
    try:
        return MaskClasses(ClassTable(tuple(range(len(names))), tuple(names)), ignored)
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
    for image_id, pair in enumerate(pairs, 1):
        mark = findings.mark()
        item = f"image {shown(pair.file_name)}"
        size = upright_size(pair.image, item, findings)
        counts = _label_counts(pair.mask, classes, size, item, findings)
        if findings.is_bad(mark) or size is None or counts is None or pair.mask is None:
            continue
        totals += counts
        mask = MaskFile(pair.mask, tuple(counts.tolist()), classes.ignored)
        images.append(ImageRecord(image_id, pair.file_name, pair.image, *size, mask=mask))
    findings.refuse_errors()
    if findings.errors and not images:
        findings.refuse_nothing_left("images")
    if not images:
        raise DataError(f"{source} holds no images, at least one is needed; add them or name another folder")
    unused = int((totals == 0).sum())
    if unused:
        findings.remark(UNUSED_REMARK, unused)
    return AnnotatedImages(classes.table, tuple(images), source, findings.remarks, tuple(findings.left_out))


def _label_counts(
    mask: Path | None, classes: MaskClasses, size: tuple[int, int] | None, item: str, findings: Findings
) -> NDArray[np.int64] | None:
    """Pixels of each class in a mask; None, and an error, if the mask cannot be used."""
    if mask is None:
        findings.error(f"{item} has no mask", _NO_MASK_RULE)
        return None
    try:
        labels = read_mask(mask)
    except DataError as error:
        findings.error(f"the mask of {item} cannot be read ({error})", _MASK_RULE)
        return None
    height, width = labels.shape
    if size is not None and (width, height) != size:
        findings.error(f"the mask of {item} is {width}x{height} and the picture {size[0]}x{size[1]}", _SIZE_RULE)
        return None
    counts = np.bincount(labels.ravel(), minlength=256)
    known = {*range(len(classes.table)), classes.ignored, IGNORED}
    unknown = [label for label in np.flatnonzero(counts).tolist() if label not in known]
    if unknown:
        findings.error(f"the mask of {item} has the label {unknown[0]}, of which there is no class", _LABEL_RULE)
        return None
    return counts[: len(classes.table)].astype(np.int64)
