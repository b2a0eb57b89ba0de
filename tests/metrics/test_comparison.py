"""Two detectors on the same images: differences by hand, and how often a difference is seen where there is none."""

from dataclasses import replace

import numpy as np
import pytest
from coco_referee import Rows, detection, truth_of, truth_with

from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.comparison import Difference, compare_detections
from visionkit.metrics.intervals import FEWEST_IMAGES

BOX, NOWHERE = [0, 0, 100, 100], [300, 300, 50, 50]


def one_object_an_image(images: int) -> AnnotatedImages:
    return truth_of(truth_with(*({"bbox": BOX, "image_id": i + 1} for i in range(images)), images=images))


def finding(images: "list[int] | range", score: float = 0.9) -> Rows:
    """The object of each of these images."""
    return [detection(BOX, score, image_id=i + 1) for i in images]


def test_a_difference_by_hand() -> None:
    # 40 objects, no false positives: AP is the share of the 101 recalls reached. A finds 10 of 40, recall 0.25 -> 26 of
    # them (0, 0.01, ..., 0.25). B finds 30, recall 0.75 -> 76.
    truth = one_object_an_image(40)
    found = compare_detections(truth, finding(range(10)), finding(range(30)))
    assert found.AP.a == pytest.approx(26 / 101)
    assert found.AP.b == pytest.approx(76 / 101)
    assert found.AP.difference == pytest.approx(50 / 101)
    assert found.per_class["cell"].difference == pytest.approx(50 / 101)
    # They differ in 20 of 40 images: a draw's share has a standard deviation of sqrt(0.5 * 0.5 / 40) = 0.079.
    low, high = found.AP.interval95 or (np.nan, np.nan)
    assert low == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert high == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)
    # No draw of 1,000 has B no better: p is 2 / 1001.
    assert found.AP.p == pytest.approx(2 / 1001)
    assert found.verdict == "B is better than A on 40 images, beyond their choice (p = 0.002)"


def test_turned_round_it_says_the_opposite() -> None:
    truth = one_object_an_image(40)
    one, other = finding(range(10)), finding(range(30))
    there, back = compare_detections(truth, one, other), compare_detections(truth, other, one)
    assert there.AP.interval95 is not None
    assert back.AP.difference == -(there.AP.difference or 0)
    assert back.AP.interval95 == pytest.approx(tuple(-end for end in reversed(there.AP.interval95)))
    assert back.verdict.startswith("A is better than B")


def test_a_detector_does_not_differ_from_itself() -> None:
    found = compare_detections(one_object_an_image(30), finding(range(20)), finding(range(20)))
    assert Difference(found.AP.a, found.AP.a, 0.0, (0.0, 0.0), 1.0) == found.AP
    assert not found.AP.is_told_apart
    assert found.verdict == "not distinguishable on 30 images"


def test_what_is_hard_for_both_does_not_hide_a_difference() -> None:
    # Both miss the same 60 of 100 objects, and A another 8. Each alone: an interval of some +-0.1, which overlap. Both
    # on the same images: the 8 are beyond their choice.
    truth = one_object_an_image(100)
    a, b = finding(range(32)), finding(range(40))
    found = compare_detections(truth, a, b)
    alone = [coco_scores(truth, rows, intervals=True).interval95 for rows in (a, b)]
    (_, high_of_a), (low_of_b, _) = (interval["AP"] or (0, 0) for interval in alone if interval)
    assert low_of_b < high_of_a
    assert found.AP.is_told_apart


def test_two_of_a_kind_are_told_apart_in_about_5_percent_of_samples() -> None:
    """Detectors that each find a random half of the objects differ by luck alone. Of 200 pairs a 95 % interval may
    leave out 0 in about 10; 25 would be five standard deviations."""
    truth = one_object_an_image(50)
    random = np.random.default_rng(0)

    def detector() -> Rows:
        return finding(np.flatnonzero(random.random(50) < 0.5).tolist())

    wrong = sum(compare_detections(truth, detector(), detector(), resamples=200).AP.is_told_apart for _ in range(200))
    assert 2 <= wrong <= 25


def test_too_few_images_give_the_difference_and_no_interval() -> None:
    images = FEWEST_IMAGES - 1
    found = compare_detections(one_object_an_image(images), [], finding(range(images)))
    assert found.AP.interval95 is None
    assert found.AP.p is None
    assert found.AP.difference == pytest.approx(1.0)
    assert found.verdict == f"{images} images are too few to tell; at least {FEWEST_IMAGES} are needed"


def test_without_an_object_nothing_is_defined() -> None:
    truth = replace(
        one_object_an_image(30), images=tuple(replace(i, annotations=()) for i in one_object_an_image(30).images)
    )
    found = compare_detections(truth, [], finding(range(3)))
    assert Difference(None, None, None) == found.AP
    assert found.verdict == "no AP is defined: there is no object to find"
    assert found.to_json()["AP"]["difference"] is None
