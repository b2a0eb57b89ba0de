"""AP of slices: COCO's own small, medium and large as referee, and by hand."""

import numpy as np
import pytest
from coco_referee import Rows, detection, truth_of, truth_with

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import detection_columns, truth_columns
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.coco_precision import AREAS
from visionkit.metrics.slices import slice_scores, sliced_scores, slices_to_json


def random_case(seed: int) -> tuple[AnnotatedImages, Rows]:
    random = np.random.default_rng(seed)
    annotations, found = [], []
    for image_id in range(1, 13):
        for _ in range(random.integers(0, 8)):
            x, y, w, h = random.uniform([0, 0, 5, 5], [400, 300, 200, 150]).tolist()
            about = {"image_id": image_id, "category_id": int(random.choice([2, 5]))}
            annotations.append({"bbox": [x, y, w, h], "iscrowd": int(random.random() < 0.1), **about})
            for _ in range(random.integers(0, 4)):
                near = np.abs(np.array([x, y, w, h]) + random.normal(0, 0.1, 4) * [w, h, w, h]) + 0.5
                found.append(detection(near.tolist(), float(random.random()), **about))
    return truth_of(truth_with(*annotations, images=12, categories=((2, "a"), (5, "b")))), found


@pytest.mark.parametrize("seed", range(10))
def test_sliced_by_area_it_is_what_coco_calls_small_medium_and_large(seed: int) -> None:
    truth, rows = random_case(seed)
    objects, found = truth_columns(truth, "bbox"), detection_columns(truth, rows, "bbox")
    inside = [(c.area[:, None] >= AREAS[:, 0]) & (c.area[:, None] <= AREAS[:, 1]) for c in (objects, found)]
    ours = [score.AP for score in slice_scores(objects, found, *inside, classes=2)]
    scores = coco_scores(truth, rows)
    assert ours == pytest.approx([scores.AP, scores.APs, scores.APm, scores.APl], abs=1e-12)


def test_by_hand() -> None:
    # Images of 640 x 480. One object of 16 x 16 alone in a corner, one of 320 x 240, half of the image's side, that two
    # others touch.
    corner, large = [0, 0, 16, 16], [200, 100, 320, 240]
    left, right = [150, 150, 60, 200], [500, 150, 90, 180]
    truth = truth_of(truth_with(*({"bbox": box} for box in (corner, large, left, right))))
    # Found: the large one, and in a corner what is not there, 20 x 10 px.
    rows = [detection(large, 0.9), detection([600, 460, 20, 20], 0.8)]
    scores = sliced_scores(truth, rows)
    assert pytest.approx(1.0) == scores["size"]["large"].AP
    assert (scores["size"]["small"].objects, scores["size"]["small"].AP) == (1, 0.0)
    # 60 x 200: root of 12000 / 307200 = 0.198. 90 x 180: 0.23.
    assert scores["size"]["medium"].objects == 2
    assert {label: score.objects for label, score in scores["shape"].items()} == {"tall": 2, "square": 2, "wide": 0}
    assert {label: score.objects for label, score in scores["crowding"].items()} == {
        "alone": 1,
        "touched by 1 or 2": 3,
        "touched by 3 or more": 0,
    }
    assert {label: score.objects for label, score in scores["position"].items()} == {"at the edge": 1, "inside": 3}
    # Of the three inside one is found: recall 1/3 reaches 34 of 101 recalls.
    assert pytest.approx(34 / 101) == scores["position"]["inside"].AP
    assert scores["shape"]["wide"].AP is None
    assert slices_to_json(scores)["shape"]["wide"] == {"objects": 0, "AP": None, "AP50": None}


def test_without_anything() -> None:
    assert all(
        score.AP is None for kind in sliced_scores(truth_of(truth_with()), []).values() for score in kind.values()
    )
