"""Pieces of files replaced, and put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visionkit.diagnosis.file_repair import Edit, FileRepair, RepairedCopy, lines_of, undo_files
from visionkit.errors import DataError

DATA = "0 1 2\r\n\xe4 3\n\n4".encode("latin-1")  # a byte that is no UTF-8


def copy(root: Path) -> RepairedCopy:
    """A file with its first piece removed and a later one longer, one made anew, and one that goes."""
    edits = (Edit(0, 7, b"", ("VK204",)), Edit(9, 10, b"300", ("VK206", "VK203")))
    repairs = (
        FileRepair(root / "a/b.txt", DATA, edits),
        FileRepair(root / "m.png", b"\x89old\0", whole=b"new", codes=("VK309",)),
        FileRepair(root / "gone.txt", b"was here", codes=("VK007",)),
    )
    return RepairedCopy(root, repairs=repairs)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The files as the repair leaves them."""
    for repair in copy(tmp_path).repairs:
        if repair.after is not None:
            repair.file.parent.mkdir(parents=True, exist_ok=True)
            repair.file.write_bytes(repair.after)
    return tmp_path


def diff(root: Path) -> dict[str, Any]:
    return dict(json.loads(json.dumps(copy(root).diff())))


def test_pieces_are_replaced(written: Path) -> None:
    assert (written / "a/b.txt").read_bytes() == b"\xe4 300\n\n4"
    assert [repair.count for repair in copy(written).repairs] == [2, 1, 1]


def test_all_files_come_back(written: Path) -> None:
    assert undo_files(diff(written), written) == {"a/b.txt": DATA, "m.png": b"\x89old\0", "gone.txt": b"was here"}


def test_a_file_that_was_edited_since_is_refused(written: Path) -> None:
    (written / "a/b.txt").write_bytes(b"other")
    with pytest.raises(DataError, match=r"b.txt is not what the repair left; undo needs the repaired files themselves"):
        undo_files(diff(written), written)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "other"},
        {"files": 1},
        {"files": [{"file": "../a", "changes": [{"list": "file", "index": 0, "before": ""}]}]},
        {"files": [{"file": "a", "changes": []}]},
        {"files": [{"file": "a", "changes": [{"list": "file", "index": 0, "before": "%"}]}]},
        {"files": [{"file": "a", "sha256_before": "", "changes": [{"list": "file", "index": 0, "before": ""}]}]},
    ],
)
def test_a_damaged_diff_is_refused(written: Path, damage: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="this one is damaged; name a file of --fix"):
        undo_files({**diff(written), **damage}, written)


def test_a_file_elsewhere_has_no_place_in_a_copy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lies outside of .*; move it there, or convert the dataset first"):
        RepairedCopy(tmp_path / "data", pictures=(tmp_path / "other.png",)).checked()


def test_lines_keep_what_ends_them() -> None:
    data = b"\xef\xbb\xbf one \r\ntwo"
    first, second = lines_of(data)
    assert (first.number, first.text, second.text) == (1, "one", "two")
    assert FileRepair(Path("a"), data, (first.replaced("1", (), data),)).after == b"\xef\xbb\xbf1\r\ntwo"
    assert FileRepair(Path("a"), data, (first.removed(()),)).after == b"\xef\xbb\xbftwo"
