"""What a repair makes of the files of a dataset that has many of them, as YOLO, VOC and masks have; and the way back.

Bytes that are sound stay as they are: a repair replaces pieces of a file, or leaves a file out, or makes a mask anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from visionkit.errors import DataError

DIFF_FORMAT = "visionkit.repair/1"

_DAMAGED = "a repair diff lists changes of files, this one is damaged; name a file of --fix"


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of a file that a repair replaces.

    Args:
        start, end: of its bytes in the file before.
        after: what takes their place; nothing where the piece goes.
        codes: of the findings that it mends; none where it only follows from the copy's being another folder.
    """

    start: int
    end: int
    after: bytes
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileRepair:
    """A file that a repair changes, in pieces or as a whole.

    Args:
        edits: the pieces, in order; none where the file is made anew, or goes.
        whole: what takes the file's place; None where it goes, and where there are edits.
        codes: of the findings that are mended by that.
    """

    file: Path
    before: bytes
    edits: tuple[Edit, ...] = ()
    whole: bytes | None = None
    codes: tuple[str, ...] = ()

    @property
    def after(self) -> bytes | None:
        """The file after the repair; None where it goes.

        >>> FileRepair(Path("a.txt"), b"one two", (Edit(0, 3, b"1"), Edit(4, 7, b"2"))).after
        b'1 2'
        """
        if not self.edits:
            return self.whole
        pieces, place = [], 0
        for edit in self.edits:
            pieces += [self.before[place : edit.start], edit.after]
            place = edit.end
        return b"".join((*pieces, self.before[place:]))

    @property
    def count(self) -> int:
        """Changes in it."""
        return len(self.edits) or 1


def left_out(file: Path | None, codes: tuple[str, ...]) -> tuple[FileRepair, ...]:
    """The repair that leaves out a file; none where there is no regular file."""
    return (FileRepair(file, file.read_bytes(), codes=codes),) if file is not None and file.is_file() else ()


@dataclass(frozen=True, slots=True)
class RepairedCopy:
    """The files of a split as a repaired copy has them.

    Args:
        root: the folder of the dataset; all files lie in it, and in the copy at the same paths in its folder.
        pictures: stay as they are, and are linked.
        others: stay as they are, and are copied.
        repairs: files that change or go.
        renamed: where files have another path in the copy.
    """

    root: Path
    pictures: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    repairs: tuple[FileRepair, ...] = ()
    renamed: Mapping[Path, str] = field(default_factory=dict)

    def checked(self) -> RepairedCopy:
        """Itself. Raises DataError where a file lies outside of the dataset's folder."""
        for path in (*self.pictures, *self.others, *(repair.file for repair in self.repairs)):
            self.name(path)
        return self

    def name(self, path: Path) -> str:
        """The path of a file in the copy. Raises DataError where it lies outside of the dataset's folder."""
        if path in self.renamed:
            return self.renamed[path]
        name = Path(os.path.relpath(path, self.root)).as_posix()
        if name.startswith("../") or os.path.isabs(name):
            raise DataError(
                f"{path} lies outside of {self.root}, and a repaired copy mirrors that folder; move it there, or "
                "convert the dataset first"
            )
        return name

    def diff(self) -> dict[str, Any]:
        """All changes as one JSON object, from which `undo_files` makes the old files again."""
        files = []
        for repair in self.repairs:
            after = repair.after
            files.append(
                {
                    "file": self.name(repair.file),
                    "sha256_before": _sha256(repair.before),
                    "sha256_after": None if after is None else _sha256(after),
                    "changes": [
                        {
                            "list": "bytes",
                            "index": edit.start,
                            "codes": list(edit.codes),
                            "before": _text(repair.before[edit.start : edit.end]),
                            "after": _text(edit.after),
                        }
                        for edit in repair.edits
                    ]
                    or [_whole_file(repair)],
                }
            )
        return {"format": DIFF_FORMAT, "files": files}


