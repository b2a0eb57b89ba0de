"""JSON files: read with errors that name the file, written whole or not at all."""

from __future__ import annotations

import json
import os
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
    if not data.strip():
        raise DataError(f"{file} is empty, a JSON file is needed; copy or export it again")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise DataError(f"{file} is nested too deeply to be an annotation file; name another file") from error
    except ValueError as error:  # JSON, UTF-8, or a number of thousands of digits
        reason = " ".join(str(error).split())
        raise DataError(f"{file} is not whole, valid JSON ({reason}); copy or export it again") from error


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
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{file} cannot be written ({error.strerror}); check folder and permissions") from error
