"""Where findings are written down and rows mended: one place, so that what is said is what is done."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionkit.diagnosis.findings import Change, Finding, ListName
from visionkit.formats.findings import shown


@dataclass(frozen=True, slots=True)
class Told:
    """What was found on a row when it was read, before it was one of COCO's.

    Args:
        becomes: what a repair writes into it; with `remove` it goes instead.
    """

    code: str
    fact: str
    becomes: Mapping[str, Any] = field(default_factory=dict)
    remove: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row comes from that was read from another format than COCO.

    Args:
        file: that has it.
        item: what findings call it there, such as `line 3`; empty for the file as a whole.
        said: what findings say that it has for a box.
        picture: of an image, its file; None where it has none, which is told.
        told: what was found on it when it was read.
    """

    file: Path
    item: str = ""
    said: str = ""
    picture: Path | None = None
    told: tuple[Told, ...] = ()


@dataclass(slots=True)
class Row:
    """A row of a list in a COCO file, and what becomes of it.

    Args:
        before: as the file has it, never changed.
        content: what a repair makes of it.
        name: what findings call it.
        told: the codes of its findings; `codes`: of those that change it.
        origin: where it was read, in another format than COCO; None in COCO.
    """

    list_name: ListName
    index: int
    before: Any
    content: dict[str, Any]
    name: str
    codes: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    removed: bool = False
    origin: Origin | None = None

    def call(self, name: str) -> None:
        """What findings call it from now on, where its own file has no name for it."""
        if self.origin is None:
            self.name = name

    @property
    def change(self) -> Change | None:
        """None where the row stays as it was."""
        if not self.codes:
            return None
        return Change(
            self.list_name, self.index, tuple(self.codes), self.before, None if self.removed else self.content
        )


@dataclass(slots=True)
class Notebook:
    """The findings in one file so far."""

    file: Path
    findings: list[Finding] = field(default_factory=list)

    def rows(self, name: ListName, content: list[Any], origins: Sequence[Origin] = ()) -> list[Row]:
        """The rows of a list; those that are no objects are found out and removed.

        Args:
            origins: of each row, where they come from another format.
        """
        rows = []
        for index, value in enumerate(content):
            known = value if isinstance(value, dict) else {}
            # A row is copied when it is changed first: most never are.
            row = Row(name, index, value, known, f"{name}[{index}]")
            rows.append(row)
            if not isinstance(value, dict):
                self.find("VK003", row, f"is {shown(value)}", remove=True)
            if origins:
                row.origin, row.name = origins[index], origins[index].item
                for told in origins[index].told:
                    self.find(told.code, row, told.fact, told.becomes, remove=told.remove)
        return rows

    def find(
        self, code: str, row: Row, fact: str, becomes: Mapping[str, Any] | None = None, *, remove: bool = False
    ) -> None:
        """Write down a finding on a row.

        Args:
            becomes: what a repair writes into it.
            remove: a repair removes the row. The finding counts as repaired with either.
        """
        repaired = remove or bool(becomes)
        row.told.add(code)
        if repaired:
            self._mend(row, code, remove, becomes or {})
        if row.origin is not None:  # its ids are made, and stand in no file
            self.findings.append(Finding(code, row.origin.file, row.name, fact, repaired))
            return
        # The ids that the file has, not those that a repair gives.
        said = row.before if isinstance(row.before, dict) else {}
        ids = {"images": ("id", ""), "annotations": ("image_id", "id"), "categories": ("", "")}[row.list_name]
        image_id, annotation_id = (_whole(said.get(key)) if key else None for key in ids)
        self.findings.append(Finding(code, self.file, row.name, fact, repaired, image_id, annotation_id))

    def mend_last(self, row: Row, becomes: Mapping[str, Any]) -> None:
        """What a repair writes into the row that was found last, after all."""
        last = self.findings[-1]
        assert last.item == row.name
        self._mend(row, last.code, False, becomes)
        self.findings[-1] = Finding(
            last.code, last.file, last.item, last.fact, True, last.image_id, last.annotation_id, last.score
        )

    def quietly(self, row: Row, code: str, becomes: Mapping[str, Any]) -> None:
        """Write into a row what follows from a finding on another one, its image."""
        self._mend(row, code, False, becomes)

    def follow(self, row: Row, image: Row) -> None:
        """Remove an annotation because its image goes."""
        self._mend(row, image.codes[-1], True, {})

    @staticmethod
    def _mend(row: Row, code: str, remove: bool, becomes: Mapping[str, Any]) -> None:
        if row.content is row.before:
            row.content = copy.copy(row.before)
        row.content.update(becomes)
        row.removed = row.removed or remove
        row.codes.append(code)


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
