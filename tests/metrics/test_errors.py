# ruff: noqa: SIM300  (it takes the name AP50 for a constant)
"""The error split: each kind by hand, and all of it against loops."""

from typing import Any

import numpy as np
import pytest
from coco_referee import Rows, detection, truth_of, truth_with
from pycocotools import mask as coco_mask

from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.errors import KINDS, error_split

CAT, DOG = 1, 2
CATEGORIES = ((CAT, "cat"), (DOG, "dog"))
LEFT, RIGHT = [0, 0, 100, 100], [300, 0, 100, 100]


def truth(*annotations: dict[str, Any], images: int = 1) -> AnnotatedImages:
    return truth_of(truth_with(*annotations, images=images, categories=CATEGORIES))


def part(box: list[float], share: float) -> list[float]:
    """A box of this IoU with `box`: its upper part."""
    return [*box[:3], box[3] * share]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (detection(part(LEFT, 0.5), 0.9), "right"),  # at the threshold
        (detection(part(LEFT, 0.5), 0.9, category_id=DOG), "class"),
        (detection(part(LEFT, 0.49), 0.9), "localisation"),
        (detection(part(LEFT, 0.1), 0.9), "localisation"),
        (detection(part(LEFT, 0.49), 0.9, category_id=DOG), "both"),
        (detection(part(LEFT, 0.09), 0.9), "background"),
        (detection(part(LEFT, 0.09), 0.9, category_id=DOG), "background"),
        (detection(LEFT, 0.9, image_id=2), "background"),
    ],
)
def test_one_detection_of_one_cat(row, kind):
    split = error_split(truth({"bbox": LEFT}, images=2), [row])
    assert split.detections == (kind,)
    assert split.objects == (kind if kind in ("right", "class", "localisation") else "missed",)
    assert {name for name, count in split.counts.items() if count} == {kind, *split.objects} - {"right"}


def test_a_second_detection_is_a_duplicate():
    split = error_split(truth({"bbox": LEFT}), [detection(part(LEFT, 0.6), 0.8), detection(LEFT, 0.9)])
    assert split.detections == ("duplicate", "right")  # in the order given, not in that of scores
    assert split.objects == ("right",)


def test_the_larger_overlap_says_whether_class_or_duplicate():
    # A cat of 100 x 100 and a dog of 100 x 60 in its upper part. The cat is found; another detection says cat again.
    pets = truth({"bbox": LEFT}, {"bbox": part(LEFT, 0.6), "category_id": DOG})
    found = detection(LEFT, 0.9)
    # 100 x 70: IoU 0.70 with the cat, 60 / 70 = 0.86 with the dog.
    assert error_split(pets, [found, detection(part(LEFT, 0.7), 0.8)]).detections == ("right", "class")
    # 100 x 80: 0.80 with the cat, 60 / 80 = 0.75 with the dog.
    assert error_split(pets, [found, detection(part(LEFT, 0.8), 0.8)]).detections == ("right", "duplicate")


def test_a_mistake_of_place_is_not_one_of_both():
    # IoU 0.4 with the cat, 40 / 90 = 0.44 with the dog: it is about the cat, whose class it has.
    pets = truth({"bbox": LEFT}, {"bbox": part(LEFT, 0.9), "category_id": DOG})
    split = error_split(pets, [detection(part(LEFT, 0.4), 0.9)])
    assert split.detections == ("localisation",)
    assert split.objects == ("localisation", "missed")


def test_crowds_and_what_lies_on_them_are_ignored():
    crowd = {"bbox": [300, 0, 200, 200], "iscrowd": 1}
    split = error_split(truth({"bbox": LEFT}, crowd), [detection([320, 20, 50, 50], 0.9)])
    assert (split.detections, split.objects) == (("ignored",), ("missed", "ignored"))


def test_detections_beyond_the_best_hundred_are_ignored():
    split = error_split(truth({"bbox": LEFT}), [detection([300, 300, 9, 9], 0.9)] * 100 + [detection(LEFT, 0.1)])
    assert split.detections == ("background",) * 100 + ("ignored",)


FIRST_HALF = 51 / 101  # AP with recall 1/2 at precision 1: the recalls 0.00 ... 0.50 of 101


