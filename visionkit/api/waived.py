"""Errors in a dataset that a user waives by code: their items are left out by name, and any other error still stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from visionkit.diagnosis.coco import examine_coco
from visionkit.diagnosis.codes import CODES
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.layout import find_layout, read_split
from visionkit.imaging.reader import read_image

LEARNT = ("train", "val")


def waives_errors(layout: DatasetLayout, waived: Sequence[str], say: Callable[[str], None]) -> bool:
    """Whether train or val holds errors, all of them of waived codes; the items in error are to be left out then.

    The doctor looks through the files only where there are waivers and the reader refuses a split.

    Args:
        waived: codes of errors.
        say: told what is waived, and how often.

    Raises:
        UsageError: the dataset is not COCO, whose errors alone have codes.
        DataError: there are errors of other codes too.
    """
    refused = _refusal(layout) if waived else None
    if refused is None:
        return False
    files = [
        split
        for name, split in find_layout(layout.path).splits.items()
        if name in LEARNT and isinstance(split, CocoSplit)
    ]
    if not files:
        raise UsageError(
            f"{layout.path} is not COCO, --waive goes by the codes of errors in COCO files; use --skip-bad"
        ) from refused
    found: Counter[str] = Counter()
    for split in files:
        # Decoded, because what is left out later is decoded too: a damaged image is waived by its own code alone.
        examination = examine_coco(split.annotations, split.images, look=_decode)
        found.update(finding.code for finding in examination.findings if finding.severity == "error")
    if not found:
        raise refused
    left = {code: count for code, count in found.items() if code not in waived}
    if left:
        raise DataError(
            f"{layout.path} holds errors that are not waived: {_told(left)}; run visionkit doctor {layout.path} --fix "
            "OUT, or waive their codes too"
        ) from refused
    say(f"Waived, and left out: {_told(found)}")
    return True


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {code} ({CODES[code].title})" for code, count in sorted(counts.items()))


def _refusal(layout: DatasetLayout) -> DataError | None:
    """Why a split that is learnt from or judged by cannot be read as it is; None where all can."""
    for name in LEARNT:
        if name in layout.splits:
            try:
                read_split(layout, name)
            except DataError as error:
                return error
    return None


def _decode(path: Path) -> None:
    """Raises DataError where an image cannot be read."""
    read_image(path)
