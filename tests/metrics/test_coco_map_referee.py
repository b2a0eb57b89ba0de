"""COCO scores against pycocotools itself, to the last bit: every comparison is ==."""

import json

import numpy as np
import pytest
from coco_referee import (
    TWELVE,
    Rows,
    assert_equal_to_pycocotools,
    detection,
    pycocotools_scores,
    truth_of,
    truth_with,
    twelve,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from reference_data import reference_data

from visionkit.errors import DataError
from visionkit.formats.coco import read_coco
from visionkit.metrics.coco_map import coco_scores


def random_case(seed: int) -> tuple[dict, list[dict]]:
    """Crowds, equal scores, background images, a class without objects, images out of order, all object sizes."""
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for image_id in range(1, 13):
        for _ in range(rng.integers(0, 9)):
            x, y = rng.uniform(0, 300, 2).tolist()
            width, height = np.exp(rng.uniform(np.log(10), np.log(180), 2)).tolist()
            about = {"image_id": image_id, "category_id": int(rng.choice([2, 5, 40]))}
            crowd = int(rng.random() < 0.1)
            annotations.append({"bbox": [x, y, width, height], "iscrowd": crowd, **about})
            for _ in range(rng.integers(0, 4)):
                near = np.array([x, y, width, height]) + rng.normal(0, 0.08, 4) * [width, height, width, height]
                found.append({"bbox": near.tolist(), "score": float(rng.integers(10, 20) / 20), **about})
    for _ in range(150):  # more than a hundred of one class in one image
        box = [*rng.uniform(0, 300, 2).tolist(), *rng.uniform(10, 150, 2).tolist()]
        found.append(detection(box, float(rng.random()), image_id=3, category_id=5))
    rng.shuffle(found)
    truth = truth_with(*annotations, images=14, categories=((2, "a"), (5, "b"), (40, "c"), (41, "none")))
    rng.shuffle(truth["images"])
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_random_boxes_give_the_numbers_of_pycocotools(seed):
    scores = assert_equal_to_pycocotools(*random_case(seed), "bbox")
    # A case that decides nothing would prove nothing.
    assert 0.1 < scores.AP < 0.9
    assert None not in twelve(scores)


# Anything goes: few numbers, so that boxes, overlaps and scores are often equal, and areas at the bounds of the ranges.
# Classes 2 and 5 are drawn, 40 never is; images 1 to 3 may have objects, 4 never has.
SIDES = (0, 8, 10, 16, 31.5, 32, 33, 96, 100.1)
BOXES = st.tuples(*[st.sampled_from((0, 2, 4, 8.3, 150))] * 2, *[st.sampled_from(SIDES)] * 2)
AREAS = (0, 31.9, 32**2, 32**2 + 0.5, 96**2, 96**2 + 1, 2e10)  # the last lies beyond COCO's largest
OBJECTS = st.fixed_dictionaries(
    {
        "bbox": BOXES.map(list),
        "image_id": st.integers(1, 3),
        "category_id": st.sampled_from((2, 5)),
        "iscrowd": st.sampled_from((0, 0, 0, 1)),
    },
    optional={"area": st.sampled_from(AREAS)},  # else width x height
)
DETECTIONS = st.builds(
    detection,
    BOXES,
    st.sampled_from((0, 0.25, 0.5, 0.9, 1)),
    image_id=st.integers(1, 4),
    category_id=st.sampled_from((2, 5)),
)


@settings(max_examples=200)
@given(st.lists(OBJECTS, max_size=14), st.lists(DETECTIONS, min_size=1, max_size=20), st.sampled_from((1, 1, 1, 2, 30)))
def test_any_boxes_give_the_numbers_of_pycocotools(objects: Rows, found: Rows, times: int) -> None:
    truth = truth_with(*objects, images=4, categories=((2, "a"), (5, "b"), (40, "none")))
    # 30 times 4 or more in one image and class is more than the 100 that count.
    assert_equal_to_pycocotools(truth, found * times, "bbox")


@settings(max_examples=50)
@given(st.lists(OBJECTS, max_size=8), st.lists(DETECTIONS, min_size=1, max_size=12))
def test_any_masks_give_the_numbers_of_pycocotools(objects: Rows, found: Rows) -> None:
    for row in [*objects, *found]:
        x, y, width, height = row["bbox"]
        (mask,) = coco_mask.frPyObjects([[x, y, x + width, y, x + width, y + height, x, y + height]], 480, 640)
        row["segmentation"] = {"size": mask["size"], "counts": mask["counts"].decode()}
    truth = truth_with(*objects, images=4, categories=((2, "a"), (5, "b"), (40, "none")))
    assert_equal_to_pycocotools(truth, found, "segm")


def test_annotations_without_area_have_that_of_their_box(tmp_path):
    # 40 x 30 = 1200 is medium; were it 0, or left out, APm would not be defined.
    truth = truth_with({"bbox": [10, 10, 40, 30]}, {"bbox": [100, 10, 40, 30]})
    expected, _ = pycocotools_scores(truth, [detection([10, 10, 40, 30], 0.9)], "bbox")
    for number, image in enumerate(truth["images"]):
        image["file_name"] = f"{number}.jpg"
    for row in truth["annotations"]:
        del row["area"]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(truth))
    scores = coco_scores(read_coco(file), [detection([10, 10, 40, 30], 0.9)])
    assert twelve(scores) == expected
    assert scores.APm is not None


