"""The report of an evaluation, as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionkit.formats.findings import Findings
from visionkit.formats.image_files import find_image
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import CocoScores
from visionkit.metrics.mean_iou import SegmentationScores
from visionkit.report.content import detector_content
from visionkit.report.map_content import SeenMaps, map_content
from visionkit.report.page import write_report
from visionkit.score_map import ScoreMap
from visionkit.version import __version__


def report_detections(
    file: Path,
    title: str,
    truth: AnnotatedImages,
    rows: Sequence[Mapping[str, Any]],
    scores: CocoScores,
    facts: Sequence[str] = (),
    score_map: ScoreMap | None = None,
) -> None:
    """Write the report on COCO results `rows`, of a calibrated model with its map of scores.

    Raises:
        UsageError: the file exists, or is not named as HTML.
        DataError: it cannot be written.
    """
    lines = [*facts, f"{len(truth.images)} images, {truth.object_count} objects; visionkit {__version__}"]
    write_report(file, detector_content(title, truth, rows, scores, scores.task, lines, score_map))


def report_maps(
    file: Path,
    title: str,
    truth: AnnotatedImages,
    scores: SegmentationScores,
    seen: SeenMaps,
    facts: Sequence[str] = (),
) -> None:
    """Write the report on semantic maps, all of which `seen` has seen.

    Raises: as `report_detections`.
    """
    lines = [*facts, f"{len(truth.images)} images; visionkit {__version__}"]
    write_report(file, map_content(title, truth, scores, seen, lines))


def with_images_in(truth: AnnotatedImages, folder: Path) -> AnnotatedImages:
    """The same images, whose files are looked for in a folder; those that are not there stay without a picture."""
    unread = Findings(truth.source)  # a name that leads out of the folder is not followed
    found = (replace(image, path=find_image(image.file_name, folder, "image", unread)) for image in truth.images)
    return replace(truth, images=tuple(found))
