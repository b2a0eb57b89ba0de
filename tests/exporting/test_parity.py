"""What counts the agreement of a model and its export, by numbers that can be checked by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from visionkit.exporting.certificate import Certificate, complaints_of
from visionkit.exporting.parity import (
    FP32,
    INT8,
    ClassParity,
    DetectionParity,
    MapParity,
    matched_pairs,
    overlaps,
    parity_of,
)
from visionkit.predict.backend import RawClasses, RawDetections, RawMap

ONE = (0.0, 0.0, 10.0, 10.0)
APART = (50.0, 50.0, 60.0, 60.0)


def said(*rows: tuple[Sequence[float], float, int], masks: Sequence[float] | None = None) -> RawDetections:
    """Detections (box, score, label); masks of 2 x 2 cells of one value each."""
    boxes, scores, labels = (np.array([row[i] for row in rows]) for i in range(3))
    planes = None if masks is None else np.array(masks, np.float32)[:, None, None] * np.ones((2, 2), np.float32)
    return RawDetections(
        boxes.astype(np.float32).reshape(-1, 4), scores.astype(np.float32), labels.astype(np.int64), planes
    )


def counted(ours: RawDetections, theirs: RawDetections, most: int = 300) -> DetectionParity:
    parity = DetectionParity(iou=0.7, most=most)
    parity.add([ours], [theirs])
    return parity


def test_overlap_is_intersection_over_union() -> None:
    a, b = np.array([ONE, APART], np.float32), np.array([(5, 0, 15, 10), (3, 3, 3, 3)], np.float32)
    # 5 x 10 of 100 + 100 - 50; an empty box overlaps nothing.
    np.testing.assert_allclose(overlaps(a, b), [[50 / 150, 0], [0, 0]])
    assert overlaps(a[:0], b).shape == (0, 2)


def test_each_box_has_one_counterpart_the_best() -> None:
    assert matched_pairs(np.array([[0.6, 0.9], [0.4, 0.8]])) == [(0, 1)]  # 1-0 is no pair, 0.4 is too little
    assert matched_pairs(np.zeros((0, 3))) == []


def test_equal_sides_agree() -> None:
    side = said((ONE, 0.9, 0), (APART, 0.4, 1))
    parity = counted(side, side)
    assert parity.facts() == {
        "least_score": 0.05,
        "detections_of_model": 2,
        "detections_of_export": 2,
        "matched": 2,
        "unmatched": 0,
        "on_edge": 0,
        "largest_score_difference": 0.0,
        "smallest_iou": 1.0,
    }
    assert parity.complaints(FP32) == []


def test_differences_of_counterparts_are_measured() -> None:
    ours = said((ONE, 0.9, 0), (APART, 0.4, 1), masks=(0.5, 0.9))
    theirs = said(((0, 0, 10, 9.5), 0.9005, 0), (APART, 0.41, 1), masks=(0.5, 0.7))
    parity = counted(ours, theirs)
    facts = parity.facts()
    assert facts["smallest_iou"] == pytest.approx(0.95)
    assert facts["largest_score_difference"] == pytest.approx(0.01)
    assert facts["largest_mask_difference"] == pytest.approx(0.2)
    assert parity.complaints(FP32) == [
        "scores differ by 0.01, 0.001 is the most",
        "masks differ by 0.2, 0.01 is the most",
        "matched boxes overlap by only 0.9500, 0.99 is the least",
    ]
    assert parity.complaints(INT8) == []


@pytest.mark.parametrize(
    "theirs",
    [
        said((ONE, 0.9, 0)),  # one is missing
        said((ONE, 0.9, 0), (APART, 0.4, 0)),  # another class: missing there, and one too many
        said((ONE, 0.9, 0), ((50, 50, 54, 60), 0.4, 1)),  # IoU 0.4 is another object
    ],
)
def test_what_has_no_counterpart_is_counted_on_both_sides(theirs: RawDetections) -> None:
    parity = counted(said((ONE, 0.9, 0), (APART, 0.4, 1)), theirs)
    alone = 1 if len(theirs.scores) == 1 else 2
    total = 2 + len(theirs.scores)
    assert parity.facts()["unmatched"] == alone
    assert parity.complaints(FP32) == [f"{alone} of {total} detections of both have no counterpart, none may have none"]


def test_decisions_on_an_edge_may_fall_either_way() -> None:
    # 0.0505 and 0.0495 are on both sides of the least score, and counterparts; 0.0503 has none, but nearly is too low.
    parity = counted(said((ONE, 0.0505, 0), (APART, 0.0503, 0)), said((ONE, 0.0495, 0)))
    assert (parity.matched, parity.unmatched, parity.on_edge) == (1, 0, 1)
    # A box that the better one overlaps by 0.7, where suppression begins: 7 x 10 of 100 px.
    parity = counted(said((ONE, 0.9, 0), ((0, 0, 10, 7), 0.5, 0)), said((ONE, 0.9, 0)))
    assert (parity.matched, parity.unmatched, parity.on_edge) == (1, 0, 1)
    # Overlapped by 0.8 it was there to be suppressed.
    parity = counted(said((ONE, 0.9, 0), ((0, 0, 10, 8), 0.5, 0)), said((ONE, 0.9, 0)))
    assert (parity.matched, parity.unmatched, parity.on_edge) == (1, 1, 0)


def test_of_as_many_as_were_asked_for_the_last_may_be_another() -> None:
    ours, theirs = said((ONE, 0.9, 0), (APART, 0.4, 0)), said((ONE, 0.9, 0), ((80, 0, 90, 9), 0.4, 1))
    assert counted(ours, theirs).unmatched == 2
    assert counted(ours, theirs, most=2).unmatched == 0


def test_nothing_found_is_no_agreement() -> None:
    nothing = said()
    assert counted(nothing, nothing).complaints(FP32) == [
        "the model finds nothing of score 0.05 in 1 images, so nothing was compared"
    ]


def test_an_eight_bit_graph_may_lose_a_tenth() -> None:
    boxes = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(11)]
    ours = said(*((box, 0.5, 0) for box in boxes))
    # 1 of 11 + 10 is less than a tenth, 3 of 11 + 8 are more.
    assert counted(ours, said(*((box, 0.6, 0) for box in boxes[1:]))).complaints(INT8) == []
    assert counted(ours, said(*((box, 0.6, 0) for box in boxes[3:]))).complaints(INT8) == [
        "3 of 19 detections of both have no counterpart, 1 may have none"
    ]


def test_classifiers_are_compared_by_class() -> None:
    parity = parity_of("classify", iou=None, most=1)
    assert isinstance(parity, ClassParity)
    scores, labels = np.array([0.6, 0.3, 0.1], np.float32), np.array([2, 0, 1])
    parity.add([RawClasses(scores, labels)] * 2, [RawClasses(scores, labels), RawClasses(scores, np.array([0, 2, 1]))])
    assert parity.facts() == {"other_best_class": 1, "largest_score_difference": pytest.approx(0.3)}
    assert parity.complaints(FP32) == [
        "1 of 2 images have another best class, none may have one",
        "scores differ by 0.3, 0.001 is the most",
    ]


def test_segmenters_are_compared_by_pixel() -> None:
    parity = parity_of("segment", iou=None, most=1)
    assert isinstance(parity, MapParity)
    ours = np.zeros((2, 2, 2), np.float32)
    ours[1, 0] = np.log(3)  # the upper row is of class 1, with probability 3/4
    theirs = ours.copy()
    theirs[1, 0, 0] = -np.log(3)  # of one pixel 1/4
    parity.add([RawMap(ours)], [RawMap(theirs)])
    assert parity.facts() == {
        "pixels": 4,
        "pixels_of_another_class": 1,
        "largest_score_difference": pytest.approx(0.5),
    }
    assert parity.complaints(FP32) == [
        "1 of 4 pixels have another class, none may have one",
        "probabilities differ by 0.5, 0.001 is the most",
    ]
    assert parity.complaints(INT8) == ["1 of 4 pixels have another class, none may have one"]


def test_a_metric_may_not_fall() -> None:
    parity = counted(said((ONE, 0.9, 0)), said((ONE, 0.9, 0)))
    assert complaints_of(parity, {"AP": (0.5, 0.4995), "AP50": (0.7, 0.9), "mask_AP": (None, None)}, FP32) == ()
    assert complaints_of(parity, {"AP": (0.5, 0.48)}, INT8) == ("AP falls from 0.5000 to 0.4800, 0.01 is the most",)


def test_a_certificate_is_json_and_a_table(tmp_path: Path) -> None:
    parity = counted(said((ONE, 0.9, 0)), said((ONE, 0.8996, 0)))
    certificate = Certificate(
        model="yolo/csp-light",
        weights_sha256="a" * 64,
        export_sha256="b" * 64,
        runtime="ONNX Runtime 1.0",
        precision="fp32",
        on="the val split of mine",
        real=True,
        images=parity.images,
        facts=parity.facts(),
        metrics={"AP": (0.25, 0.25), "mask_AP": (None, None)},
        calibration=None,
        tolerance=FP32,
        complaints=(),
    )
    certificate.write(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    assert content == certificate.to_json()
    assert content["schema"] == "visionkit.certificate/1"
    assert content["passed"] is True
    assert content["metrics"] == {"AP": {"model": 0.25, "export": 0.25}, "mask_AP": {"model": None, "export": None}}
    assert content["tolerance"] == {"unmatched": 0.0, "score": 0.001, "iou": 0.99, "metric": 0.001}
    assert certificate.table().splitlines() == [
        "compared on               1 images: the val split of mine",
        "model                     yolo/csp-light, SHA-256 aaaaaaaaaaaa",
        "export                    fp32, by ONNX Runtime 1.0, SHA-256 bbbbbbbbbbbb",
        "least score               0.05",
        "detections of model       1",
        "detections of export      1",
        "matched                   1",
        "unmatched                 0",
        "on edge                   0",
        "largest score difference  0.0003999",
        "smallest iou              1",
        "AP                        model 0.25, export 0.25",
        "mask AP                   model n/a, export n/a",
        "verdict                   within tolerance",
    ]
