"""Results as JSON lines of schema `visionkit.result/1`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from visionkit.predict.writers import AddResult, GrowingFile, Pixels
from visionkit.result import Result


def write_json_line(stream: IO[str], result: Result) -> None:
    """Write a result as one line of JSON and flush: whoever reads along sees it at once."""
    stream.write(json_line(result))
    stream.flush()


def json_line(result: Result) -> str:
    """The line is pure ASCII (other characters escaped), so it survives any terminal, pipe and odd file name."""
    return json.dumps(result.to_json(), allow_nan=False) + "\n"


@contextmanager
def json_writer(folder: Path) -> Iterator[AddResult]:
    """`detections.jsonl`: a line an image, also where nothing was found. Raises as GrowingFile."""
    with GrowingFile(folder / "detections.jsonl") as lines:

        def add(result: Result, *, number: int, name: str, pixels: Pixels) -> None:
            lines.add(json_line(result))

        yield add
