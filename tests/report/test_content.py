"""What a report says: by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_referee import detection, truth_of, truth_with

from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import coco_scores
from visionkit.report.content import detector_content
from visionkit.report.outlines import mask_path
from visionkit.report.page import check_report, page, write_report
from visionkit.report.thumbnails import MOST_BYTES, Thumbnails
from visionkit.score_map import ScoreMap

HERE, THERE, NOWHERE = [0, 0, 40, 40], [100, 100, 40, 40], [300, 300, 40, 40]
CATEGORIES = ((5, "cat"), (9, "</script><b>dog"))


def content(truth: AnnotatedImages, found: list[dict[str, object]]) -> dict[str, object]:
    return detector_content("model", truth, found, coco_scores(truth, found, intervals=True))


def small_case() -> dict[str, object]:
    """Image 1: a cat found, a dog called cat. Image 2: a cat missed, and one seen in vain. Image 3: all well."""
    truth = truth_of(
        truth_with(
            {"bbox": HERE, "category_id": 5},
            {"bbox": THERE, "category_id": 9},
            {"bbox": HERE, "category_id": 5, "image_id": 2},
            {"bbox": HERE, "category_id": 5, "image_id": 3},
            images=3,
            categories=CATEGORIES,
        )
    )
    found = [
        detection(HERE, 0.9, 1, 5),
        detection(THERE, 0.8, 1, 5),
        detection(NOWHERE, 0.7, 2, 5),
        detection(NOWHERE, 0.1, 2, 5),  # shown to nobody
        detection(HERE, 0.95, 3, 5),
    ]
    return content(truth, found)


def test_the_worst_image_comes_first() -> None:
    images = small_case()["images"]
    # Image 1: 0.8 wrong, and the dog, which a class mistake is about. Image 2: 0.7 wrong and 1 missed. Image 3: 0.
    assert [image["badness"] for image in images] == [1.8, 1.7, 0]  # type: ignore[index, union-attr]
    first = images[0]  # type: ignore[index]
    assert [entry["verdict"] for entry in first["found"]] == ["right", "class"]
    assert [entry["verdict"] for entry in first["objects"]] == ["right", "class"]
    assert [entry["said"] for entry in first["objects"]] == [0, 0]
    assert [entry["meant"] for entry in first["found"]] == [0, 1]
    second = images[1]  # type: ignore[index]
    assert [entry["score"] for entry in second["found"]] == [0.7]
    assert second["objects"][0] == {"box": [0, 0, 40, 40], "label": 0, "verdict": "missed", "said": -1}


def test_the_rest_of_the_content() -> None:
    told = small_case()
    assert told["classes"] == ["cat", "</script><b>dog"]
    assert told["confusion"] == [[2, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert told["errors"]["missed"]["count"] == 1  # type: ignore[index]
    assert told["errors"]["class"]["count"] == 1  # type: ignore[index]
    # Of two seen in vain one has too low a score.
    background = told["errors"]["background"]  # type: ignore[index]
    assert (background["count"], background["shown"]) == (2, 1)
    assert told["per_class"]["cat"]["objects"] == 3  # type: ignore[index]
    # All classes together: right at 0.95 and 0.9, wrong at 0.8 and 0.7, and later, of 4 objects.
    assert told["pooled"]["points"][0] == [0.95, 1.0, 0.25, 0.4]  # type: ignore[index]
    assert told["pooled"]["best"] == {"score": 0.9, "precision": 1, "recall": 0.5, "f1": 2 / 3}  # type: ignore[index]
    assert set(told["slices"]) == {"size", "shape", "crowding", "position"}
    json.dumps(told, allow_nan=False)  # raises where something is no JSON


def test_a_calibrated_models_confidences_are_held_against_its_mistakes_too() -> None:
    truth = truth_of(truth_with({"bbox": HERE}))
    found = [detection(HERE, 0.9), detection(NOWHERE, 0.5)]
    halved = ScoreMap("isotonic", points=((0.0, 0.0), (1.0, 0.5)))
    told = detector_content("model", truth, found, coco_scores(truth, found), score_map=halved)
    assert told["calibration"]["ece"] == pytest.approx((0.1 + 0.5) / 2)
    assert told["calibrated"]["ece"] == pytest.approx((0.55 + 0.25) / 2)
    assert "calibrated" not in detector_content("model", truth, found, coco_scores(truth, found))
    # Calibration is of shares: of other scores there is none.
    unbound = [{**row, "score": 10 * row["score"]} for row in found]
    assert "calibration" not in detector_content("model", truth, unbound, coco_scores(truth, unbound))


def test_no_name_in_the_data_can_leave_its_place() -> None:
    html = page(small_case())
    assert "</script><b>dog" not in html
    assert "\\u003c/script>\\u003cb>dog" in html
    inside = html.split('id="data">')[1].split("</script>")[0]
    assert json.loads(inside)["classes"][1] == "</script><b>dog"
    for mark in ("/*STYLE*/", "/*SCRIPT*/", "/*DATA*/"):
        assert mark not in html


def test_a_page_loads_nothing() -> None:
    html = page(small_case())
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html


def test_an_image_that_is_broken_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    assert Thumbnails.for_images(1).of(tmp_path / "text.jpg") == (None, None)


def test_thumbnails_take_no_more_room_than_there_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    assert Thumbnails.for_images(100).side == 640
    assert Thumbnails.for_images(5000).side == 160
    # The worst case, pure noise, takes more than the usual: then the last images have no picture.
    thumbnails = Thumbnails.for_images(5000)
    pictures = [thumbnails.of(tmp_path / "noise.png")[0] for _ in range(5)]
    each = len(pictures[0] or "") * 3 / 4
    assert each * 5000 < 3 * MOST_BYTES
    thumbnails.left = 0
    assert thumbnails.of(tmp_path / "noise.png") == (None, (640, 480))


def test_masks_become_paths() -> None:
    assert mask_path([[0, 0, 10, 0, 10, 10]], 20, 20) == "M0 0L10 0L10 10Z"
    # Columns 5 to 9 of 10 x 10: the outline runs through the middle of the border pixels.
    assert mask_path({"size": [10, 10], "counts": [50, 50]}, 10, 10).startswith("M")
    assert mask_path(None, 10, 10) == ""
    # A circle of 400 corners in 640 px is drawn to 2 px: an arc of radius 200 and n corners lies 200 (1 - cos(pi / n))
    # off its chords, 2 px for n = 22.
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack((320 + 200 * np.cos(turn), 240 + 200 * np.sin(turn)), axis=1)
    path = mask_path([circle.ravel().tolist()], 640, 480)
    assert 16 <= path.count("L") <= 64
    points = np.array([point.split() for point in path[1:-1].split("L")], float)
    assert np.hypot(*(points - (320, 240)).T) == pytest.approx(np.full(len(points), 200), abs=1)
    assert mask_path({"size": [10, 10], "counts": [100]}, 10, 10) == ""


def test_what_a_report_refuses(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(file, small_case())
    with pytest.raises(UsageError, match=r"report\.html exists and nothing is overwritten; give another --report"):
        write_report(file, small_case())
    with pytest.raises(UsageError, match=r"a report is an HTML file, got report\.pdf; name it report\.html"):
        check_report(tmp_path / "report.pdf")
