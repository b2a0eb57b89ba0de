"""The report in a real browser: clicks filter, keys move, nothing is logged as an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Page, browser
from coco_referee import Rows, detection
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.metrics.coco_map import coco_scores
from visionkit.report.content import detector_content
from visionkit.report.page import write_report
from visionkit.score_map import ScoreMap

NAMES = ("cat", "dog", "<b>cow</b>")


def case(folder: Path, images: int = 60) -> tuple[AnnotatedImages, Rows]:
    """Images with an object each; every third is missed, every fifth called the next class, some see what is not."""
    random = np.random.default_rng(0)
    records, found = [], []
    for image_id in range(1, images + 1):
        path = folder / f"image {image_id}.jpg"
        cv2.imwrite(str(path), random.integers(0, 255, (120, 160, 3), dtype=np.uint8))
        label = image_id % 3
        box = (20.0, 20.0, 60.0, 50.0)
        annotation = Annotation(id=image_id, category_id=label + 1, bbox=box, area=3000.0)
        records.append(ImageRecord(image_id, path.name, path, 160, 120, (annotation,)))
        if image_id % 3:
            said = (label + (image_id % 5 == 0)) % 3
            found.append(detection(list(box), 0.9 - image_id / 1000, image_id, said + 1))
        if image_id % 7 == 0:
            found.append(detection([100, 80, 40, 30], 0.6, image_id, 1))
    return AnnotatedImages(ClassTable((1, 2, 3), NAMES), tuple(records), source=folder / "val.json"), found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """For tests that open a page of their own."""
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def fresh(chromium: Page) -> Page:
    chromium.errors.clear()
    return chromium


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("report")
    with browser(folder) as page:
        truth, found = case(folder)
        scores, halved = coco_scores(truth, found, intervals=True), ScoreMap("temperature", scale=0.5)
        content = detector_content("a model", truth, found, scores, facts=["val"], score_map=halved)
        write_report(folder / "report.html", content)
        page.open((folder / "report.html").as_uri())
        yield page


def shown(page: Page) -> str:
    return str(page.evaluate("document.getElementById('filter-count').textContent"))


def test_the_page_draws_itself(opened: Page) -> None:
    assert opened.evaluate("document.title") == "a model"
    # COCO's twelve, and the mean IoU of what matched.
    assert opened.evaluate("document.querySelectorAll('.number').length") == 13
    assert opened.evaluate("document.querySelectorAll('#confusion td').length") == 16
    assert opened.evaluate("document.querySelectorAll('.card').length") == 24
    assert opened.evaluate("[...document.querySelectorAll('#classes td:first-child')].map(t => t.textContent)") == list(
        NAMES
    )
    assert opened.evaluate("document.querySelector('#curve-pr polyline') !== null")
    # All classes together first, then each alone.
    assert opened.evaluate("document.getElementById('curve-class').options.length") == 4
    assert opened.evaluate("document.querySelectorAll('#curve-calibration polyline').length") == 3
    hint = opened.evaluate("document.getElementById('calibration-hint').textContent")
    assert re.fullmatch(
        r"Blue: its scores, green: the confidences of its calibration \(expected calibration error 0\.\d{3}\)\.", hint
    )
    # A heading, and a row for each slice: 3 sizes, 3 shapes, 3 of crowding, 2 positions.
    assert opened.evaluate("document.querySelectorAll('#slices tr').length") == 12
    assert opened.errors == []


def test_clicks_filter_the_images(opened: Page) -> None:
    opened.click("#filter-clear")
    assert shown(opened) == "60 of 60 images"
    # Image ids that 3 divides are missed: 20 of 60.
    opened.click('#errors button[data-kind="missed"]')
    assert shown(opened) == "20 of 60 images"
    # Of them, label 0 all: cats.
    opened.click('#confusion td[data-cell="0,3"] button')
    assert shown(opened) == "20 of 60 images"
    assert opened.evaluate("document.getElementById('filter-cell').textContent") == "cat called nothing"
    # Ids that 5 divides and 3 does not, called the next class; label 1 are those with id % 3 = 1: 10, 25, 40, 55.
    opened.click('#confusion td[data-cell="1,2"] button')
    assert shown(opened) == "4 of 60 images"
    # Background called cat: ids that 7 divides, 8 of 60.
    opened.click('#confusion td[data-cell="3,0"] button')
    assert shown(opened) == "8 of 60 images"
    opened.click("#filter-clear")
    opened.click("#more")
    assert opened.evaluate("document.querySelectorAll('.card').length") == 48
    assert opened.errors == []


def test_keys_move_through_the_images(opened: Page) -> None:
    opened.click("#filter-clear")
    opened.click(".card")
    opened.wait_for("document.getElementById('viewer').open")

    def title() -> str:
        return str(opened.evaluate("document.getElementById('viewer-title').textContent"))

    assert title().endswith("(1 of 60)")
    opened.press("ArrowRight")
    opened.press("ArrowRight")
    assert title().endswith("(3 of 60)")
    opened.press("ArrowLeft")
    assert title().endswith("(2 of 60)")
    boxes = opened.evaluate("document.querySelectorAll('#viewer-picture rect').length")
    opened.click("#show-truth")
    assert opened.evaluate("document.querySelectorAll('#viewer-picture rect').length") < boxes
    opened.click("#show-truth")
    opened.press("Escape")
    opened.wait_for("!document.getElementById('viewer').open")
    # The focus is where the reader was; arrows go on from there.
    opened.wait_for("document.activeElement.dataset.index === '1'")
    opened.press("ArrowRight")
    assert opened.evaluate("document.activeElement.dataset.index") == "2"
    assert opened.errors == []


def test_nothing_is_wider_than_a_phone(fresh: Page, tmp_path: Path) -> None:
    truth, found = case(tmp_path, images=12)
    write_report(
        tmp_path / "report.html",
        detector_content("a model", truth, found, coco_scores(truth, found, intervals=True)),
    )
    for dark in (False, True):
        fresh.open((tmp_path / "report.html").as_uri(), width=390, height=800, dark=dark)
        assert fresh.evaluate("document.documentElement.scrollWidth") <= 390
        fresh.click(".card")
        fresh.wait_for("document.getElementById('viewer').open")
        assert fresh.evaluate("document.getElementById('viewer').scrollWidth") <= 390
    assert fresh.errors == []


def test_masks_lie_on_the_pictures(fresh: Page, tmp_path: Path) -> None:
    truth, found = case(tmp_path, images=6)
    outline = [[20, 20, 80, 20, 80, 70, 20, 70]]
    images = tuple(
        replace(image, annotations=tuple(replace(a, segmentation=outline) for a in image.annotations))
        for image in truth.images
    )
    truth = replace(truth, images=images)
    runs = coco_mask.merge(coco_mask.frPyObjects(outline, 120, 160))
    masked = [{**row, "segmentation": {"size": [120, 160], "counts": runs["counts"].decode()}} for row in found]
    scores = coco_scores(truth, masked, "segm", intervals=True)
    content = detector_content("masks", truth, masked, scores, "segm")
    write_report(tmp_path / "report.html", content)
    fresh.open((tmp_path / "report.html").as_uri())
    # An object an image, and a detection in the four whose number 3 does not divide.
    assert fresh.evaluate("document.querySelectorAll('.card path.mask').length") == 6 + 4
    fresh.click(".card")
    fresh.wait_for("document.getElementById('viewer').open")
    area = "[...document.querySelectorAll('#viewer-picture path.mask')].map(e => e.getBBox().width)"
    assert all(abs(width - 60) <= 2 for width in fresh.evaluate(area))
    fresh.click("#show-truth")
    fresh.click("#show-found")
    assert fresh.evaluate("document.querySelectorAll('#viewer-picture path').length") == 0
    assert fresh.errors == []


def test_five_thousand_images_and_many_classes(fresh: Page, tmp_path: Path) -> None:
    """An object an image, of 125 classes; every tenth is missed, the last ten classes are called the first. All of it
    40 times."""
    records, found = [], []
    for number in range(1, 126):
        category_id = number % 125 + 1
        annotation = Annotation(id=number, category_id=category_id, bbox=(1.0, 1.0, 9.0, 9.0), area=81.0)
        records.append(ImageRecord(number, f"{number}.png", None, 16, 12, (annotation,)))
        if number % 10:
            said = 1 if category_id > 115 else category_id
            found.append(detection([1, 1, 9, 9], 0.9, number, said))
    classes = ClassTable(tuple(range(1, 126)), tuple(f"class {number}" for number in range(1, 126)))
    truth = AnnotatedImages(classes, tuple(records), source=tmp_path / "val.json")
    content = detector_content("many", truth, found, coco_scores(truth, found))
    write_report(tmp_path / "report.html", {**content, "images": 40 * content["images"]})
    fresh.open((tmp_path / "report.html").as_uri())
    assert shown(fresh) == "5000 of 5000 images"
    assert fresh.evaluate("document.querySelectorAll('.card').length") == 24
    # 10, 20, ..., 120.
    fresh.click('#errors button[data-kind="missed"]')
    assert shown(fresh) == "480 of 5000 images"
    # A heading, a hundred classes and the background; the confused ones are among them.
    assert fresh.evaluate("document.querySelectorAll('#confusion tr').length") == 1 + 100 + 1
    assert "Of 125 classes these are the 100" in fresh.evaluate("document.getElementById('confusion-hint').textContent")
    # Class 125 is that of image 124.
    fresh.click('#confusion td[data-cell="124,0"] button')
    assert shown(fresh) == "40 of 5000 images"
    fresh.click("#filter-clear")
    fresh.click(".card")
    fresh.wait_for("document.getElementById('viewer').open")
    fresh.press("ArrowRight")
    title = fresh.evaluate("document.getElementById('viewer-title').textContent")
    assert title.endswith("(2 of 5000)")
    assert fresh.errors == []
