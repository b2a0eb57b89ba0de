"""What a segmenter says, in original pixels: results, overlays, index masks, tables."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.cli.detect import result_table
from visionkit.errors import UsageError, VisionkitError
from visionkit.formats.mask_images import read_mask_classes
from visionkit.imaging.letterbox import letterbox
from visionkit.imaging.mask import read_mask
from visionkit.predict.backend import Raw, RawMap
from visionkit.predict.coco_writer import coco_writer
from visionkit.predict.colours import class_colour
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.drawing import _wordings, draw, draw_map
from visionkit.predict.map_comparison import WRONG, draw_map_comparison
from visionkit.predict.maps import labels_in_pixels
from visionkit.predict.mask_writer import COLUMNS, mask_writer
from visionkit.predict.output_formats import DEFAULT_FORMATS, FORMATS, chosen_formats
from visionkit.predict.tiling import Tiling
from visionkit.result import Result

TABLE = ClassTable((5, 7, 9), ("road", "car", "sky"))
PIXELS = np.zeros((96, 128, 3), np.uint8)


class Halves:
    """Says that the upper half of the square is sky and the lower half road, with a car in the last column."""

    name, sha256, classes, image_size = "halves", "", TABLE, 64

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float, max_det: int) -> list[Raw]:
        labels = np.zeros((64, 64), np.uint8)
        labels[:32] = 2
        labels[:, -1] = 1
        return [RawMap((labels == np.arange(3)[:, None, None]).astype(np.float32)) for _ in images]


def result(classes: list[str] | None = None, height: int = 96, width: int = 128) -> Result:
    """Of a picture that is brought down to 64x48 px in a square of 64, with 8 px of padding above and below."""
    image = LoadedImage("street.jpg", np.zeros((height, width, 3), np.uint8))
    ((_, said),) = detect_loaded(Halves(), [image], classes=classes)
    return said


def test_a_map_comes_back_to_original_pixels() -> None:
    said = result()
    assert said.task == "segment"
    assert said.semantic is not None
    assert said.semantic.shape == (96, 128)
    assert (said.semantic[:48, :126] == 2).all()
    assert (said.semantic[48:, :126] == 0).all()
    assert (said.semantic[:, 126:] == 1).all()
    assert said.labels.tolist() == [0, 2, 1]  # of equal shares the lower label first
    assert said.scores.tolist() == pytest.approx([63 / 128, 63 / 128, 1 / 64])


@pytest.mark.parametrize(("height", "width"), [(48, 64), (30, 64), (90, 64), (1, 200), (33, 77)])
def test_the_way_back_undoes_the_letterbox(height: int, width: int) -> None:
    cells = np.kron(np.arange(height * width).reshape(height, width) // 16 % 3, np.ones((1, 1))).astype(np.uint8)
    _, frame = letterbox(np.zeros((height, width, 3), np.uint8), 4 * max(height, width))
    square = np.full((4 * max(height, width),) * 2, 9, np.uint8)
    there = np.kron(cells, np.ones((4, 4), np.uint8))
    square[frame.top : frame.top + 4 * height, frame.left : frame.left + 4 * width] = there
    scores = (square == np.arange(3)[:, None, None]).astype(np.float32)
    assert (labels_in_pixels(scores, frame) == cells).all()


@pytest.mark.parametrize("tiling", [None, Tiling(64)])
def test_scores_that_are_no_numbers_are_no_class(tiling: Tiling | None) -> None:
    class Broken(Halves):
        def run(self, images: NDArray[np.uint8], *, score: float, iou: float, max_det: int) -> list[Raw]:
            said = super().run(images, score=score, iou=iou, max_det=max_det)
            for raw in said:
                raw.scores[2, 5, 5] = np.nan
            return said

    found = detect_loaded(Broken(), [LoadedImage("street.jpg", PIXELS)], tiling=tiling)
    with pytest.raises(VisionkitError, match="the model says scores that are no numbers, its weights are broken; name"):
        next(found)


def test_classes_that_were_not_asked_for_are_nobodys() -> None:
    said = result(["sky"])
    assert said.labels.tolist() == [2]
    assert said.semantic is not None
    assert set(np.unique(said.semantic)) == {2, 255}


def test_an_item_is_a_class_with_its_mask_and_share() -> None:
    content = json.loads(json.dumps(result().to_json()))
    assert content["task"] == "segment"
    road = content["items"][0]
    assert {name: road[name] for name in ("label", "category_id", "name")} == {
        "label": 0,
        "category_id": 5,
        "name": "road",
    }
    assert road["share"] == pytest.approx(63 / 128, abs=1e-5)
    assert set(road) == {"mask", "share", "label", "category_id", "name"}
    assert road["mask"]["size"] == [96, 128]
    assert coco_mask.area(road["mask"]) == 48 * 126


def test_the_table_says_each_classs_area() -> None:
    lines = result_table(result()).splitlines()
    assert lines[0].startswith("street.jpg  128x96  3 classes  ")
    assert lines[1].split() == ["road", "49.22%", "6,048", "px"]  # 48 * 126 of 12288
    assert lines[3].split() == ["car", "1.56%", "192", "px"]


# writing --------------------------------------------------------------------------------------------------------------


def test_masks_are_data_again(tmp_path: Path) -> None:
    said = result(["road", "sky"])
    with mask_writer(tmp_path) as add:
        add(said, number=3, name="street", pixels=PIXELS)
        add(result(), number=4, name="street-2", pixels=PIXELS)
    assert (read_mask(tmp_path / "masks/street.png") == said.semantic).all()
    classes = read_mask_classes(tmp_path / "masks/classes.json")
    assert classes.table.names == TABLE.names
    assert classes.ignored == 255
    palette = Image.open(tmp_path / "masks/street.png").getpalette()
    assert palette is not None
    assert tuple(palette[3:6]) == class_colour(1)
    rows = list(csv.reader((tmp_path / "areas.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1] == ["3", "street.jpg", "128", "96", "5", "road", "6048", "0.492188"]
    assert len(rows) == 1 + 2 + 3


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/classes.json").touch()
    with pytest.raises(UsageError, match=r"classes.json exists"), mask_writer(tmp_path) as add:
        add(result(), number=1, name="street", pixels=PIXELS)


@pytest.mark.parametrize("name", [name for name, chosen in FORMATS.items() if "segment" in chosen.tasks])
def test_an_interrupted_run_keeps_what_it_has(name: str, tmp_path: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def run() -> None:
        with FORMATS[name].writer(tmp_path) as add:
            add(result(), number=1, name="street", pixels=PIXELS)
            now.update(contents())
            raise KeyboardInterrupt

    now: dict[Path, bytes] = {}
    with pytest.raises(KeyboardInterrupt):
        run()
    assert contents() == now
    assert sum(map(len, now.values())) > 20


def test_formats_are_those_of_the_task() -> None:
    assert DEFAULT_FORMATS["segment"] == "masks"
    assert len(chosen_formats(["masks", "json", "coco"], "segment")) == 3
    with pytest.raises(UsageError, match=r"format yolo cannot hold what this model finds \(task segment\)"):
        chosen_formats(["yolo"], "segment")
    with pytest.raises(UsageError, match=r"format masks cannot hold what this model finds \(task detect\)"):
        chosen_formats(["masks"])


def test_regions_are_rows_of_coco(tmp_path: Path) -> None:
    with coco_writer(tmp_path) as add:
        add(result(["road", "car"]), number=3, name="street", pixels=PIXELS)
    road, car = json.loads((tmp_path / "results.json").read_text())
    assert {key: road[key] for key in ("image_id", "category_id", "bbox", "area", "score", "file_name")} == {
        "image_id": 3,
        "category_id": 5,
        "bbox": [0, 48, 126, 48],
        "area": 6048,
        "score": 1,
        "file_name": "street.jpg",
    }
    assert road["segmentation"] == [[0, 48, 126, 48, 126, 96, 0, 96]]
    assert car["segmentation"] == [[126, 0, 128, 0, 128, 96, 126, 96]]


# drawing --------------------------------------------------------------------------------------------------------------


def test_an_overlay_shows_picture_and_classes_with_a_legend_below() -> None:
    picture = np.full((96, 128, 3), 100, np.uint8)
    drawn = draw(picture, result())
    assert drawn.shape[1:] == (128, 3)
    assert drawn.shape[0] > 96
    road = np.array(class_colour(0)) * 0.55 + 100 * 0.45
    assert np.abs(drawn[80, 20] - road).max() <= 1
    legend = drawn[96:].reshape(-1, 3).tolist()
    assert all(list(class_colour(label)) in legend for label in range(3))
    assert (picture == 100).all()


def test_a_legend_does_not_say_that_there_is_none_of_what_there_is() -> None:
    said = replace(result(), scores=np.array([0.9994, 0.0005, 0.0001], np.float32))
    assert _wordings(said)[0] == ("road 99.9%", "road")
    assert [words[0] for words in _wordings(said)[1:]] == ["sky 0.1%", "car <0.1%"]


def test_pixels_of_no_class_show_the_picture() -> None:
    labels = np.full((40, 60), 255, np.uint8)
    labels[20:] = 1
    drawn = draw_map(np.full((40, 60, 3), 77, np.uint8), labels, TABLE.names)
    assert (drawn[:20] == 77).all()
    assert (drawn[25] != 77).any()


def test_a_map_without_any_class_has_no_legend() -> None:
    picture = np.full((40, 60, 3), 77, np.uint8)
    assert (draw_map(picture, np.full((40, 60), 255, np.uint8), TABLE.names) == picture).all()


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (20, 400)])
def test_legends_fit_pictures_of_any_size(size: tuple[int, int]) -> None:
    drawn = draw_map(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), ("a class with a long name",))
    assert drawn.shape[1] == size[1]


def test_strips_of_an_overlay_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (50, 40)).astype(np.uint8)
    picture = np.random.default_rng(1).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    whole = draw_map(picture, labels, TABLE.names)
    monkeypatch.setattr("visionkit.predict.maps.STRIP", 40 * 7)
    assert (draw_map(picture, labels, TABLE.names) == whole).all()


def test_truth_beside_prediction_beside_errors() -> None:
    picture = np.full((320, 400, 3), 200, np.uint8)
    truth, predicted = np.zeros((320, 400), np.uint8), np.zeros((320, 400), np.uint8)
    truth[:100] = 255
    predicted[:, 300:] = 1  # a quarter of what is judged is wrong
    drawn = draw_map_comparison(picture, truth, predicted, TABLE.names)
    gap = (drawn.shape[1] - 3 * 400) // 2
    assert gap > 0
    caption = 2 * 10  # of letters of 10 px
    left, middle, right = (
        drawn[caption : caption + 320, start : start + 400] for start in (0, 400 + gap, 800 + 2 * gap)
    )
    road, car = (np.array(class_colour(label)) * 0.55 + 200 * 0.45 for label in (0, 1))
    assert (left[50, 200] == 200).all()  # no class: the picture alone
    assert np.abs(left[200, 350] - road).max() <= 1
    assert np.abs(middle[200, 350] - car).max() <= 1
    assert np.abs(middle[200, 250] - road).max() <= 1
    wrong = np.array(WRONG) * 0.75 + 160 * 0.25
    assert np.abs(right[200, 350] - wrong).max() <= 1
    assert (right[200, 250] == 160).all()
    assert (right[50, 350] == 60).all()  # not judged, so not wrong
    legend = drawn[caption + 320 :].reshape(-1, 3).tolist()
    assert list(class_colour(0)) in legend
    assert list(class_colour(1)) in legend
    assert list(class_colour(2)) not in legend
    assert (picture == 200).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 5), (20, 400)])
def test_comparisons_of_any_size(size: tuple[int, int]) -> None:
    labels = np.full(size, 255, np.uint8)
    drawn = draw_map_comparison(np.zeros((*size, 3), np.uint8), labels, np.zeros(size, np.uint8), TABLE.names)
    assert drawn.shape[1] >= 3 * size[1]
