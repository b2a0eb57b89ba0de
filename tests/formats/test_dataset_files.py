import os
from pathlib import Path

import pytest

from visionkit.errors import DataError
from visionkit.formats.dataset_files import MAX_BYTES, entries, files_below, is_one_line, read_bytes, read_lines


def refusal(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_bytes(file, "a list")
    return str(caught.value)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'} does not exist, a list is needed; check the path"
    assert refusal(tmp_path) == f"{tmp_path} is not a regular file, a list is needed; check the path"
    assert "File name too long" in refusal(tmp_path / ("x" * 300))
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert refusal(huge) == f"{huge} is larger than 100 MB, a list is needed; check the path"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith(f"{tmp_path / 'pipe'} is not a regular file")


def test_lines_lose_byte_order_mark_and_blanks_and_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("\ufeffa \r\n\n\tb c\x85d\n".encode())
    assert read_lines(tmp_path / "list", "a list") == ["a", "", "b c\x85d", ""], "U+0085 may stand in a file name"


def test_folders_are_listed_sorted(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "c", "a/x/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert entries(tmp_path) == [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    assert files_below(tmp_path) == [tmp_path / name for name in ("a/x/y", "b/1", "b/2", "c")]


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    for listing in (entries, files_below):
        with pytest.raises(DataError) as caught:
            listing(tmp_path / "gone")
        assert str(caught.value) == (
            f"folder {tmp_path / 'gone'} cannot be listed (No such file or directory); check its permissions"
        )


def test_control_characters_make_no_line() -> None:
    assert all(map(is_one_line, ("dining table", "Löwe", "")))
    assert not any(map(is_one_line, ("a\nb", "a\tb", "\x7f", "\x85", "\ud800")))
