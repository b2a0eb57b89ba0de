"""Which class is taken for which: the confusion matrix of a detector at one score threshold.

Other than AP, it lets a detection find an object of another class. Detections of at least the threshold choose in turn,
highest score first: each takes the object not yet taken that it overlaps most, of whatever class, if their IoU reaches
0.5. What is left over is background found as something, and objects that were missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Integers, Task, check_task, detection_columns, truth_columns
from visionkit.metrics.coco_matching import greedy_matches, overlapping_pairs

NOTHING = -1


@dataclass(frozen=True, slots=True)
class DetectionConfusion:
    """Who was taken for whom.

    Args:
        counts: i64 [K + 1, K + 1]: rows are what is there, columns what was said; the last row is background, the last
            column what was missed, and their corner is 0.
        said: of each annotation, image by image in the order of the truth, the label of the detection that took it;
            `NOTHING` where it was missed, and for crowds.
        meant: of each detection, in the order given, the label of the object it took; `NOTHING` where it took none.
        counted: whether a detection takes part: its score reaches the threshold, and it lies on no crowd.
    """

    counts: Integers
    said: tuple[int, ...]
    meant: tuple[int, ...]
    counted: tuple[bool, ...]


def detection_confusion(
    truth: AnnotatedImages,
    detections: Sequence[Mapping[str, Any]],
    score: float = 0.25,
    iou: float = 0.5,
    task: Task = "bbox",
) -> DetectionConfusion:
    """The confusion matrix of the detections of at least `score`.

    Args, Raises: as `visionkit.metrics.coco_map.coco_scores`.
    """
    check_task(task)
    classes = len(truth.classes)
    objects, found = truth_columns(truth, task), detection_columns(truth, detections, task)
    total = len(found.row)
    found = found.take(np.flatnonzero(found.score >= score))
    # One group an image: classes do not part them.
    objects = replace(objects, group=objects.group // classes)
    image = found.group // classes
    found = replace(found, group=image).take(np.lexsort((-found.score, image)))
    pairs = overlapping_pairs(found, objects, iou)
    # One setting. It ignores crowds: whoever lies on one is neither right nor wrong.
    reached, ignored = np.ones(len(pairs.iou), np.uint64), objects.crowd.astype(np.uint64)
    is_match = greedy_matches(pairs, found.group, reached, ignored, objects.crowd) > 0
    taken, takers = pairs.objects[is_match], pairs.found[is_match]
    real = ~objects.crowd[taken]

    on_crowd = np.zeros(len(found.row), np.bool_)
    on_crowd[takers[~real]] = True
    meant = np.full(len(found.row), NOTHING)
    meant[takers[real]] = objects.label[taken[real]]
    said = np.full(len(objects.row), NOTHING)
    said[taken[real]] = found.label[takers[real]]

    counts = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(counts, (meant[~on_crowd], found.label[~on_crowd]), 1)  # NOTHING, -1, is the last row
    missed = (said == NOTHING) & ~objects.crowd
    np.add.at(counts, (objects.label[missed], classes), 1)

    said_given, meant_given = np.full(len(objects.row), NOTHING), np.full(total, NOTHING)
    said_given[objects.row], meant_given[found.row] = said, meant
    counted = np.zeros(total, np.bool_)
    counted[found.row] = ~on_crowd
    return DetectionConfusion(counts, tuple(said_given.tolist()), tuple(meant_given.tolist()), tuple(counted.tolist()))