def _whole_file(repair: FileRepair) -> dict[str, Any]:
    # What takes its place is the file itself.
    before = base64.b64encode(repair.before).decode("ascii")
    return {"list": "file", "index": 0, "codes": list(repair.codes), "before": before, "after": None}


def undo_files(diff: Mapping[str, Any], folder: Path) -> dict[str, bytes]:
    """The files that a repair changed or left out, as they were, by their paths in the dataset.

    Args:
        diff: as `RepairedCopy.diff` made it.
        folder: the repaired copy.

    Raises:
        DataError: the diff is damaged, or a file is not what the repair left.
    """
    files = diff.get("files")
    if diff.get("format") != DIFF_FORMAT or not isinstance(files, list) or not all(map(_is_sound, files)):
        raise DataError(_DAMAGED)
    old: dict[str, bytes] = {}
    for row in files:
        changes = row["changes"]
        if changes[0]["list"] == "file":
            data = _from_base64(changes[0]["before"])
        else:
            data = _with_pieces_back(_left_by_repair(folder / row["file"], row["sha256_after"]), changes)
        if _sha256(data) != row["sha256_before"]:
            raise DataError(_DAMAGED)
        old[row["file"]] = data
    return old


def _with_pieces_back(data: bytes, changes: Iterable[Mapping[str, Any]]) -> bytes:
    pieces: list[bytes] = []
    place = moved = 0  # in the repaired file; how much farther on it is than the old one
    for change in changes:
        before, after = (change[key].encode("utf-8", "surrogateescape") for key in ("before", "after"))
        start = change["index"] + moved
        pieces += [data[place:start], before]
        place = start + len(after)
        moved += len(after) - len(before)
    return b"".join((*pieces, data[place:]))


def _left_by_repair(file: Path, sha256: Any) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); name the folder that --fix made") from error
    if _sha256(data) != sha256:
        raise DataError(f"{file} is not what the repair left; undo needs the repaired files themselves")
    return data


def _is_sound(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("file"), str) or not row.get("changes"):
        return False
    name = PurePosixPath(row["file"])
    changes = row["changes"]
    return (
        not name.is_absolute()
        and ".." not in name.parts
        and isinstance(changes, list)
        and all(
            isinstance(change, dict)
            and change.get("list") in ("bytes", "file")
            and isinstance(change.get("index"), int)
            and isinstance(change.get("before"), str)
            and (change["list"] == "file" or isinstance(change.get("after"), str))
            for change in changes
        )
    )


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(_DAMAGED) from error


def _text(piece: bytes) -> str:
    # Bytes of another encoding become lone surrogates, which JSON holds as \udcxx.
    return piece.decode("utf-8", "surrogateescape")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Line(NamedTuple):
    """A line of a text file.

    Args:
        number: counted from 1.
        start, end: of its bytes, that which ends the line included.
        text: without the blanks around it.
    """

    number: int
    start: int
    end: int
    text: str

    def replaced(self, text: str, codes: Iterable[str], data: bytes) -> Edit:
        """The edit that writes another text in its place; what ends the line stays."""
        whole = data[self.start : self.end]
        ending = whole[len(whole.rstrip(b"\r\n")) :]
        return Edit(self.start, self.end, text.encode() + ending, tuple(dict.fromkeys(codes)))

    def removed(self, codes: Iterable[str]) -> Edit:
        return Edit(self.start, self.end, b"", tuple(dict.fromkeys(codes)))


def lines_of(data: bytes) -> Iterator[Line]:
    """The lines of a UTF-8 file; a byte order mark belongs to none.

    >>> [line.text for line in lines_of(b"one\\r\\n two")]
    ['one', 'two']
    """
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    number = 0
    while start < len(data):
        number += 1
        found = data.find(b"\n", start)
        end = len(data) if found < 0 else found + 1
        yield Line(number, start, end, data[start:end].decode("utf-8").strip())
        start = end