@pytest.mark.parametrize("seed", range(2))
def test_blood_cells_with_random_detections(seed):
    truth = json.loads((reference_data("blood-cells") / "annotations" / "val.json").read_text())
    rng = np.random.default_rng(seed)
    found = []
    for row in truth["annotations"]:
        about = {"image_id": row["image_id"], "category_id": row["category_id"]}
        for _ in range(rng.integers(0, 4)):
            moved = row["bbox"] + rng.normal(0, 0.06, 4) * np.tile(row["bbox"][2:], 2)
            found.append(detection(moved.tolist(), float(rng.random() ** 0.3), **about))
    image_ids, category_ids = ([row["id"] for row in truth[key]] for key in ("images", "categories"))
    for _ in range(100 * len(image_ids)):
        box = [*rng.uniform(0, 600, 2), *rng.uniform(10, 200, 2)]
        score, image_id, category_id = float(rng.random() ** 3), rng.choice(image_ids), rng.choice(category_ids)
        found.append(detection(box, score, image_id=int(image_id), category_id=int(category_id)))
    scores = assert_equal_to_pycocotools(truth, found, "bbox")
    assert 0.1 < scores.AP < 0.9


@pytest.mark.parametrize("with_boxes", [True, False])
def test_random_masks_give_the_numbers_of_pycocotools(with_boxes):
    truth, found = random_case(seed=9)
    for row in [*truth["annotations"], *found]:
        x, y, width, height = row["bbox"]
        ellipse = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        outline = np.stack([x + width / 2 * (1 + np.cos(ellipse)), y + height / 2 * (1 + np.sin(ellipse))], axis=1)
        row["segmentation"] = [outline.ravel().tolist()]
    for row in found:
        (encoded,) = coco_mask.frPyObjects(row["segmentation"], 480, 640)
        row["segmentation"] = {"size": [480, 640], "counts": encoded["counts"].decode()}
        if not with_boxes:
            del row["bbox"]
    for task in ("segm", "bbox"):
        assert 0.05 < assert_equal_to_pycocotools(truth, found, task).AP < 0.9


VAL2014, SAMPLED, SMALL = "instances_val2014_100.json", "sampled_gts_bbox_area.json", "small_gt_dataset.json"
FAKE_BOXES, FAKE_MASKS = "instances_val2014_fakebbox100_results.json", "instances_val2014_fakesegm100_results.json"


@pytest.mark.parametrize(
    ("run", "ground_truth", "results", "task"),
    [
        ("fakebbox100 bbox", VAL2014, FAKE_BOXES, "bbox"),
        ("fakesegm100 segm", VAL2014, FAKE_MASKS, "segm"),
        ("fakesegm100 evaluated as bbox", VAL2014, FAKE_MASKS, "bbox"),
        ("sampled bbox", SAMPLED, "sampled_bbox_results.json", "bbox"),
        ("small bbox", SMALL, "small_dt_dataset.json", "bbox"),
        ("small segm", SMALL, "small_dt_dataset.json", "segm"),
    ],
)
def test_published_cases(run, ground_truth, results, task):
    folder = reference_data("coco-eval-reference")
    expected = json.loads((folder / "expected.json").read_text())["results"][run]
    truth, found = (json.loads((folder / name).read_text()) for name in (ground_truth, results))
    scores = assert_equal_to_pycocotools(truth, found, task)
    names = [name.replace("APs", "APsmall").replace("ARs", "ARsmall") for name in TWELVE]
    names = [name[:2] + {"m": "medium", "l": "large"}.get(name[2:], name[2:]) for name in names]
    assert [-1 if value is None else round(value, 6) for value in twelve(scores)] == [expected[name] for name in names]
    per_class = {name: round(c.AP, 6) for name, c in scores.per_class.items() if c.AP is not None}
    assert per_class == {name: value for name, value in expected["per_class_AP"].items() if value not in (None, -1)}
    assert scores.images == expected["images"]


def test_results_of_images_the_truth_lacks_are_refused():
    folder = reference_data("coco-eval-reference")
    truth, found = (json.loads((folder / f"small_{kind}_ignore_test.json").read_text()) for kind in ("gt", "dt"))
    # The truth's only image has the id "2299", a string; the results (and some annotations) say 2299, a number.
    truth["annotations"] = [row for row in truth["annotations"] if row["image_id"] == "2299"]
    with pytest.raises(DataError, match=r"detections name 1 image ids that truth.json lacks \(2299\)"):
        coco_scores(truth_of(truth), found)
