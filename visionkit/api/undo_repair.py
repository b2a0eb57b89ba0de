"""A repair taken back: the annotation files as they were before `doctor --fix`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionkit.diagnosis.file_repair import undo_files
from visionkit.diagnosis.findings import undo
from visionkit.errors import DataError, UsageError
from visionkit.formats.json_file import read_json, write_json
from visionkit.formats.new_dataset import new_dataset


@dataclass(frozen=True, slots=True)
class Undone:
    """A repair that was taken back.

    Args:
        written: the annotation file as it was; of formats of many files the folder of those that had changed.
        changes: rows that were put back.
        same_bytes: whether it has the bytes it had; else it says the same in another layout of JSON.
    """

    written: Path
    changes: int
    same_bytes: bool

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit doctor --undo --json` prints."""
        return {**asdict(self), "written": str(self.written)}


def undo_repair(
    repaired: str | Path, diff: str | Path, out: str | Path, *, say: Callable[[str], None] = lambda line: None
) -> Undone:
    """Write the annotation file that a repair began with; of YOLO, VOC and masks all files that it changed or left out.

    Rows of COCO that were edited since, and that the repair had left alone, keep their edits, which is said.

    Args:
        repaired: the repaired annotation file, or the folder that `doctor --fix` made.
        diff: what the repair changed, a file in `repairs/` of that folder.
        out: the file to write; of formats of many files a new folder, in which they lie as in the dataset.

    Raises:
        UsageError: `out` exists.
        DataError: a file is missing or broken, or the annotations are not what the repair left.
    """
    out, diff, file = Path(out), Path(diff), Path(repaired)
    if out.exists():
        raise UsageError(f"{out} exists and nothing is overwritten; give another --out")
    changes = read_json(diff)
    if isinstance(changes, dict) and "files" in changes:
        return _undo_files(file, changes, out)
    if file.is_dir():
        file = file / "annotations" / diff.name
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(changes, dict):
        raise DataError(f"{file if isinstance(changes, dict) else diff} is no JSON object; name a file of --fix")
    sha256 = _sha256(file.read_bytes())
    if sha256 == changes.get("sha256_before"):
        raise DataError(f"{file} is as it was before the repair; name the repaired file")
    if sha256 != changes.get("sha256_after"):
        say(f"{file} was edited since the repair; what the repair had left alone stays as it is now")
    text = json.dumps(undo(content, changes), ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, text)
    return Undone(out, len(changes["changes"]), _sha256(text.encode()) == changes.get("sha256_before"))


def _undo_files(folder: Path, diff: dict[str, Any], out: Path) -> Undone:
    old = undo_files(diff, folder)
    with new_dataset(out) as new:
        for name, data in old.items():
            target = new.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return Undone(out, sum(len(row["changes"]) for row in diff["files"]), same_bytes=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
