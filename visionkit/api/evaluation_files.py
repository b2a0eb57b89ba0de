"""What `evaluate` is to write: whether it can be, which is said before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from visionkit.api.detection_scores import Beside
from visionkit.api.judged import Judged, LoadedGraph, task_of_judged
from visionkit.errors import UsageError
from visionkit.report.page import check_report


def check_free(
    save_predictions: str | Path | None,
    report: str | Path | None,
    calibrate: str | Path | None = None,
    pictures: str | Path | None = None,
) -> None:
    """Raises UsageError where a file would be overwritten, is misnamed or cannot be there, before the work begins."""
    for flag, file in (("--save-predictions", save_predictions), ("--calibrate", calibrate)):
        if file is not None and Path(file).exists():
            raise UsageError(f"{file} exists and nothing is overwritten; give another {flag}")
    if calibrate is not None and Path(calibrate).suffix != ".safetensors":
        raise UsageError(f"--calibrate writes a weights file, got {calibrate}; name it NAME.safetensors")
    if report is not None:
        check_report(Path(report))
    inside = None if pictures is None else Path(pictures) / "picture"
    for flag, goes in (
        ("--save-predictions", save_predictions),
        ("--calibrate", calibrate),
        ("--report", report),
        ("--pictures", inside),
    ):
        if goes is not None:
            _check_place(flag, Path(goes))


def _check_place(flag: str, file: Path) -> None:
    """Raises UsageError where no file can be made at a path."""
    there = next(folder for folder in file.absolute().parents if os.path.lexists(folder))
    if there.is_dir() and os.access(there, os.W_OK):
        return
    fact = "may not be written to" if there.is_dir() else "is no folder"
    raise UsageError(f"{there} {fact}, and what {flag} writes goes there; name another place")


def check_outputs(
    loaded: Judged,
    save_predictions: str | Path | None,
    pictures: str | Path | None,
    calibrate: str | Path | None,
    beside: Beside,
) -> None:
    """Raises UsageError: the model says nothing that could be written, drawn or judged so."""
    of_model = task_of_judged(loaded)
    if of_model == "classify" and (save_predictions is not None or pictures is not None):
        raise UsageError(
            f"{loaded.path} is a classifier, and predictions and pictures are of detections or maps; leave them out"
        )
    if of_model == "segment" and save_predictions is not None:
        raise UsageError(f"{loaded.path} is a segmenter, predictions are of detections; leave out --save-predictions")
    if of_model == "classify" and beside.report is not None:
        raise UsageError(f"{loaded.path} is a classifier, and reports are of detections or maps; leave out --report")
    asked = [*beside.asked, *(["--calibrate"] if calibrate is not None else [])]
    if of_model != "detect" and asked:
        raise UsageError(f"{loaded.path} is no detector, and {asked[0]} is of detections; leave it out")
    if calibrate is not None and isinstance(loaded, LoadedGraph):
        raise UsageError(
            f"{loaded.path} is an exported graph, and --calibrate writes a model's file; calibrate that and export it"
        )
    if calibrate is not None and loaded.path.suffix != ".safetensors":
        raise UsageError(f"{loaded.path} is torchvision's file, and --calibrate copies visionkit's; fine-tune it first")
