"""What the doctor finds, and what a repair changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from visionkit.diagnosis.codes import CODES, Severity
from visionkit.diagnosis.file_repair import DIFF_FORMAT, RepairedCopy
from visionkit.diagnosis.geometry import Box
from visionkit.errors import DataError
from visionkit.formats.records import AnnotatedImages

ListName = Literal["images", "annotations", "categories"]
CHANGE_KEYS = frozenset(("list", "index", "before", "after"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or odd.

    Args:
        code: of `CODES`.
        file: the annotation file or the image.
        item: what is meant, such as `annotation 7 of image 3`; empty for the file as a whole.
        fact: what it says.
        repaired: whether `--fix` mends this one.
        image_id, annotation_id: where they are known.
        score: how sure a model is of it; None for what needs no model.
        box: where a model sees an object, x y w h in pixels; None where it sees none, and without a model.
    """

    code: str
    file: Path
    item: str
    fact: str
    repaired: bool = False
    image_id: int | None = None
    annotation_id: int | None = None
    score: float | None = None
    box: Box | None = None

    @property
    def severity(self) -> Severity:
        return CODES[self.code].severity

    def to_json(self) -> dict[str, Any]:
        """As `visionkit doctor --json` prints it."""
        known = CODES[self.code]
        return {
            "code": self.code,
            "severity": known.severity,
            "title": known.title,
            "file": str(self.file),
            "item": self.item,
            "fact": self.fact,
            "repaired": self.repaired,
            "image_id": self.image_id,
            "annotation_id": self.annotation_id,
            "score": self.score,
            "box": None if self.box is None else [round(value, 1) for value in self.box],
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One row that a repair rewrites or removes.

    Args:
        index: of the row in its list before.
        before: the row; `after`: what takes its place, None where it goes.
    """

    list_name: ListName
    index: int
    codes: tuple[str, ...]
    before: Any
    after: dict[str, Any] | None


@dataclass(slots=True)
class Examination:
    """What was found in one annotation file or, in formats of many files, in one split; and what a repair would leave.

    Args:
        repaired: the content after the changes, of formats of many files as COCO would have it; None where the file
            could not be read at all, and of masks.
        truth: what is left to learn from, of formats of many files; None where nothing is.
        copy: the files of a repaired copy, of formats of many files; None where there can be none.
        no_copy: why there can be none.
    """

    file: Path
    findings: list[Finding] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    repaired: dict[str, Any] | None = None
    truth: AnnotatedImages | None = None
    copy: RepairedCopy | None = None
    no_copy: str = ""


def repair_diff(examination: Examination, sha256_before: str, sha256_after: str) -> dict[str, Any]:
    """The changes as one JSON object, from which `undo` makes the old content again."""
    return {
        "format": DIFF_FORMAT,
        "file": examination.file.name,
        "sha256_before": sha256_before,
        "sha256_after": sha256_after,
        "changes": [
            {
                "list": change.list_name,
                "index": change.index,
                "codes": list(change.codes),
                "before": change.before,
                "after": change.after,
            }
            for change in examination.changes
        ],
    }


def undo(content: Mapping[str, Any], diff: Mapping[str, Any]) -> dict[str, Any]:
    """The content that a repair began with, from the repaired one and its diff.

    Raises:
        DataError: the diff is of another format, or the content is not what the repair left.
    """
    if diff.get("format") != DIFF_FORMAT:
        raise DataError(f"a repair diff has format {DIFF_FORMAT!r}, got {diff.get('format')!r}; name a file of --fix")
    old = dict(copy.deepcopy(dict(content)))
    changes = diff.get("changes")
    whole = isinstance(changes, list) and all(isinstance(row, dict) and row.keys() >= CHANGE_KEYS for row in changes)
    if not isinstance(changes, list) or not whole:
        raise DataError("a repair diff lists changes of rows, this one is damaged; name a file of --fix")
    for name in ("images", "annotations", "categories"):
        if not isinstance(old.get(name), list):
            raise DataError(f"the content has no list of {name}; undo needs the repaired file itself")
        changed = {change["index"]: change for change in changes if change["list"] == name}
        kept = iter(old[name])
        rows: list[Any] = []
        missing = object()
        while True:
            change = changed.pop(len(rows), None)
            if change is None:
                row = next(kept, missing)
                if row is missing:
                    break
                rows.append(row)
                continue
            if change["after"] is not None and next(kept, missing) != change["after"]:
                raise DataError(f"{name}[{len(rows)}] is not what the repair left; undo needs the repaired file itself")
            rows.append(change["before"])
        if changed:
            raise DataError(f"{name} is shorter than the repair left it; undo needs the repaired file itself")
        old[name] = rows
    return old
