"""The formats results can be written in, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from visionkit.errors import UsageError
from visionkit.predict.coco_writer import coco_writer
from visionkit.predict.csv_writer import csv_writer
from visionkit.predict.json_writer import json_writer
from visionkit.predict.writers import AddResult
from visionkit.predict.yolo_writer import CLASSES_STEM, yolo_writer


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a format is written.

    Args:
        files: what it writes, as the user is told.
        writer: opens its files in a folder, for a `with` block.
        reserved: stems of its files that no image may have.
    """

    files: str
    writer: Callable[[Path], AbstractContextManager[AddResult]]
    reserved: tuple[str, ...] = ()


FORMATS: Mapping[str, OutputFormat] = {
    "json": OutputFormat("detections.jsonl", json_writer),
    "coco": OutputFormat("results.json", coco_writer),
    "yolo": OutputFormat("YOLO text files", yolo_writer, reserved=(CLASSES_STEM,)),
    "csv": OutputFormat("detections.csv", csv_writer),
}


def chosen_formats(names: Sequence[str]) -> tuple[OutputFormat, ...]:
    """The formats of these names, each once, in the order given.

    Raises:
        UsageError: an unknown name.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise UsageError(
            f"unknown format {unknown[0]!r}, detections are written as one or several of {', '.join(FORMATS)}; "
            "choose among these"
        )
    return tuple(FORMATS[name] for name in dict.fromkeys(names))
