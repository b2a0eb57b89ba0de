"""Files and folders of a dataset, read with errors that name them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from visionkit.errors import DataError

MAX_BYTES = 100_000_000
"""A list of images or an annotation file of one image is never larger."""


def read_bytes(file: Path, needed: str) -> bytes:
    """The content of a regular file.

    Args:
        needed: what the file should be, for messages: `a list of images`.

    Raises:
        DataError: there is no such regular file, it is larger than MAX_BYTES, or it cannot be read.
    """
    try:
        if not file.is_file():  # a FIFO would block for ever
            fact = "is not a regular file" if file.exists() else "does not exist"
            raise DataError(f"{file} {fact}, {needed} is needed; check the path")
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file} is larger than {MAX_BYTES // 10**6} MB, {needed} is needed; check the path")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{str(file)!r} is not a file name, {needed} is needed; check the path") from error


def read_lines(file: Path, needed: str) -> list[str]:
    """The lines of a UTF-8 text file, without the blanks around them; a byte order mark is passed over.

    Raises:
        DataError: as `read_bytes`, or the file is not text.
    """
    try:
        text = read_bytes(file, needed).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not text in UTF-8, {needed} is needed; convert it") from error
    return [line.strip() for line in text.split("\n")]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unlisted(folder, error) from error


def files_below(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders, sorted.

    Raises:
        DataError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise _unlisted(error.filename, error) from error

    return sorted(Path(where, name) for where, _, names in os.walk(folder, onerror=refuse) for name in names)


def _unlisted(folder: Path | str, error: OSError) -> DataError:
    return DataError(f"folder {folder} cannot be listed ({error.strerror}); check its permissions")


def is_one_line(text: str) -> bool:
    """Whether text has no control characters, line breaks among them, and can be written as UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
