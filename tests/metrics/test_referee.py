"""The referee beside our numbers: equal, and told apart where they are not."""

import json

import numpy as np
import pytest
from coco_referee import detection, own_boxes, truth_of, truth_with, twelve

from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.referee import TWELVE, referee_verdict

BOX, OTHER = [10, 10, 100, 100], [300, 10, 100, 100]


def verdict(annotations, found, task="bbox", **changed):
    """The referee's, on our scores but for those that are changed."""
    truth = truth_of(truth_with(*annotations, images=3, categories=((7, "b"), (2, "a"))))
    scores = coco_scores(truth, found, task)
    ours = dict(zip(TWELVE, twelve(scores), strict=True))
    return referee_verdict(truth, found, ours | changed, task)


ANNOTATIONS = (
    {"bbox": BOX, "category_id": 7, "id": 0},  # pycocotools loses the match of an annotation with id 0
    {"bbox": OTHER, "category_id": 2, "image_id": 2},
    {"bbox": [0, 0, 20, 20], "category_id": 2, "image_id": 3, "iscrowd": 1},
)
FOUND = [detection(BOX, 0.9, 1, 7), detection([300, 10, 100, 80], 0.8, 2, 2), detection(OTHER, 0.7, 1, 2)]


def test_equal_numbers_are_called_equal():
    said = verdict(ANNOTATIONS, FOUND)
    assert said.is_equal
    assert (said.unequal, said.differing) == ((), 0)
    assert said.scores["AP50"] == pytest.approx(1)
    assert said.scores["APs"] is None  # the only small object is a crowd
    # 10 thresholds x 101 recalls x 2 classes x 4 areas, and 10 x 2 x 4 x 3 recalls.
    assert said.values == 10 * 101 * 2 * 4 + 10 * 2 * 4 * 3
    assert json.loads(json.dumps(said.to_json()))["equal"] is True


def test_a_number_that_is_one_bit_off_is_named():
    right = verdict(ANNOTATIONS, FOUND).scores["AP"]
    said = verdict(ANNOTATIONS, FOUND, AP=float(np.nextafter(right, 1)), APs=0.0)
    assert not said.is_equal
    assert said.unequal == ("AP", "APs")
    assert said.to_json()["equal"] is False


def test_no_detection_at_all_is_a_result():
    said = verdict(ANNOTATIONS, [])
    assert said.is_equal
    assert said.scores["AP"] == 0


def test_no_object_at_all_is_a_result():
    said = verdict((), FOUND)
    assert said.is_equal
    assert set(said.scores.values()) == {None}


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_masks_of_any_kind(task, with_boxes):
    def outline(box):
        x, y, w, h = box
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]

    annotations = [{**row, "segmentation": outline(row["bbox"])} for row in ANNOTATIONS]
    # Polygons, which pycocotools does not take from results.
    found = [{**row, "segmentation": outline(row["bbox"])} for row in FOUND]
    if not with_boxes:
        for row in found:
            del row["bbox"]
    before = json.dumps(found)
    said = verdict(annotations, found, task)
    assert said.is_equal
    assert said.scores["AP50"] == pytest.approx(1)
    assert json.dumps(found) == before  # nobody writes into what was given


def test_its_words_stay_with_it(capsys):
    truth = truth_of(truth_with(*ANNOTATIONS, images=3, categories=((7, "b"), (2, "a"))))
    scores = coco_scores(truth, own_boxes(truth))
    referee_verdict(truth, own_boxes(truth), dict(zip(TWELVE, twelve(scores), strict=True)))
    assert capsys.readouterr().out == ""
