"""Errors in a dataset by their codes: told when a run is refused, or waived, their items left out by name, while any
other error still stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from visionkit.diagnosis.codes import CODES
from visionkit.diagnosis.splits import examine_split
from visionkit.errors import DataError
from visionkit.formats.dataset_layout import DatasetLayout, Split
from visionkit.formats.findings import SKIP_BAD
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
        DataError: there are errors of other codes too.
    """
    refused = _refusal(layout) if waived else None
    if refused is None:
        return False
    # Decoded, because what is left out later is decoded too: a damaged image is waived by its own code alone.
    found = _errors(layout, _decode)
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


def with_codes(refused: DataError, layout: DatasetLayout) -> DataError:
    """A refusal of a dataset with the codes of the errors that it holds, where the doctor finds any."""
    found = _errors(layout, None)
    if not found:
        return refused
    fact = str(refused).removesuffix(SKIP_BAD)
    skip = str(refused)[len(fact) :]
    words = f"in all {_told(found)}: visionkit doctor {layout.path} --fix OUT repairs, --waive CODE leaves out"
    return DataError(f"{fact} | {words}{skip}")


def _errors(layout: DatasetLayout, look: Callable[[Path], None] | None) -> Counter[str]:
    """The errors of what is learnt from or judged by, by code."""
    found: Counter[str] = Counter()
    for split in _files(layout):
        found.update(finding.code for finding in examine_split(split, look).findings if finding.severity == "error")
    return found


def _files(layout: DatasetLayout) -> Iterator[Split]:
    """The splits as their files lie; those of a run may be held out or dealt out anew."""
    whole = find_layout(layout.path)
    if whole.masks is not None and layout.words.startswith(whole.masks.words):
        whole = whole.masks
    yield from (split for name, split in whole.splits.items() if name in LEARNT)


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
