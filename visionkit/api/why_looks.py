"""What a detector decides on an image and its objects in each view that it has of it: the whole one, tiles too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.classes import ClassTable
from visionkit.data import framing
from visionkit.data.collate import collate
from visionkit.data.tiles import cut_out
from visionkit.engine.explain import decisions, object_rows, raw_why, run_model
from visionkit.models.assembly import frame_multiple_of
from visionkit.models.lost_objects import found_objects
from visionkit.ops.boxes import box_iou
from visionkit.predict.merging import Found, Window, came_before, found_in, merged_places
from visionkit.predict.why import joined_why, number, why_document
from visionkit.predict.why_words import STEP_WORDS
from visionkit.types import Sample, Target

WITHIN = 0.5
"""Pixels by which an object may leave a view that shows all of it: annotations are rounded."""


@dataclass(frozen=True, slots=True)
class Look:
    """What came of one view.

    Args:
        window: what it shows.
        rows: what became of the objects in it, as `object_rows` says, by their places in the image's list.
        document: why, as `why_document` says; all in pixels of the image.
        found: what is kept.
    """

    window: Window
    rows: Mapping[int, dict[str, Any]]
    document: dict[str, Any]
    found: Found


@dataclass(frozen=True, slots=True)
class Looking:
    """How a model is asked.

    Args:
        model: a detector in eval mode.
        classes: of the model.
        image_size: side of its square in pixels.
        device, amp: as `run_model` takes them.
        conf, iou, max_det: as `decisions` takes them.
        min_visible: objects of which a smaller share of the area shows in a view are not in it.
    """

    model: nn.Module
    classes: ClassTable
    image_size: int
    device: torch.device
    amp: bool
    conf: float
    iou: float | None
    max_det: int
    min_visible: float

    def at(self, sample: Sample, window: Window, view: int = 0) -> Look:
        """The model looks at a window of an image.

        Args:
            sample: the image; objects have the model's labels.
            view: the number of the view.
        """
        height, width = sample.image.shape[:2]
        # In place of labels, what tells the objects apart that a window leaves.
        part = replace(sample, labels=np.arange(len(sample.labels)))
        part = part if window == (0, 0, width, height) else cut_out(part, framing.Window(*window), self.min_visible)
        objects = part.labels
        part, multiple = replace(part, labels=sample.labels[objects]), frame_multiple_of(self.model)
        batch = collate([framing.letterboxed(part, self.image_size, multiple=multiple)])
        (target,), (frame,) = batch.targets, batch.frames
        outputs = run_model(self.model, batch.images, device=self.device, amp=self.amp, proposals=batch.proposals)
        (made,) = decisions(self.model, outputs, score=self.conf, iou=self.iou, max_det=self.max_det)
        placed = frame.at(*window[:2])
        rows = object_rows(self.model, outputs, made, target.to(self.device), placed, self.classes.names)
        for row in rows:
            if "other_object" in row:
                row["other_object"] = int(objects[row["other_object"]])
        why = raw_why(made)
        return Look(
            window,
            dict(zip(objects.tolist(), rows, strict=True)),
            why_document(why, placed, self.classes),
            found_in(why.kept(), frame, window, (width, height), view),
        )


def look_in_views(
    looking: Looking, sample: Sample, views: Sequence[Window]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What became of each object of an image, and why, where its views are put together as `detect` does it.

    An object has the row of the view that shows all of it and in which it came farthest, of equal ones the first, and
    as `view` that window. What counts for it in the end comes of all views: it is found where one of the detections
    that are left counts for it; where its own counts for another object, its step is `taken`; where it is not left,
    `gave_way`, with the one that stands for it as `rival`, or `beyond_max_det`.

    Args:
        views: tiles first, the whole image last.
    """
    looks = [looking.at(sample, window, view) for view, window in enumerate(views)]
    rows = [_farthest(looks, g, box) for g, box in enumerate(sample.boxes)]
    found = Found.joined([look.found for look in looks])
    places = merged_places(found, looking.max_det)
    counting, shared = _counting(found.take(places), sample)
    for g, row in enumerate(rows):
        if g in counting:
            place, look = int(places[counting[g]]), looks[int(found.view[places[counting[g]]])]
            own = look.rows.get(g, {}) if _shows(look.window, sample.boxes[g]) else {}
            rows[g] = _found_row(row, own, found, place, float(shared[g, counting[g]])) | {"view": list(look.window)}
        elif row.get("step") == "found":
            rows[g] = row | _lost_in_merging(row, found, places, counting, looking.classes.names)
    return rows, joined_why([look.document for look in looks], views, found, places)


def _farthest(looks: Sequence[Look], g: int, box: NDArray[np.float32]) -> dict[str, Any]:
    steps = list(STEP_WORDS)
    whole = [look for look in looks if g in look.rows and _shows(look.window, box)]
    best = min(whole, key=lambda look: steps.index(look.rows[g].get("step", steps[-1])))
    return best.rows[g] | {"view": list(best.window)}


def _shows(window: Window, box: NDArray[np.float32]) -> bool:
    left, top, right, bottom = window
    x1, y1, x2, y2 = box.tolist()
    return bool(min(x1 - left, y1 - top, right - x2, bottom - y2) >= -WITHIN)


def _counting(left: Found, sample: Sample) -> tuple[dict[int, int], NDArray[np.float32]]:
    """Of each object that is found the detection that counts for it, and IoU [G, D] of all."""
    target = Target.of_arrays(sample.boxes, sample.labels, sample.ignore)
    overlap = box_iou(target.boxes[:, None], torch.from_numpy(left.boxes))
    objects = found_objects(torch.from_numpy(left.labels), target, overlap)
    return {g: place for place, g in objects.items()}, overlap.numpy()


def _found_row(
    row: Mapping[str, Any], own: Mapping[str, Any], found: Found, place: int, overlap: float
) -> dict[str, Any]:
    """Of an object that a detection counts for.

    Args:
        row: of the view in which it came farthest.
        own: of the view of that detection, where that shows all of it; it says too where the detection came from.
        place: of the detection.
    """
    score = number(found.scores[place], 5)
    if own.get("step") == "found" and own["score"] == score:
        return dict(own)
    box = [round(corner, 2) for corner in found.boxes[place].tolist()]
    of_found = {"step": "found", "iou": number(overlap, 4), "score": score, "candidate": box}
    return {"ignored": False, "assigned": row["assigned"], **of_found}


def _lost_in_merging(
    row: Mapping[str, Any],
    found: Found,
    places: NDArray[np.int64],
    counting: Mapping[int, int],
    names: Sequence[str],
) -> dict[str, Any]:
    """Why an object that one view found is not found in the end."""
    own = next(
        i
        for i, (box, score) in enumerate(zip(found.boxes.tolist(), found.scores, strict=True))
        if number(score, 5) == row["score"] and [round(corner, 2) for corner in box] == row["candidate"]
    )
    for other, place in counting.items():
        if places[place] == own:
            return {"step": "taken", "other_object": other}
    before = came_before(found, own, places)
    if before is None:
        return {"step": "beyond_max_det"}
    rival, overlap = before
    said = {
        "bbox": [round(corner, 2) for corner in found.boxes[rival].tolist()],
        "score": number(found.scores[rival], 5),
        "name": names[int(found.labels[rival])],
        "iou": number(overlap, 4),
    }
    return {"step": "gave_way", "rival": said}