@pytest.mark.parametrize(
    ("mistake", "kind", "gain"),
    [
        # Two cats; one is found at score 0.8, AP 51/101. A mistake at 0.9 ahead of it halves the precision: 51/101 / 2.
        # Gone, it gives the half back; a mistake of place about the other cat, put right, all of the way to 1.
        (detection(part(LEFT, 0.3), 0.9), "localisation", 1 - FIRST_HALF / 2),
        (detection([300, 0, 100, 40], 0.9), "localisation", FIRST_HALF / 2),  # about the cat that is found
        (detection([0, 300, 50, 50], 0.9), "background", FIRST_HALF / 2),
    ],
)
def test_what_repairs_give_back_by_hand(mistake, kind, gain):
    cats = truth({"bbox": LEFT}, {"bbox": RIGHT})
    split = error_split(cats, [mistake, detection(RIGHT, 0.8)])
    assert split.AP50 == pytest.approx(FIRST_HALF / 2)
    assert split.counts[kind] == 1
    assert split.gives_back[kind] == pytest.approx(gain)
    # One object is asked for, if the other is missed; the mistake ahead still halves the precision.
    missed = 1 / 2 - FIRST_HALF / 2 if split.counts["missed"] else 0
    expected = dict.fromkeys(KINDS, 0) | {kind: pytest.approx(gain), "missed": pytest.approx(missed)}
    assert split.gives_back == expected


def test_a_duplicate_gives_back_by_hand():
    # Hit, duplicate, hit: recall 1/2 at precision 1 (51 points), recall 1 at 2/3 (50 points); repaired, all 1.
    rows = [detection(RIGHT, 0.9), detection(RIGHT, 0.85), detection(LEFT, 0.8)]
    split = error_split(truth({"bbox": LEFT}, {"bbox": RIGHT}), rows)
    assert split.gives_back["duplicate"] == pytest.approx(1 - (51 + 50 * 2 / 3) / 101)


def test_the_right_class_gives_back_by_hand():
    # A cat, called dog twice, and a dog, found with the lowest score. cat: AP 0. dog: miss, miss, hit: 1/3.
    pets = truth({"bbox": LEFT}, {"bbox": RIGHT, "category_id": DOG})
    rows = [detection(LEFT, 0.9, category_id=DOG), detection(LEFT, 0.8, category_id=DOG)]
    split = error_split(pets, [*rows, detection(RIGHT, 0.7, category_id=DOG)])
    assert split.detections == ("class", "class", "right")
    assert split.AP50 == pytest.approx((0 + 1 / 3) / 2)
    # The better one finds the cat, the other goes: both classes 1.
    assert split.gives_back["class"] == pytest.approx(1 - 1 / 6)


def test_both_gives_back_by_hand():
    # A cat and a dog, both found, and ahead a "dog" on four tenths of the cat. dog: miss, hit: 1/2; repaired, 1.
    pets = truth({"bbox": LEFT}, {"bbox": RIGHT, "category_id": DOG})
    rows = [detection(part(LEFT, 0.4), 0.9, category_id=DOG), detection(LEFT, 0.8)]
    split = error_split(pets, [*rows, detection(RIGHT, 0.8, category_id=DOG)])
    assert (split.counts["both"], split.gives_back["both"]) == (1, pytest.approx(1 / 4))


def test_a_class_of_which_all_is_missed_leaves_the_mean():
    pets = truth({"bbox": LEFT}, {"bbox": RIGHT, "category_id": DOG})
    split = error_split(pets, [detection(LEFT, 0.9)])
    assert split.AP50 == pytest.approx(1 / 2)
    assert split.gives_back["missed"] == pytest.approx(1 / 2)
    assert error_split(pets, []).gives_back == dict.fromkeys(KINDS, 0) | {"missed": None}


def test_without_objects_ap_is_not_defined():
    split = error_split(truth(), [detection(LEFT, 0.9)])
    assert (split.AP50, split.detections, split.objects) == (None, ("background",), ())
    assert split.gives_back == dict.fromkeys(KINDS)
    assert error_split(truth(), []).counts == dict.fromkeys(KINDS, 0)


def test_masks():
    # The boxes are equal; the mask covers 3 of 10 columns of the object.
    whole, some = (coco_mask.frPyObjects([[0, 0, w, 0, w, 100, 0, 100]], 480, 640)[0] for w in (100, 30))
    cats = truth({"bbox": LEFT, "segmentation": whole})
    rows = [detection(LEFT, 0.9, segmentation=some)]
    assert error_split(cats, rows, "segm").detections == ("localisation",)
    assert error_split(cats, rows, "bbox").detections == ("right",)


def test_an_unknown_task_is_refused():
    with pytest.raises(UsageError, match="task must be one of bbox, segm, got 'keypoints'; choose one of them"):
        error_split(truth(), [], "keypoints")


