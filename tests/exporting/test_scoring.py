"""The scores of one side of a comparison: from what a backend says in a letterbox to the data's own classes."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.classes import ClassMatch, ClassTable
from visionkit.exporting.scoring import ClassScoring, DetectionScoring, MapScoring, scoring_of
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord, MaskFile
from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.result import Result

DATA = ClassTable((4, 9), ("cat", "dog"))
MODEL = ClassTable((1, 2, 3), ("dog", "bus", "cat"))
MATCH = ClassMatch(DATA, MODEL, (2, 0))


class Saying:
    """A backend that says one thing of a picture."""

    name = sha256 = ""
    classes = MODEL
    image_size = 16

    def __init__(self, raw: Raw) -> None:
        self.raw = raw

    def run(self, images: NDArray[np.uint8], **asked: object) -> Sequence[Raw]:
        return [self.raw]


def result_of(raw: Raw) -> Result:
    """Of a picture of 8 x 4 px in a square of 16: twice as large, with 4 px of padding above and below."""
    picture = LoadedImage("", np.zeros((4, 8, 3), np.uint8))
    ((_, result),) = detect_loaded(Saying(raw), [picture], score=0.0)
    return result


def split(*annotations: Annotation, mask: MaskFile | None = None, whole_images: bool = False) -> AnnotatedImages:
    image = ImageRecord(7, "a.png", None, 8, 4, annotations, mask)
    return AnnotatedImages(DATA, (image,), Path("val.json"), whole_images=whole_images)


def test_boxes_go_back_to_pixels_and_categories_of_the_data() -> None:
    truth = split(Annotation(1, 4, (1, 1, 2, 3), 6), Annotation(2, 9, (5, 0, 2, 2), 4))
    scoring = scoring_of("detect", truth, MATCH)
    assert isinstance(scoring, DetectionScoring)
    boxes = [
        [2, 6, 6, 12],  # 1..3 by 1..4 of the picture: the cat
        [10, 4, 14, 8],  # 5..7 by 0..2: the dog
        [10, 4, 14, 8],  # a bus, which the data does not know
        [0, 0, 16, 4],  # in the padding alone
    ]
    said = RawDetections(
        np.array(boxes, np.float32), np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([2, 0, 1, 2])
    )
    scoring.add(result_of(said), 7, 0)
    assert [(row["category_id"], row["bbox"]) for row in scoring.rows] == [(4, [1, 1, 2, 3]), (9, [5, 0, 2, 2])]
    assert scoring.metrics() == {"AP": pytest.approx(1.0), "AP50": pytest.approx(1.0)}


def test_masks_are_judged_where_there_are_some() -> None:
    outline = [[1.0, 1.0, 3.0, 1.0, 3.0, 4.0, 1.0, 4.0]]  # the whole box
    truth = split(Annotation(1, 4, (1, 1, 2, 3), 6, segmentation=outline))
    for cells, quality in ((1.0, 1.0), (0.0, 0.0)):
        scoring = scoring_of("detect", truth, MATCH, masks=True)
        said = RawDetections(
            np.array([[2, 6, 6, 12]], np.float32),
            np.array([0.9], np.float32),
            np.array([2]),
            np.full((1, 28, 28), cells, np.float32),
        )
        scoring.add(result_of(said), 7, 0)
        assert scoring.metrics()["AP"] == pytest.approx(1.0)
        assert scoring.metrics()["mask_AP"] == pytest.approx(quality)


def test_pictures_have_a_class_among_those_of_the_data() -> None:
    scoring = scoring_of("classify", split(whole_images=True), MATCH)
    assert isinstance(scoring, ClassScoring)
    # The bus is the likeliest of all, of those that the data knows the dog is; then twice the cat.
    first = RawClasses(np.array([0.5, 0.3, 0.2], np.float32), np.array([1, 0, 2]))
    second = RawClasses(np.array([0.6, 0.3, 0.1], np.float32), np.array([2, 1, 0]))
    for image_id, (said, label) in enumerate(((first, 1), (second, 1), (second, 0))):
        scoring.add(result_of(said), image_id, label)
    assert scoring.metrics()["accuracy"] == pytest.approx(2 / 3)


def test_maps_are_judged_by_the_mean_iou_in_pixels_of_the_picture(tmp_path: Path) -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 4:] = 1  # the right half is dog
    labels[0] = 255  # and no one judges the first row
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    truth = split(mask=MaskFile(tmp_path / "a.png", (12, 12)))
    scoring = scoring_of("segment", truth, MATCH)
    assert isinstance(scoring, MapScoring)
    scores = np.zeros((3, 16, 16), np.float32)
    scores[2, :, :4] = 5  # cat in the left quarter,
    scores[1, :, 4:8] = 5  # bus, which the data does not know, in the next,
    scores[0, :, 8:] = 5  # dog in the right half
    scoring.add(result_of(RawMap(scores)), 7, 0)
    # Of 3 rows: cat has 6 of 12 pixels, dog its 12. What is called bus is wrong, and no other class's.
    assert scoring.metrics() == {"mIoU": pytest.approx((6 / 12 + 1) / 2), "pixel_accuracy": pytest.approx(18 / 24)}
