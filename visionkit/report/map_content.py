"""What a report on semantic maps says, as one JSON object: gathered while the maps pass, one image at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.formats.semantic_map import semantic_map
from visionkit.metrics.mean_iou import IGNORED, SegmentationScores, map_confusion
from visionkit.predict.colours import Colour, class_colour
from visionkit.predict.map_comparison import WRONG
from visionkit.report.thumbnails import Thumbnails

Labels = NDArray[np.uint8]

SCORES = ("mIoU", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "boundary_iou")


class SeenMaps:
    """The entries of a report's images, made as the maps pass.

    Args:
        truth: the split that is judged.
    """

    def __init__(self, truth: AnnotatedImages) -> None:
        self.truth = truth
        self.entries: list[dict[str, Any]] = []
        # Three maps beside the picture take about as much as it does.
        self._thumbnails = Thumbnails.for_images(2 * len(truth.images))
        self._palette = np.array([class_colour(label) for label in range(len(truth.classes))], np.uint8)

    def passing(self, maps: Iterable[Labels]) -> Iterator[Labels]:
        """The same maps, u8 [H, W] of the split's labels, one for each of its images in its order."""
        for record, predicted in zip(self.truth.images, maps, strict=True):
            self.entries.append(self._entry(record, semantic_map(record, self.truth.classes), predicted))
            yield predicted

    def _entry(self, record: ImageRecord, truth: Labels, predicted: Labels) -> dict[str, Any]:
        count = len(self.truth.classes)
        confusion = map_confusion(truth, predicted, count)
        judged = int(confusion.sum())
        right = int(np.trace(confusion))
        wrong = np.where((truth != IGNORED) & (truth != predicted), 0, IGNORED).astype(np.uint8)
        made = self._thumbnails
        return {
            "name": record.file_name,
            "width": truth.shape[1],
            "height": truth.shape[0],
            "thumbnail": None if record.path is None else made.of(record.path)[0],
            "truth": made.of_map(truth, self._palette),
            "predicted": made.of_map(np.where(predicted < count, predicted, IGNORED).astype(np.uint8), self._palette),
            "wrong": made.of_map(wrong, np.array([WRONG], np.uint8)),
            "judged": judged,
            "badness": round(1 - right / judged, 5) if judged else 0.0,
            "cells": [[row, column, int(confusion[row, column])] for row, column in np.argwhere(confusion).tolist()],
        }


def map_content(
    title: str, truth: AnnotatedImages, scores: SegmentationScores, seen: SeenMaps, facts: Sequence[str] = ()
) -> dict[str, Any]:
    """The content of a report on semantic maps, its images the worst first: by the share of judged pixels that is
    wrong.

    Args:
        title: what was judged.
        truth, scores, seen: the split, what its maps were scored by, and the maps themselves, all of which passed.
        facts: lines for below the title.
    """
    return {
        "kind": "maps",
        "title": title,
        "facts": list(facts),
        "classes": list(truth.classes.names),
        "colours": [_hex(class_colour(label)) for label in range(len(truth.classes))],
        "wrong": _hex(WRONG),
        "scores": {name: getattr(scores, name) for name in SCORES},
        "intervals": dict(scores.interval95 or {}),
        "per_class": {
            name: {"IoU": row.IoU, "accuracy": row.accuracy, "boundary_iou": row.boundary_iou, "pixels": row.pixels}
            for name, row in scores.per_class.items()
        },
        "confusion": [list(row) for row in scores.confusion],
        "images": sorted(seen.entries, key=lambda entry: -entry["badness"]),
    }


def _hex(colour: Colour) -> str:
    """As CSS writes it."""
    return f"#{bytes(colour).hex()}"
