"""Pictures of why: where lines, labels and counts land."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.predict.colours import class_colour
from visionkit.predict.drawing import draw
from visionkit.predict.why_drawing import FOUND, LOST, draw_objects_why, draw_why
from visionkit.result import Result


def blank(width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255, np.uint8)


def candidate(bbox: list[float], fate: str = "kept", **others: Any) -> dict[str, Any]:
    return {"bbox": bbox, "score": 0.9, "label": 0, "category_id": 1, "name": "car", "fate": fate, "from": {}, **others}


def why_of(*candidates: dict[str, Any]) -> dict[str, Any]:
    names = ("kept", "beyond_max_det", "suppressed", "below_conf")
    counts = {fate: sum(one["fate"] == fate for one in candidates) for fate in names}
    settings = {"conf": 0.25, "iou": 0.7, "max_det": 300, "candidates": 3000}
    return {"settings": settings, "counts": counts, "candidates": list(candidates)}


def result_of(*candidates: dict[str, Any], width: int = 640, height: int = 480) -> Result:
    kept = [one["bbox"] for one in candidates if one["fate"] == "kept"]
    return Result(
        path="photo.jpg",
        width=width,
        height=height,
        classes=ClassTable((1,), ("car",)),
        boxes=np.array(kept, np.float32).reshape(-1, 4),
        scores=np.full(len(kept), 0.9, np.float32),
        labels=np.zeros(len(kept), np.int64),
        why=why_of(*candidates),
    )


KEPT_BOX, GONE_BOX = [100.0, 100, 300, 200], [340.0, 300, 600, 440]
GONE = candidate(GONE_BOX, "suppressed", by=0, iou=0.83)


def coloured(picture: NDArray[np.uint8], row: int) -> int:
    """How many pixels of a row have the class's colour."""
    return int((picture[row] == class_colour(0)).all(axis=1).sum())


def test_what_is_kept_is_drawn_as_ever_and_what_was_suppressed_thinner() -> None:
    image, result = blank(1280, 960), result_of(candidate(KEPT_BOX), GONE, width=1280, height=960)
    picture = draw_why(image, result)
    assert picture.shape[0] > 960  # a strip with the counts
    assert (image == 255).all()
    ordinary = draw(image, replace(result, why=None))
    around = np.s_[60:220, 80:320]
    np.testing.assert_array_equal(picture[around], ordinary[around])
    kept, gone = coloured(picture, 150), coloured(picture, 370)
    assert 0 < gone < kept  # two lines each, of different widths
    assert coloured(ordinary, 370) == 0


def test_a_thin_box_says_what_removed_it() -> None:
    with_label = draw_why(blank(), result_of(candidate(KEPT_BOX), GONE))
    beneath = draw_why(blank(), result_of(candidate(KEPT_BOX), {**GONE, "fate": "too_small"}))
    changed = (with_label[:480] != beneath[:480]).any(axis=2)
    assert changed[286:299, 345:440].mean() > 0.9  # the label on its upper left corner
    assert not changed[:260].any()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (32, 400), (400, 8)])
def test_any_size_can_be_drawn(width: int, height: int) -> None:
    box = [0.0, 0, width, height]
    gone = candidate(box, "suppressed", by=0, iou=1.0)
    picture = draw_why(blank(width, height), result_of(candidate(box), gone, width=width, height=height))
    assert picture.shape[1] == width
    objects = {
        "objects": [{"bbox": box, "name": "car", "ignored": False, "step": "scored_low", "iou": 1, "score": 0.1}]
    }
    assert draw_objects_why(blank(width, height), objects).shape[1] >= 960 * width / max(width, height)


def test_nothing_found_draws_the_counts_alone() -> None:
    picture = draw_why(blank(), result_of())
    assert (picture[:480] == 255).all()
    assert (picture[480:] != 255).any()


def test_objects_are_green_where_found_and_red_where_lost() -> None:
    found = {"bbox": KEPT_BOX, "name": "car", "ignored": False, "step": "found", "iou": 0.9, "score": 0.8}
    lost = {"bbox": GONE_BOX, "name": "car", "ignored": False, "step": "no_candidate", "iou": 0.3}
    crowd = {"bbox": [20.0, 300, 100, 400], "name": "car", "ignored": True}
    picture = draw_objects_why(blank(), {"objects": [found, lost, crowd]})
    assert picture.shape[0] > 2 * 480  # twice as large, and a strip with the counts
    assert tuple(picture[300, 200]) == FOUND
    assert tuple(picture[840, 680]) == LOST
    assert tuple(picture[780, 40]) not in (FOUND, LOST, (255, 255, 255))


def test_the_candidate_that_came_farthest_is_thin() -> None:
    lost = {"bbox": KEPT_BOX, "name": "car", "ignored": False, "step": "scored_low", "iou": 0.6, "score": 0.1}
    near = [400.0, 100, 600, 200]
    picture = draw_objects_why(blank(1280, 960), {"objects": [{**lost, "candidate": near}]})
    red = (picture[150] == LOST).all(axis=1)
    assert 0 < red[380:620].sum() < red[80:320].sum()
