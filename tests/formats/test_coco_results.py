import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference_data import reference_data

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_results import read_results, write_results
from visionkit.formats.records import AnnotatedImages, ImageRecord

TRUTH = AnnotatedImages(
    classes=ClassTable((3, 17), ("car", "cat")),
    images=(ImageRecord(1, "a.jpg", None, 100, 80), ImageRecord(2, "b.jpg", None, 0, 0)),
    source=Path("val.json"),
)


def detection(**values: Any) -> dict[str, Any]:
    """A sound detection with keys set, or removed where the value is `...`."""
    row = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4.5], "score": 0.5} | values
    return {key: value for key, value in row.items() if value is not ...}


def read(folder: Path, rows: Any) -> list[dict[str, Any]]:
    file = folder / "predictions.json"
    file.write_text(json.dumps(rows))
    return read_results(file, TRUTH)


def refused(folder: Path, rows: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, rows)
    message = str(caught.value)
    assert message.startswith(str(folder / "predictions.json"))
    assert "\n" not in message
    return (
        message.removeprefix(str(folder / "predictions.json"))
        .lstrip(": ")
        .removesuffix(" | --skip-bad leaves them out")
    )


def test_detections_are_read_in_order_and_other_keys_left_out(tmp_path: Path) -> None:
    rows = read(tmp_path, [detection(id=9, area=12), detection(image_id=2, category_id=17, score=1)])
    assert rows == [
        {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4.5], "score": 0.5},
        {"image_id": 2, "category_id": 17, "bbox": [1, 2, 3, 4.5], "score": 1},
    ]


def test_an_empty_list_is_sound(tmp_path: Path) -> None:
    assert read(tmp_path, []) == []


def test_a_mask_may_stand_in_for_the_box(tmp_path: Path) -> None:
    mask = {"size": [80, 100], "counts": [8000]}
    for bbox in (..., [], None):
        (row,) = read(tmp_path, [detection(bbox=bbox, segmentation=mask)])
        assert "bbox" not in row
        assert row["segmentation"] == mask


def test_detections_may_be_empty_or_reach_over_the_edge(tmp_path: Path) -> None:
    # A detector may say so, and pycocotools counts it.
    assert read(tmp_path, [detection(bbox=[-5, 90, 0, 30])])[0]["bbox"] == [-5, 90, 0, 30]


IMAGE = "image ids must be among those of val.json; judge against the matching annotations"
CATEGORY = "category ids must be among those of val.json; write the dataset's own ids, not labels"
SCORE = "a score must be a finite number; correct or remove it"
BOX = "a bbox must be four finite numbers x, y, width, height within 1000000 px, no side negative; correct or remove it"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (7, "[0] is 7, every detection must be a JSON object; correct or remove it"),
        (detection(image_id=9), f"[0] has image_id 9, {IMAGE}"),
        (detection(image_id="1"), f"[0] has image_id '1', {IMAGE}"),
        (detection(image_id=[1]), f"[0] has image_id [1], {IMAGE}"),
        (detection(category_id=0), f"[0] has category_id 0, {CATEGORY}"),
        (detection(category_id=...), f"[0] has category_id None, {CATEGORY}"),
        (detection(score=...), f"[0] has no score, {SCORE}"),
        (detection(score=float("nan")), f"[0] has score nan, {SCORE}"),
        (detection(score="0.5"), f"[0] has score '0.5', {SCORE}"),
        (detection(bbox=[1, 2, 3]), f"[0] has bbox [1, 2, 3], {BOX}"),
        (detection(bbox=[1, 2, float("inf"), 4]), f"[0] has bbox [1, 2, inf, 4], {BOX}"),
        (detection(bbox=[1, 2, -3, 4]), f"[0] has bbox [1, 2, -3, 4], {BOX}"),
        (
            detection(bbox=...),
            "[0] has neither bbox nor segmentation, a detection needs a bbox or a segmentation; add one or remove it",
        ),
        (
            detection(segmentation={"size": [80, 99], "counts": [7920]}),
            "[0] has segmentation {'size': [80, 99], 'counts': [7920]}, the size of an RLE must be height and width of "
            "its image; make masks in pixels of the image",
        ),
    ],
)
def test_an_error_is_told_with_item_rule_and_remedy(tmp_path: Path, row: Any, message: str) -> None:
    assert refused(tmp_path, [row]) == message


def test_errors_of_a_kind_are_counted(tmp_path: Path) -> None:
    rows = [detection(), detection(image_id=9), detection(image_id=8)]
    assert refused(tmp_path, rows) == f"[1] has image_id 9 (and 1 more like it), {IMAGE}"


def test_annotations_given_for_predictions_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, {"annotations": []}) == (
        "is not a list, COCO results are a list of detections with image_id, category_id, bbox and score; "
        "name the file of predictions, not of annotations"
    )


def test_law_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "predictions.json"
    rows = [detection(score=1 / 3), detection(image_id=2, bbox=[0.1, 0.2, 1e-9, 7])]
    write_results(file, rows)
    assert read_results(file, TRUTH) == rows
    write_results(file, [])
    assert read_results(file, TRUTH) == []


def test_numpy_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    file = tmp_path / "predictions.json"
    write_results(file, [detection(image_id=np.int64(1), score=np.float32(0.5), bbox=np.array([1.0, 2, 3, 4]))])
    assert read_results(file, TRUTH) == [detection(bbox=[1, 2, 3, 4])]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "predictions.json"
    write_results(file, [detection()])
    with pytest.raises(DataError, match=r"is not written: a detection holds a number that is not finite; leave it out"):
        write_results(file, [detection(score=float("nan"))])
    assert read_results(file, TRUTH) == [detection()]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be written \(No such file or directory\); check folder"):
        write_results(tmp_path / "none" / "predictions.json", [])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_results_of_the_coco_demo_are_read(kind: str) -> None:
    folder = reference_data("coco-eval-reference")
    truth = read_coco(folder / "instances_val2014_100.json")
    rows = read_results(folder / f"instances_val2014_fake{kind}100_results.json", truth)
    assert len(rows) == 734
    assert all(("bbox" in row) == (kind == "bbox") and ("segmentation" in row) == (kind == "segm") for row in rows)


def test_results_for_images_the_truth_lacks_are_refused() -> None:
    folder = reference_data("coco-eval-reference")
    truth = read_coco(folder / "small_gt_dataset.json")
    with pytest.raises(DataError, match=r"has image_id .* image ids must be among those of"):
        read_results(folder / "small_dt_ignore_test.json", truth)


def test_an_interrupted_file_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "found.json", [detection()])
    assert list(tmp_path.iterdir()) == []
