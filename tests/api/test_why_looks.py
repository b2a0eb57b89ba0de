"""What became of objects that several views show: told in the view where they came farthest, counted over all."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from visionkit.api.why_looks import Look, look_in_views
from visionkit.classes import ClassTable
from visionkit.imaging.letterbox import Frame
from visionkit.predict.backend import RawDetections
from visionkit.predict.merging import Window, found_in
from visionkit.types import Sample

# 100 x 40 px: two tiles that have 20 px in common, and the whole image.
VIEWS: list[Window] = [(0, 0, 60, 40), (40, 0, 100, 40), (0, 0, 100, 40)]


def row(step: str, **others: Any) -> dict[str, Any]:
    return {"ignored": False, "assigned": [], "step": step, "iou": 0.9, **others}


def look(view: int, boxes: list[list[float]], scores: list[float], rows: dict[int, dict[str, Any]]) -> Look:
    """A view whose detections are cars with these boxes in pixels of the image."""
    left, top, right, bottom = VIEWS[view]
    frame = Frame(right - left, bottom - top, 1.0, 1.0, 0, 0)
    inside = frame.at(left, top).to_frame(np.array(boxes, np.float32).reshape(-1, 4))
    raw = RawDetections(inside, np.array(scores, np.float32), np.zeros(len(scores), np.int64))
    candidates = [{"fate": "kept", "bbox": box, "score": score} for box, score in zip(boxes, scores, strict=True)]
    document = {"settings": {"conf": 0.25}, "counts": {"kept": len(boxes)}, "candidates": candidates}
    return Look(VIEWS[view], rows, document, found_in(raw, frame, VIEWS[view], (100, 40), view))


def test_objects_of_several_views() -> None:
    better, worse = [46.0, 5, 56, 15], [45.0, 5, 55, 15]
    boxes = np.array([better, worse, [10, 20, 20, 30], [0, 0, 100, 40]], np.float32)
    sample = Sample(
        np.zeros((40, 100, 3), np.uint8), boxes, np.zeros(4, np.int64), np.array([False, False, False, True]), 1
    )
    looks = [
        look(0, [worse], [0.8], {0: row("taken"), 1: row("found", score=0.8, candidate=worse), 2: row("scored_low")}),
        look(1, [better], [0.9], {0: row("found", score=0.9, candidate=better), 1: row("taken")}),
        look(
            2,
            [],
            [],
            {
                0: row("no_candidate"),
                1: row("no_candidate"),
                2: row("no_candidate"),
                3: {"ignored": True, "assigned": []},
            },
        ),
    ]
    looking = SimpleNamespace(
        at=lambda sample, window, view: looks[view], max_det=300, classes=ClassTable((3,), ("car",))
    )
    rows, why = look_in_views(looking, sample, VIEWS)  # type: ignore[arg-type]
    # The better one stays, and counts for the first object; the other shares 9 x 10 of 110 px with it.
    assert (rows[0]["step"], rows[0]["view"]) == ("found", [40, 0, 100, 40])
    assert (rows[1]["step"], rows[1]["view"]) == ("gave_way", [0, 0, 60, 40])
    assert rows[1]["rival"] == {"bbox": better, "score": 0.9, "name": "car", "iou": 0.8182}
    # The first tile got farther than the whole image, which alone shows the crowd.
    assert (rows[2]["step"], rows[2]["view"]) == ("scored_low", [0, 0, 60, 40])
    assert (rows[3]["ignored"], rows[3]["view"]) == (True, [0, 0, 100, 40])
    assert [one["fate"] for one in why["candidates"]] == ["kept", "gave_way"]


def test_a_detection_of_a_view_that_does_not_show_all_of_an_object_may_count_for_it() -> None:
    sample = Sample(
        np.zeros((40, 100, 3), np.uint8),
        np.array([[0, 0, 80, 40]], np.float32),
        np.zeros(1, np.int64),
        np.array([False]),
        1,
    )
    # The first tile shows 60 of its 80 px, and its box of these overlaps it by 60 / 80.
    part = [0.0, 0, 60, 40]
    looks = [
        look(0, [part], [0.7], {0: row("found", score=0.7, candidate=part, iou=1.0)}),
        look(1, [], [], {}),
        look(2, [], [], {0: row("scored_low")}),
    ]
    looking = SimpleNamespace(
        at=lambda sample, window, view: looks[view], max_det=300, classes=ClassTable((3,), ("car",))
    )
    ((found,), _) = look_in_views(looking, sample, VIEWS)  # type: ignore[arg-type]
    assert (found["step"], found["view"], found["candidate"]) == ("found", [0, 0, 60, 40], part)
    assert found["iou"] == 0.75
