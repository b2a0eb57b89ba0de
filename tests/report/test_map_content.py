"""What a report on semantic maps says: by hand, and in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import Page, browser
from PIL import Image

from visionkit.classes import ClassTable
from visionkit.formats.records import AnnotatedImages, ImageRecord, MaskFile
from visionkit.metrics.mean_iou import IGNORED, MapCounts
from visionkit.predict.colours import class_colour
from visionkit.report.map_content import SeenMaps, map_content
from visionkit.report.page import write_report
from visionkit.report.thumbnails import Thumbnails

NAMES = ("road", "car", "<i>tree</i>")
ROAD, CAR, TREE = range(3)


def case(folder: Path, maps: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """The content of a report on (truth, predicted) maps u8 [H, W]."""
    records = []
    for number, (truth, _) in enumerate(maps):
        picture, mask = folder / f"{number}.jpg", folder / f"{number}.png"
        cv2.imwrite(str(picture), np.full((*truth.shape, 3), 120, np.uint8))
        cv2.imwrite(str(mask), truth)
        pixels = tuple(np.bincount(truth.ravel(), minlength=256).tolist())
        height, width = truth.shape
        records.append(ImageRecord(number, picture.name, picture, width, height, mask=MaskFile(mask, pixels)))
    split = AnnotatedImages(ClassTable((0, 1, 2), NAMES), tuple(records), source=folder / "val")
    seen, counts = SeenMaps(split), MapCounts(split.classes, boundaries=True)
    for (truth, predicted), passed in zip(maps, seen.passing(predicted for _, predicted in maps), strict=True):
        assert passed is predicted
        counts.add(truth, passed)
    return map_content("a model", split, counts.scores(), seen, ["val"])


def small_case(folder: Path) -> dict[str, Any]:
    """Two maps of 4 x 5 pixels. In the first all is right; in the second a car pixel of four is called road, a road
    pixel is called nothing, and a row is not judged."""
    right = np.zeros((4, 5), np.uint8)
    right[0] = TREE
    truth = np.zeros((4, 5), np.uint8)
    truth[0, :4], truth[3] = CAR, IGNORED
    predicted = truth.copy()
    predicted[0, 0], predicted[1, 0], predicted[3] = ROAD, IGNORED, TREE
    return case(folder, [(right, right.copy()), (truth, predicted)])


def test_the_worst_image_comes_first(tmp_path: Path) -> None:
    first, second = small_case(tmp_path)["images"]
    # 15 judged pixels, of which 2 are wrong.
    assert (first["name"], first["judged"], first["badness"]) == ("1.jpg", 15, round(2 / 15, 5))
    assert first["cells"] == [[ROAD, ROAD, 10], [ROAD, 3, 1], [CAR, ROAD, 1], [CAR, CAR, 3]]
    assert (second["name"], second["badness"]) == ("0.jpg", 0)
    assert second["cells"] == [[ROAD, ROAD, 15], [TREE, TREE, 5]]


def test_the_rest_of_the_content(tmp_path: Path) -> None:
    said = small_case(tmp_path)
    assert said["kind"] == "maps"
    assert said["confusion"] == [[25, 0, 0, 1], [1, 3, 0, 0], [0, 0, 5, 0]]
    assert said["per_class"]["car"]["IoU"] == 3 / 4
    assert said["scores"]["pixel_accuracy"] == 33 / 35
    assert said["colours"] == [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in map(class_colour, range(3))]
    json.dumps(said, allow_nan=False)  # raises where something is no JSON


def pixels_of(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def test_maps_have_the_colours_of_their_classes(tmp_path: Path) -> None:
    first = small_case(tmp_path)["images"][0]
    truth, wrong = pixels_of(first["truth"]), pixels_of(first["wrong"])
    assert truth.shape == (4, 5, 4)
    assert truth[0, 0].tolist() == [*class_colour(CAR), 255]
    assert truth[2, 2].tolist() == [*class_colour(ROAD), 255]
    assert (truth[3, :, 3] == 0).all()  # not judged: nothing lies on the picture
    assert np.argwhere(wrong[..., 3] > 0).tolist() == [[0, 0], [1, 0]]


def test_a_map_without_room_is_left_out() -> None:
    thumbnails = Thumbnails.for_images(1)
    thumbnails.left = 0
    assert thumbnails.of_map(np.zeros((4, 4), np.uint8), np.zeros((1, 3), np.uint8)) is None


def test_a_large_map_gets_as_small_as_its_picture(tmp_path: Path) -> None:
    thumbnails = Thumbnails(side=96)
    labels = (np.indices((300, 600))[1] // 86).astype(np.uint8)
    small = pixels_of(str(thumbnails.of_map(labels, np.array([class_colour(i) for i in range(7)], np.uint8))))
    assert small.shape == (48, 96, 4)
    assert len(np.unique(small.reshape(-1, 4), axis=0)) == 7  # no colour between two classes


# In a browser


def browser_case(folder: Path) -> dict[str, Any]:
    """Thirty roads, each with a car of which ever more is called road; of every third all trees are called car."""
    maps = []
    for number in range(30):
        truth = np.zeros((60, 80), np.uint8)
        truth[10:40, 10:40], truth[50:] = CAR, IGNORED
        if number % 3 == 0:
            truth[10:30, 50:70] = TREE
        predicted = truth.copy()
        predicted[10 : 10 + number, 10:40] = ROAD
        predicted[truth == TREE] = CAR
        maps.append((truth, predicted))
    return case(folder, maps)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("maps")
    with browser(folder) as page:
        write_report(folder / "report.html", browser_case(folder))
        page.open((folder / "report.html").as_uri())
        yield page


def texts(page: Page, selector: str) -> list[str]:
    return list(page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)"))


def test_the_page_draws_itself(opened: Page) -> None:
    assert texts(opened, ".number span:first-child") == [
        "mIoU", "pixel accuracy", "mean accuracy", "frequency weighted iou", "boundary iou",
    ]  # fmt: skip
    assert texts(opened, "#classes td:first-child") == list(NAMES)
    assert len(texts(opened, "#confusion td")) == 9
    assert len(texts(opened, ".card")) == 24
    assert opened.evaluate("document.getElementById('errors-section').hidden")
    assert opened.evaluate("document.getElementById('filter-kind').closest('label').hidden")
    # The last car is called road but for a row of its thirty.
    assert re.fullmatch(r"\d+\.\d % wrong: 2[789]\.jpg", texts(opened, ".card .words")[0])
    assert opened.errors == []


def test_a_cell_of_the_confusion_matrix_shows_its_images_the_worst_first(opened: Page) -> None:
    opened.click('#confusion td[data-cell="2,1"] button')  # trees called car: every third image
    assert texts(opened, "#filter-count") == ["10 of 30 images"]
    assert texts(opened, "#filter-cell") == ["<i>tree</i> called car"]
    opened.click('#confusion td[data-cell="1,0"] button')  # cars called road: all but the first
    assert texts(opened, "#filter-count") == ["29 of 30 images"]
    assert texts(opened, ".card .words")[0].endswith(" % of pixels: 29.jpg")
    opened.click("#classes tr:nth-child(4) button")
    assert texts(opened, "#filter-count") == ["10 of 30 images"]
    opened.click("#filter-clear")
    assert texts(opened, "#filter-count") == ["30 of 30 images"]
    assert opened.errors == []


def test_the_viewer_shows_truth_prediction_and_errors(opened: Page) -> None:
    opened.click("#filter-clear")
    opened.click(".card")
    opened.wait_for("document.getElementById('viewer').open")
    words = texts(opened, "#viewer-picture figcaption")
    assert words[:2] == ["truth", "predicted"]
    assert re.fullmatch(r"wrong pixels: \d+\.\d %", words[2])
    assert texts(opened, "#viewer-list li")[0].startswith("car called road: ")
    opened.wait_for("[...document.querySelectorAll('#viewer-picture image')].every(e => e.getBBox().width === 80)")
    opened.click("#show-truth")
    assert texts(opened, "#viewer-picture figcaption")[0] == "predicted"
    opened.click("#show-truth")
    opened.press("ArrowRight")
    assert texts(opened, "#viewer-title")[0].endswith("(2 of 30)")
    opened.press("Escape")
    opened.wait_for("!document.getElementById('viewer').open")
    assert opened.errors == []


def test_nothing_is_wider_than_a_phone(tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        write_report(tmp_path / "report.html", browser_case(tmp_path))
        for dark in (False, True):
            page.open((tmp_path / "report.html").as_uri(), width=390, height=800, dark=dark)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.click(".card")
            page.wait_for("document.getElementById('viewer').open")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.errors == []
