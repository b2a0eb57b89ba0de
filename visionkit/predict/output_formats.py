"""The formats results can be written in, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from visionkit.errors import UsageError
from visionkit.predict.coco_writer import coco_writer
from visionkit.predict.crop_writer import crop_writer
from visionkit.predict.csv_writer import csv_writer
from visionkit.predict.json_writer import json_writer
from visionkit.predict.mask_writer import mask_writer
from visionkit.predict.writers import AddResult
from visionkit.predict.yolo_writer import CLASSES_STEM, yolo_writer
from visionkit.result import Task


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a format is written.

    Args:
        files: what it writes, as the user is told.
        writer: opens its files in a folder, for a `with` block.
        reserved: stems of its files that no image may have.
        tasks: whose results it can hold.
    """

    files: str
    writer: Callable[[Path], AbstractContextManager[AddResult]]
    reserved: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ("detect",)


def _labelme(folder: Path) -> AbstractContextManager[AddResult]:
    from visionkit.predict.labelme_writer import labelme_writer  # noqa: PLC0415 - dataset formats take time to import

    return labelme_writer(folder)


def _cvat(folder: Path) -> AbstractContextManager[AddResult]:
    from visionkit.predict.cvat_writer import cvat_writer  # noqa: PLC0415 - dataset formats take time to import

    return cvat_writer(folder)


FORMATS: Mapping[str, OutputFormat] = {
    "json": OutputFormat("detections.jsonl", json_writer, tasks=("detect", "classify", "segment")),
    "coco": OutputFormat("results.json", coco_writer, tasks=("detect", "segment")),
    "yolo": OutputFormat("YOLO text files", yolo_writer, reserved=(CLASSES_STEM,)),
    "csv": OutputFormat("detections.csv", csv_writer, tasks=("detect", "classify")),
    "labelme": OutputFormat("labelme", _labelme, tasks=("detect", "segment")),
    "cvat": OutputFormat("cvat/annotations.xml", _cvat, tasks=("detect", "segment")),
    "masks": OutputFormat("masks with areas.csv", mask_writer, tasks=("segment",)),
    "crops": OutputFormat("crops", crop_writer),
}


DEFAULT_FORMATS: Mapping[Task, str] = {"detect": "coco", "classify": "csv", "segment": "masks"}
"""What results are written in where nothing is said."""


def chosen_formats(names: Sequence[str], task: Task | None = "detect") -> tuple[OutputFormat, ...]:
    """The formats of these names, each once, in the order given.

    Args:
        task: of the model whose results are to be written; None where it is not known yet, and only names are checked.

    Raises:
        UsageError: an unknown name, or a format that cannot hold the task's results.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise UsageError(
            f"unknown format {unknown[0]!r}, detections are written as one or several of {', '.join(FORMATS)}; "
            "choose among these"
        )
    unfit = [name for name in names if task is not None and task not in FORMATS[name].tasks]
    if unfit:
        fitting = ", ".join(name for name, chosen in FORMATS.items() if task in chosen.tasks)
        raise UsageError(
            f"format {unfit[0]} cannot hold what this model finds (task {task}), these formats can: {fitting}; choose "
            "among these"
        )
    return tuple(FORMATS[name] for name in dict.fromkeys(names))
