"""A repaired copy of a dataset of many files: what is sound as it was, what changed, and how to take it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from visionkit.diagnosis.file_repair import FileRepair, RepairedCopy
from visionkit.diagnosis.findings import Examination
from visionkit.errors import DataError, UsageError
from visionkit.formats.new_dataset import new_dataset


def write_copy(examinations: Mapping[str, Examination], folder: Path) -> int:
    """Write the copy into a new folder, which gets its name when it is whole; images are linked where they can be.

    Args:
        examinations: what a diff is called -> what was found in a split.

    Returns:
        Rows, or pieces of files, that changed.

    Raises:
        UsageError: a split is of a format that is not repaired, or nothing in it can be read; or the folder exists.
        DataError: splits repair one file in two ways.
    """
    copies: dict[str, RepairedCopy] = {}
    for name, examination in examinations.items():
        if examination.copy is None:
            reason = examination.no_copy or f"{examination.file} cannot be read, which only its author can repair"
            raise UsageError(f"{reason}; nothing is written")
        copies[name] = examination.copy
    repaired = _repaired_files(copies)
    # What is in two splits has one place.
    pictures = {copy.name(path): path for copy in copies.values() for path in copy.pictures}
    sound = {copy.name(path): path for copy in copies.values() for path in copy.others}
    with new_dataset(folder) as new:
        for name, path in pictures.items():
            new.place(path, name)
        for name, path in sound.items():
            if name not in repaired:
                _write(new.root / name, path)
        for name, repair in repaired.items():
            if repair.after is not None:
                _write(new.root / name, repair.after)
        for name, copy in copies.items():
            _write(new.root / f"repairs/{name}.json", json.dumps(copy.diff(), indent=1).encode())
    return sum(repair.count for repair in repaired.values() if repair.edits or repair.codes)


def _repaired_files(copies: Mapping[str, RepairedCopy]) -> dict[str, FileRepair]:
    """The repairs of all splits by the paths of their files. Raises DataError where two differ."""
    repaired: dict[str, FileRepair] = {}
    for copy in copies.values():
        for repair in copy.repairs:
            known = repaired.setdefault(copy.name(repair.file), repair)
            if known.after != repair.after:
                raise DataError(f"{repair.file} is in two splits, which repair it in two ways; leave it to one of them")
    return repaired


def _write(target: Path, content: Path | bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, target)  # no link: annotations are edited in place
    else:
        target.write_bytes(content)