# The reference: one detection after the other, one object after the other.


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def slow_verdicts(data: AnnotatedImages, rows: Rows) -> tuple[list[str], list[str], list[int]]:
    """Verdicts on detections and on objects, and the object each detection is about, -1 for none. Without crowds."""
    objects = [(image.id, a.category_id, list(a.bbox)) for image in data.images for a in image.annotations]
    verdicts, about, taken = [""] * len(rows), [-1] * len(rows), set()
    for n in sorted(range(len(rows)), key=lambda n: -rows[n]["score"]):
        row = rows[n]
        near = [(iou(row["bbox"], o[2]), g) for g, o in enumerate(objects) if o[0] == row["image_id"]]
        own = [pair for pair in near if objects[pair[1]][1] == row["category_id"]]
        other = [pair for pair in near if objects[pair[1]][1] != row["category_id"]]
        free = max((pair for pair in own if pair[1] not in taken and pair[0] >= 0.5), default=None)
        (best_own, own_object), (best_other, other_object) = max(own, default=(0, -1)), max(other, default=(0, -1))
        if free:
            verdicts[n] = "right"
            taken.add(free[1])
        elif best_other >= 0.5 and best_other > best_own:
            verdicts[n], about[n] = "class", other_object
        elif best_own >= 0.5:
            verdicts[n] = "duplicate"
        elif best_own >= 0.1:
            verdicts[n], about[n] = "localisation", own_object
        elif best_other >= 0.1:
            verdicts[n] = "both"
        else:
            verdicts[n] = "background"
    of_objects = []
    for g in range(len(objects)):
        mistakes = [verdicts[n] for n in range(len(rows)) if about[n] == g]
        of_objects.append("right" if g in taken else min(mistakes, default="missed"))  # "class" < "localisation"
    return verdicts, of_objects, about


def slow_repair(data: AnnotatedImages, rows: Rows, kind: str) -> float | None:
    """AP50 by the whole evaluation of the repaired detections: moved onto their objects, or left out."""
    verdicts, of_objects, about = slow_verdicts(data, rows)
    objects = [(image.id, a) for image in data.images for a in image.annotations]
    kept, repaired = [], set()
    for n in sorted(range(len(rows)), key=lambda n: -rows[n]["score"]):
        if verdicts[n] != kind:
            # What was a hit stays one, what was a mistake too, wherever others move.
            place = rows[n]["bbox"] if verdicts[n] == "right" else [2000, 2000, 5, 5]
            kept.append({**rows[n], "bbox": place})
        elif about[n] >= 0 and of_objects[about[n]] != "right" and about[n] not in repaired:
            repaired.add(about[n])
            found = objects[about[n]][1]
            kept.append({**rows[n], "bbox": list(found.bbox), "category_id": found.category_id})
    annotations = [
        {"image_id": image_id, "category_id": a.category_id, "bbox": list(a.bbox)}
        for (image_id, a), verdict in zip(objects, of_objects, strict=True)
        if not (kind == verdict == "missed")
    ]
    return coco_scores(truth(*annotations, images=len(data.images)), kept).AP50


@pytest.mark.parametrize("seed", range(6))
def test_all_of_it_as_loops_have_it(seed):
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image_id in range(1, 9):
        for column in range(rng.integers(0, 5)):  # objects apart, so that a hit stays a hit when others are repaired
            box = [120 * column, 0, *rng.uniform(60, 100, 2).tolist()]
            annotations.append({"image_id": image_id, "category_id": int(rng.integers(1, 3)), "bbox": box})
            for _ in range(rng.integers(0, 4)):
                near = np.array(box) + rng.normal(0, 0.25, 4) * 60
                category = annotations[-1]["category_id"] if rng.random() < 0.6 else int(rng.integers(1, 3))
                box_near = [*near[:2].tolist(), *np.maximum(near[2:], 5).tolist()]
                rows.append(detection(box_near, float(rng.random()), image_id=image_id, category_id=category))
        rows.append(detection([0, 300, 50, 50], float(rng.random()), image_id=image_id))
    rng.shuffle(rows)
    data = truth(*annotations, images=9)
    split = error_split(data, rows)
    verdicts, of_objects, _ = slow_verdicts(data, rows)
    assert split.detections == tuple(verdicts)
    assert split.objects == tuple(of_objects)
    scores = coco_scores(data, rows)
    assert split.AP50 == pytest.approx(scores.AP50, abs=1e-12)
    for kind in KINDS:
        counted = of_objects if kind == "missed" else verdicts
        assert split.counts[kind] == counted.count(kind)
        assert split.gives_back[kind] == pytest.approx(slow_repair(data, rows, kind) - scores.AP50, abs=1e-12)
    assert sum(count > 0 for count in split.counts.values()) >= 5
