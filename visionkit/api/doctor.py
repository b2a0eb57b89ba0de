"""What is wrong with a dataset, and a repaired copy of it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from visionkit.api.detector_rows import detector_rows
from visionkit.api.evaluate import seen_tiling
from visionkit.api.judged import Judged, open_judged, task_of_judged
from visionkit.api.repaired_copy import write_copy
from visionkit.diagnosis.balance import compare_categories, weigh_classes
from visionkit.diagnosis.findings import Examination, Finding, repair_diff
from visionkit.diagnosis.pictures import Pictures, find_twins
from visionkit.diagnosis.splits import examine_split
from visionkit.diagnosis.suspicion import find_suspicious
from visionkit.engine.device import choose_device
from visionkit.engine.events import EvaluationProgress, Listener
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_layouts import CocoSplit
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.json_file import write_json
from visionkit.formats.layout import find_layout
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.yaml_file import BrokenYamlError

SUSPICIOUS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor says of a dataset.

    Args:
        words: what was looked at.
        findings: of all files; those a model doubts come last, the most telling first.
        repaired_to: the folder of the repaired copy; None without one.
        changed: rows, or pieces of files, that the repair rewrote or removed.
    """

    words: str
    findings: tuple[Finding, ...]
    repaired_to: Path | None = None
    changed: int = 0

    def count(self, severity: str, *, left: bool = False) -> int:
        """Findings of a severity; with `left`, those alone that no repair mends."""
        return sum(f.severity == severity and not (left and f.repaired) for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit doctor --json` prints."""
        return {
            "data": self.words,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "findings": [finding.to_json() for finding in self.findings],
            "repaired_to": None if self.repaired_to is None else str(self.repaired_to),
            "changed": self.changed,
        }


@dataclass(slots=True)
class _Looked:
    """What was read on the way."""

    examinations: dict[str, Examination] = field(default_factory=dict)
    truths: dict[str, AnnotatedImages] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    pictures: Pictures = field(default_factory=Pictures)


def doctor(
    data: str | Path,
    *,
    images: str | Path | None = None,
    fix: str | Path | None = None,
    weights: str | Path | None = None,
    look_at_images: bool = True,
    imgsz: int = 640,
    device: str = "auto",
    threads: int = 0,
    offline: bool = False,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """Look for everything that is wrong or odd in a dataset of any format; nothing in it is changed. Where a folder has
    objects and masks, both are looked through.

    Args:
        data: dataset folder, YAML file, or a COCO annotation file alone.
        images: where the images of an annotation file lie; without it none is looked at.
        fix: a new folder, which gets the repaired annotation files and `repairs/` with what was changed, from which
            `undo_repair` makes the old files. Of COCO a `dataset.yaml` finds the images where they are; formats whose
            annotations lie beside their images, YOLO, VOC and masks, get these as links.
        weights: a detector, as `evaluate` takes it, whose doubts about labels are added: of all images of each split,
            with the labels as a repair leaves them.
        look_at_images: decode every image, 2 to 3 ms each: finds damaged ones, equal ones and nearly equal ones.
        imgsz: side of the network's input in pixels that objects are called tiny for.
        offline: never use the network.

    Raises:
        DataError: there is no such dataset, what is to be repaired cannot be read, or the model does not know each
            class of the data. Nothing is written then.
        UsageError: `fix` exists, the dataset is of a format that is not repaired, or `weights` can have no doubts: they
            are of no detector, or no images are named that it could see.
        CheckpointError: the weights are missing or broken.
    """
    if fix is not None and Path(fix).exists():
        raise UsageError(f"{fix} exists and nothing is overwritten; name a new folder")
    if weights is not None and images is None and _is_file_alone(Path(data)):
        raise UsageError(
            f"{data} is an annotation file alone, and a model has its doubts about what it sees; name the folder of "
            "its images by --images DIR, or leave out --weights"
        )
    try:
        layout = _layout(Path(data), None if images is None else Path(images))
    except BrokenYamlError as error:
        if fix is not None:
            raise
        return Diagnosis(error.file.name, (Finding("VK001", error.file, "", error.fact),))
    say(f"Data: {layout.describe()}")
    model = None if weights is None else _open(weights, device, threads, offline, listen, say)
    looked = _Looked()
    for split in layout.splits:
        _examine_split(layout, split, looked, look_at_images, listen)
    findings = [finding for examination in looked.examinations.values() for finding in examination.findings]
    findings += compare_categories(looked.examinations)
    findings += weigh_classes(looked.truths, layout.path, imgsz)
    findings += find_twins(looked.files, looked.pictures)
    beside = _Looked(pictures=looked.pictures)
    if layout.masks is not None:
        for split in layout.masks.splits:
            _examine_split(layout.masks, split, beside, False, listen)
        # A copy of COCO has its annotation files and no masks.
        coco = any(isinstance(files, CocoSplit) for files in layout.splits.values())
        of_masks = [finding for examination in beside.examinations.values() for finding in examination.findings]
        findings += [replace(finding, repaired=finding.repaired and not coco) for finding in of_masks]
        findings += weigh_classes(beside.truths, layout.masks.path, imgsz)
    if model is not None:
        findings += _doubts(model, looked.truths.values(), device, threads, listen, say)
    changed = 0
    if fix is not None:
        changed = _write_repaired(layout, looked.examinations, beside.examinations, Path(fix))
    return Diagnosis(layout.describe(), tuple(findings), None if fix is None else Path(fix), changed)


def _is_file_alone(path: Path) -> bool:
    """Whether it is an annotation file, and no dataset."""
    return path.suffix.lower() == ".json"


def _open(
    weights: str | Path, device: str, threads: int, offline: bool, listen: Listener, say: Callable[[str], None]
) -> Judged:
    """The model that has doubts, before the long work begins."""
    choose_device(device)  # what is wrong with it is said now
    loaded = open_judged(weights, device=device, threads=threads, offline=offline, listen=listen, say=say)
    if task_of_judged(loaded) != "detect":
        raise UsageError(
            f"{loaded.path} is no detector, a {loaded.name}, and doubts are about boxes; give a detector's weights"
        )
    return loaded


def _layout(path: Path, images: Path | None) -> DatasetLayout:
    if not _is_file_alone(path):
        if images is not None:
            raise UsageError("--images goes with an annotation file alone; a dataset knows where its images are")
        return find_layout(path)
    words = f"{path.name} over {images}" if images else f"{path.name}, no images looked at"
    return DatasetLayout(path.parent, path, words, {path.stem: CocoSplit(path, images)})  # type: ignore[arg-type]


def _examine_split(layout: DatasetLayout, split: str, looked: _Looked, look: bool, listen: Listener) -> None:
    files = layout.splits[split]
    done = 0

    def look_at(path: Path) -> None:
        nonlocal done
        done += 1
        listen(EvaluationProgress(done, 0))
        looked.pictures.look(path)
        looked.files.setdefault(split, []).append(path)

    examination = examine_split(files, look_at if look else None)
    looked.examinations[split] = examination
    if not isinstance(files, CocoSplit):
        if examination.truth is not None:
            looked.truths[split] = examination.truth
        return
    if examination.repaired is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        repaired = Path(folder) / files.annotations.name
        write_json(repaired, json.dumps(examination.repaired))
        try:
            truth = read_coco(repaired, files.images, skip_bad=True)
        except DataError:
            return  # nothing sound is left, which the findings say
    looked.truths[split] = replace(truth, source=files.annotations)


def _write_repaired(
    layout: DatasetLayout, examinations: Mapping[str, Examination], masks: Mapping[str, Examination], folder: Path
) -> int:
    """The repaired copy; how many rows changed."""
    splits = {name: files for name, files in layout.splits.items() if isinstance(files, CocoSplit)}
    if not splits:
        of_masks = {f"masks-{name}": examination for name, examination in masks.items()}
        return write_copy({**examinations, **of_masks}, folder)
    broken = [e.file for e in examinations.values() if e.repaired is None]
    if broken:
        raise DataError(f"{broken[0]} cannot be read as COCO, which only its author can repair; export it again")
    for part in ("annotations", "repairs"):
        (folder / part).mkdir(parents=True)
    described: dict[str, dict[str, str]] = {}
    changed = 0
    for name, files in splits.items():
        examination = examinations[name]
        text = json.dumps(examination.repaired, ensure_ascii=False)
        before, after = _sha256(files.annotations.read_bytes()), _sha256(text.encode())
        write_json(folder / "annotations" / f"{name}.json", text)
        diff = repair_diff(examination, before, after)
        write_json(folder / "repairs" / f"{name}.json", json.dumps(diff, ensure_ascii=False, indent=1))
        changed += len(examination.changes)
        if files.images is not None:
            where = os.path.relpath(files.images, folder)
            described[name] = {"images": Path(where).as_posix(), "annotations": f"annotations/{name}.json"}
    if described:
        # JSON is YAML.
        write_json(folder / "dataset.yaml", json.dumps(described, ensure_ascii=False, indent=1) + "\n")
    return changed


def _doubts(
    model: Judged,
    truths: Iterable[AnnotatedImages],
    device: str,
    threads: int,
    listen: Listener,
    say: Callable[[str], None],
) -> list[Finding]:
    """What a model doubts, the `SUSPICIOUS_SHOWN` most telling of each split."""
    tiling = seen_tiling(model, None, None, say)
    once = cache(say)  # splits have the same classes
    findings: list[Finding] = []
    for truth in truths:
        rows = detector_rows(model, truth, tiling, device=device, threads=threads, listen=listen, say=once)
        findings += find_suspicious(truth, rows)[:SUSPICIOUS_SHOWN]
    return findings


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
