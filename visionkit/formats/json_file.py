"""JSON files: read with errors that name the file, written whole or not at all."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from visionkit.errors import DataError


def read_json(file: Path) -> Any:
    """The content of a UTF-8 JSON file. Bare NaN and Infinity, which Python writes, are read as floats.

    Raises:
        DataError: there is no such regular file, it cannot be read, or it is not JSON.
    """
    if not file.is_file():
        fact = "is not a regular file" if file.exists() else "does not exist"
        raise DataError(f"{file} {fact}, a JSON file is needed; check the path")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    if not data or data.isspace():
        raise DataError(f"{file} is empty, a JSON file is needed; copy or export it again")
    try:
        return _parsed(data)
    except RecursionError as error:
        raise DataError(f"{file} is nested too deeply to be an annotation file; name another file") from error
    except ValueError as error:  # JSON, UTF-8, or a number of thousands of digits
        reason = " ".join(str(error).split())
        raise DataError(f"{file} is not whole, valid JSON ({reason}); copy or export it again") from error


LARGE = 1 << 20
"""Bytes from which on JSON is parsed by a faster parser, which takes a moment to import."""


def _parsed(data: bytes) -> Any:
    """The content of JSON. Raises what `json.loads` raises."""
    if len(data) < LARGE:
        return json.loads(data)
    from pydantic_core import from_json  # noqa: PLC0415 - only where there is much to parse

    with without_collection():
        try:
            return from_json(data)
        except ValueError:
            # What it refuses json may read, such as UTF-16; if not, json says what is wrong.
            return json.loads(data)


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for garbage meanwhile: while many objects are made and none dropped, it takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():
                # All that was made counts as old at once: the next search would go through all of it.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def write_json(file: Path, text: str) -> None:
    """Write JSON text so that a crash leaves the old file or the new one, never half of one.

    Raises:
        DataError: the folder is missing or cannot be written to.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException as error:
        with suppress(OSError):  # it could not even be looked for
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise DataError(f"{file} cannot be written ({error.strerror}); check folder and permissions") from error
