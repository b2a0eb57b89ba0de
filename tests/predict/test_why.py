"""The document of why, in the pixels of the image."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.imaging.letterbox import Frame
from visionkit.predict.merging import Found, merged_places
from visionkit.predict.why import RawWhy, joined_why, why_document
from visionkit.predict.why_words import (
    FATE_WORDS,
    STEP_WORDS,
    assigned_words,
    outcome_words,
    source_words,
    suppressed_words,
)

CLASSES = ClassTable((3, 17), ("car", "cat"))
# 80 x 40 px in a square of 40: half as large, 10 px of padding above.
FRAME = Frame(80, 40, 0.5, 0.5, 0, 10)


def raw(**others: Any) -> RawWhy:
    """A car, one that it suppressed, and a cat in the padding above the image."""
    fields: dict[str, Any] = {
        "boxes": np.array([[4, 14, 24, 24], [4, 0, 10, 8], [6, 14, 26, 24]], np.float32),
        "scores": np.array([0.9, 0.8, 0.7], np.float32),
        "labels": np.array([0, 1, 0]),
        "fates": ("kept", "kept", "suppressed"),
        "remover": np.array([-1, -1, 0]),
        "overlap": np.array([0, 0, 18 / 22], np.float32),
        "facts": {
            "stride": np.array([8, 8, 8]),
            "cell": np.array([[1, 2], [0, 0], [2, 2]]),
            "anchor": np.array([[0, 10, 8, 18]] * 3, np.float32),
            "logit": np.array([2.2, 1.4, 0.8], np.float32),
        },
        "counts": {"kept": np.array([1, 1]), "suppressed": np.array([1, 0]), "below_conf": np.array([5, 7])},
        "settings": {"conf": 0.25, "iou": 0.7, "max_det": 300, "candidates": 3000},
    }
    return RawWhy(**{**fields, **others})


def test_boxes_are_in_pixels_of_the_image() -> None:
    document = why_document(raw(), FRAME, CLASSES)
    car, cat, gone = document["candidates"]
    # (4, 14) is 4 px right of and 4 px below the image's corner, at half its size.
    assert car["bbox"] == [8, 8, 48, 28]
    assert (car["label"], car["category_id"], car["name"]) == (0, 3, "car")
    assert car["score"] == pytest.approx(0.9)
    assert car["from"] == {
        "stride": 8,
        "cell": [1, 2],
        "anchor": [0, 0, 16, 16],
        "logit": pytest.approx(2.2, abs=1e-5),
    }
    assert (gone["fate"], gone["by"], gone["iou"]) == ("suppressed", 0, pytest.approx(18 / 22, abs=1e-4))
    assert (cat["fate"], cat["name"]) == ("in_padding", "cat")
    assert "by" not in cat
    assert document["counts"] == {"kept": 1, "suppressed": 1, "below_conf": 12, "in_padding": 1}


def test_what_is_in_the_padding_does_not_shift_who_removed_whom() -> None:
    moved = raw(
        boxes=np.array([[4, 0, 10, 8], [4, 14, 24, 24], [6, 14, 26, 24]], np.float32),
        labels=np.array([1, 0, 0]),
        remover=np.array([-1, -1, 1]),
    )
    first, padding_or_gone, last = why_document(moved, FRAME, CLASSES)["candidates"]
    assert (first["name"], first["fate"]) == ("car", "kept")
    assert {padding_or_gone["fate"], last["fate"]} == {"in_padding", "suppressed"}
    gone = next(one for one in (padding_or_gone, last) if one["fate"] == "suppressed")
    assert gone["by"] == 0


def test_of_classes_that_were_asked_for_alone() -> None:
    document = why_document(raw(), FRAME, CLASSES, np.array([1]))
    assert [one["name"] for one in document["candidates"]] == ["cat"]
    assert document["counts"] == {"kept": 0, "suppressed": 0, "below_conf": 7, "in_padding": 1}
    # The first car is not told: the places in the list are counted anew.
    order = raw(labels=np.array([1, 0, 0]), remover=np.array([-1, -1, 1]), boxes=raw().boxes[[1, 0, 2]])
    cars = why_document(order, FRAME, CLASSES, np.array([0]))["candidates"]
    assert [one.get("by") for one in cars] == [None, 0]


def test_what_is_no_number_is_null() -> None:
    document = why_document(raw(scores=np.array([np.nan, 0.8, 0.7], np.float32)), FRAME, CLASSES)
    assert document["candidates"][0]["score"] is None
    json.dumps(document, allow_nan=False)


def test_nothing_at_all() -> None:
    empty = raw(
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
        fates=(),
        remover=np.zeros(0, np.int64),
        overlap=np.zeros(0, np.float32),
        facts={"anchor": np.zeros((0, 4), np.float32)},
        counts={"kept": np.zeros(2, np.int64)},
    )
    document = why_document(empty, FRAME, CLASSES)
    assert document["candidates"] == []
    assert document["counts"] == {"kept": 0, "in_padding": 0}


# Words ----------------------------------------------------------------------------------------------------------------

RIVAL = {"bbox": [0, 0, 9, 9], "score": 0.91, "name": "dog", "iou": 0.738}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"step": "found", "iou": 0.88, "score": 0.917}, "found, 0.92 at IoU 0.88"),
        ({"step": "scored_low", "iou": 0.71, "score": 0.12}, "scored low, 0.12 at IoU 0.71"),
        ({"step": "suppressed", "iou": 0.6, "score": 0.8, "rival": RIVAL}, "0.80, suppressed by dog 0.91 at IoU 0.74"),
        ({"step": "wrong_class", "iou": 0.6, "rival": RIVAL}, "seen as dog 0.91 at IoU 0.74"),
        (
            {"step": "wrong_class", "name": "cat", "iou": 0.6, "score": 0.2, "rival": RIVAL},
            "seen as dog 0.91 at IoU 0.74; as cat 0.20",
        ),
        ({"step": "taken", "iou": 0.6, "score": 0.8, "other_object": 2}, "its detection, 0.80, counts for object 3"),
        ({"step": "no_candidate", "iou": 0.31}, "no box near it, best IoU 0.31"),
        (
            {"step": "no_proposal", "iou": 0, "proposal": {"fate": None, "iou": 0.42}},
            "no proposal near it, best IoU 0.42",
        ),
        (
            {"step": "no_proposal", "iou": 0, "proposal": {"fate": "suppressed", "iou": 0.62}},
            "no proposal near it: the best anchor's box, IoU 0.62, was suppressed",
        ),
        (
            {"step": "gave_way", "iou": 0.9, "score": 0.6, "rival": {"name": "bus", "score": 0.7, "iou": 0.81}},
            "its detection, 0.60, gave way to bus 0.70 of another view at IoU 0.81",
        ),
        ({"step": "too_small", "iou": 0.6, "score": 0.8}, "next to nothing of it in the image, 0.80 at IoU 0.60"),
        ({"ignored": True}, "ignored: a crowd, or difficult"),
    ],
)
def test_what_became_of_an_object_in_words(row: dict[str, Any], words: str) -> None:
    assert outcome_words(row)[0] == words


def test_every_step_and_every_fate_has_words() -> None:
    from typing import get_args

    from visionkit.models.explanation import FATES
    from visionkit.models.lost_objects import Step

    assert set(STEP_WORDS) == {*get_args(Step), "gave_way"}
    assert set(FATE_WORDS) == {*FATES, "gave_way", "in_padding"}


def test_sources_in_words() -> None:
    source = {"stride": 8, "cell": [12, 7]}
    assert source_words(source) == "stride 8, cell 12,7"
    assert source_words({**source, "box_of_cell": 1}) == "stride 8, cell 12,7, box 2"
    proposal = {"proposal_number": 17, "read_stride": 16}
    assert source_words(proposal) == "proposal 17, read at stride 16"
    anchor = {"anchor_size": 45.25, "anchor_ratio": 0.5}
    assert source_words({**proposal, "objectness": 0.887, **source, **anchor}) == (
        "proposal 17 of objectness 0.89, read at stride 16, stride 8, cell 12,7, anchor of 45 px and ratio 0.5"
    )


def test_what_learns_an_object_in_words() -> None:
    stage = {"what": "points", "best_iou": 0.5, "best_iou_of": "predicted boxes", "positives": {}, "places": []}
    assert assigned_words(stage) == "no point learns it; best IoU of predicted boxes 0.50"
    stage |= {"positives": {"16": 1}, "places": [{"iou": 0.5, "stride": 16, "cell": [3, 0]}]}
    assert (
        assigned_words(stage)
        == "1 point learns it (stride 16: 1): stride 16, cell 3,0; best IoU of predicted boxes 0.50"
    )
    stage["positives"] = {"8": 2, "16": 1}
    assert assigned_words(stage) == (
        "3 points learn it (stride 8: 2, stride 16: 1), the nearest: stride 16, cell 3,0; "
        "best IoU of predicted boxes 0.50"
    )


def test_who_removed_a_box_in_words() -> None:
    assert suppressed_words({"iou": 0.834}, {"name": "bus", "score": 0.93}) == ("IoU 0.83 with bus 0.93", "IoU 0.83")


def test_of_views_that_show_one_object_one_detection_stays_and_the_other_says_to_which_it_gave_way() -> None:
    def document(name: str) -> dict[str, Any]:
        kept = {"fate": "kept", "name": name}
        return {
            "settings": {"conf": 0.25},
            "counts": {"kept": 1, "beyond_max_det": 0, "suppressed": 1, "below_conf": 8},
            "candidates": [kept, {"fate": "suppressed", "name": f"not {name}", "by": 0, "iou": 0.9}],
        }

    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], np.float32)
    found = Found(
        boxes=boxes,
        scores=np.array([0.8, 0.9, 0.7], np.float32),
        labels=np.array([0, 0, 0]),
        view=np.array([0, 1, 2]),
        cut=np.zeros(3, bool),
        windows=np.zeros((3, 4), np.float32),
        plane=boxes,
    )
    documents, windows = [document(name) for name in "abc"], [(0, 0, 20, 20), (10, 0, 30, 20), (0, 0, 40, 20)]
    told = joined_why(documents, windows, found, merged_places(found, 300))
    # b scores more than a and shares 9 x 10 of 110 px with it; c lies elsewhere.
    assert told["candidates"] == [
        {"fate": "kept", "name": "b", "view": 1},
        {"fate": "kept", "name": "c", "view": 2},
        {"fate": "gave_way", "name": "a", "view": 0, "by": 0, "iou": 0.8182},
        {"fate": "suppressed", "name": "not a", "view": 0, "by": 2, "iou": 0.9},
        {"fate": "suppressed", "name": "not b", "view": 1, "by": 0, "iou": 0.9},
        {"fate": "suppressed", "name": "not c", "view": 2, "by": 1, "iou": 0.9},
    ]
    assert told["counts"] == {"kept": 2, "gave_way": 1, "beyond_max_det": 0, "suppressed": 3, "below_conf": 24}
    assert told["views"] == [[0, 0, 20, 20], [10, 0, 30, 20], [0, 0, 40, 20]]
    assert told["settings"] == {"conf": 0.25}
    # Of one detection in all, c gave way to no one: there was a better one.
    fates = [one["fate"] for one in joined_why(documents, windows, found, merged_places(found, 1))["candidates"]]
    assert fates[:4] == ["kept", "gave_way", "suppressed", "suppressed"]
    assert fates[4:] == ["beyond_max_det", "suppressed"]
