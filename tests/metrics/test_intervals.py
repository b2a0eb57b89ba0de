"""Bootstrap intervals: by hand, and against the evaluation of images that are really drawn several times."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from coco_referee import Rows, detection, truth_of, truth_with

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_columns import Integers, detection_columns, truth_columns
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.coco_precision import judge
from visionkit.metrics.intervals import FEWEST_IMAGES, ap_intervals, image_counts, resampled_ap

BOX, NOWHERE = [0, 0, 100, 100], [300, 300, 50, 50]


def resampled(truth: AnnotatedImages, found: Rows, counts: Any) -> list[list[float]]:
    objects = truth_columns(truth, "bbox")
    judged = judge(objects, detection_columns(truth, found, "bbox"))
    return [values.tolist() for values in resampled_ap(objects, judged, len(truth.classes), np.array(counts))]


def test_ap_of_resamples_by_hand():
    # Image 1: found, score 0.9, IoU 1. Image 2: found, score 0.7, IoU 72 / 100: right at 5 of 10 thresholds. Image 3:
    # no object, a false positive of score 0.8.
    truth = truth_of(truth_with({"bbox": BOX}, {"bbox": BOX, "image_id": 2}, images=3))
    found = [detection(BOX, 0.9), detection([0, 0, 100, 72], 0.7, image_id=2), detection(NOWHERE, 0.8, image_id=3)]
    ap, ap50 = resampled(truth, found, [[1, 1, 1], [3, 0, 0], [0, 1, 2], [0, 0, 3]])
    # All once: hit, miss, hit. Precision 1 at 51 recalls (0.00 ... 0.50), 2/3 at 50; above IoU 0.7 only the first half.
    every, half = (51 + 50 * 2 / 3) / 101, 51 / 101
    # Image 2 once and image 3 twice: miss, miss, hit. Precision 1/3 at all recalls, at IoU 0.5 ... 0.7.
    assert ap50 == pytest.approx([every, 1, 1 / 3, np.nan], nan_ok=True)
    assert ap == pytest.approx([(every + half) / 2, 1, 1 / 6, np.nan], nan_ok=True)


def random_case(seed: int, images: int = 24) -> tuple[AnnotatedImages, Rows]:
    """Three classes and one without objects, crowd regions, background images, scores that are all different."""
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for image_id in range(1, images - 1):
        for _ in range(rng.integers(0, 6)):
            x, y, width, height = np.array([*rng.uniform(0, 100, 2), *rng.uniform(20, 90, 2)]).tolist()
            about = {"image_id": image_id, "category_id": int(rng.choice([2, 5, 40], p=[0.6, 0.3, 0.1]))}
            annotations.append({"bbox": [x, y, width, height], "iscrowd": int(rng.random() < 0.15), **about})
            for _ in range(rng.integers(0, 4)):
                near = np.array([x, y, width, height]) + rng.normal(0, 0.1, 4) * [width, height, width, height]
                found.append(detection(near.tolist(), float(rng.random()), **about))
    for image_id in range(1, images + 1):
        found.append(detection(BOX, float(rng.random()), image_id=image_id, category_id=int(rng.choice([2, 41]))))
    categories = ((2, "a"), (5, "b"), (40, "c"), (41, "none"))
    return truth_of(truth_with(*annotations, images=images, categories=categories)), found


def really_drawn(truth: AnnotatedImages, found: Rows, counts: Integers) -> tuple[float | None, float | None]:
    """Each image as often as its count says, under a new id each, and all of it judged anew."""
    images, rows = [], []
    for image, count in zip(truth.images, counts, strict=True):
        for _ in range(count):
            images.append(replace(image, id=len(images) + 1))
            rows += [{**row, "image_id": len(images)} for row in found if row["image_id"] == image.id]
    scores = coco_scores(replace(truth, images=tuple(images)), rows)
    return scores.AP, scores.AP50


@pytest.mark.parametrize("seed", range(4))
def test_resamples_score_as_images_really_drawn(seed):
    truth, found = random_case(seed)
    counts = np.vstack([np.ones((1, len(truth.images)), np.int64), image_counts(len(truth.images), seed, 7)])
    got = zip(*resampled(truth, found, counts), strict=True)
    expected = [really_drawn(truth, found, row) for row in counts]
    for pair, drawn in zip(got, expected, strict=True):
        assert pair == pytest.approx(drawn, abs=1e-12)
    assert len({ap for ap, _ in expected}) == len(counts)  # a case that decides nothing would prove nothing


@pytest.mark.parametrize("objects", [20, 25, 50, 100])
def test_recalls_that_floats_put_above_their_hundredth(objects):
    # Of 20 objects 7 are found: recall 7 / 20 = 0.35, which pycocotools asks for as 0.35000000000000003.
    truth = truth_of(truth_with(*({"bbox": BOX, "image_id": i + 1} for i in range(objects)), images=objects))
    for hits in range(1, objects):
        found = [detection(BOX, 1 - i / 200, image_id=i + 1) for i in range(hits)]
        ap, _ = resampled(truth, found, [[1] * objects])
        assert ap == pytest.approx([coco_scores(truth, found).AP], abs=1e-12)


def test_no_detections_score_zero():
    truth = truth_of(truth_with({"bbox": BOX}, images=2))
    ap, ap50 = resampled(truth, [], [[1, 1], [0, 2]])
    assert ap == pytest.approx([0, np.nan], nan_ok=True)
    assert ap50 == pytest.approx([0, np.nan], nan_ok=True)


def test_counts_draw_as_many_images_as_there_are():
    counts = image_counts(50, seed=3, resamples=400)
    assert counts.shape == (400, 50)
    assert (counts.sum(axis=1) == 50).all()
    # An image is left out with probability (1 - 1/50)^50 = 0.364.
    assert (counts == 0).mean() == pytest.approx(0.364, abs=0.01)
    assert (image_counts(50, 3, 400) == counts).all()
    assert (image_counts(50, 4, 400) != counts).any()


def test_the_interval_is_between_two_percentiles():
    truth, found = random_case(0)
    objects = truth_columns(truth, "bbox")
    judged = judge(objects, detection_columns(truth, found, "bbox"))
    intervals = ap_intervals(objects, judged, 4, len(truth.images), seed=5, resamples=200)
    ap, ap50 = resampled_ap(objects, judged, 4, image_counts(len(truth.images), 5, 200))
    # Of 200 in order, counted from 0, the 2.5th percentile lies at 0.025 * 199 = 4.975.
    for name, values in (("AP", ap), ("AP50", ap50)):
        fifth, sixth = np.sort(values)[4:6]
        assert intervals[name][0] == pytest.approx(fifth + 0.975 * (sixth - fifth))
        assert np.mean((values >= intervals[name][0]) & (values <= intervals[name][1])) == 0.95


def test_intervals_of_scores():
    truth, found = random_case(1)
    scores = coco_scores(truth, found, intervals=True)
    for name in ("AP", "AP50"):
        low, high = scores.interval95[name]
        assert 0 < low < getattr(scores, name) < high < 1
    assert scores == coco_scores(truth, found, intervals=True)
    assert coco_scores(truth, found).interval95 is None


@pytest.mark.parametrize("images", [FEWEST_IMAGES - 1, FEWEST_IMAGES])
def test_few_images_have_no_interval(images):
    truth = truth_of(truth_with(*({"bbox": BOX, "image_id": i + 1} for i in range(images)), images=images))
    intervals = coco_scores(truth, [detection(BOX, 0.5)], intervals=True).interval95
    assert [name for name, interval in intervals.items() if interval is not None] == (
        [] if images < FEWEST_IMAGES else ["AP", "AP50"]
    )


def test_without_truth_there_is_no_interval():
    truth = truth_of(truth_with(images=FEWEST_IMAGES))
    assert coco_scores(truth, [detection(BOX, 0.5)], intervals=True).interval95 == {"AP": None, "AP50": None}
