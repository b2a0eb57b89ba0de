"""Crops: the pixels a box touches, a file a detection, in folders whose names every file system takes."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import slopes

from visionkit.classes import ClassTable
from visionkit.errors import UsageError
from visionkit.imaging.reader import read_image
from visionkit.predict.class_names import folder_names, one_line_names
from visionkit.predict.crop_writer import crop_writer, cut_out
from visionkit.predict.output_formats import chosen_formats
from visionkit.result import Result

NAMES = ("red cell", "AC/DC", "../up")
PIXELS = slopes(40, 48)


def result_of(path: str, boxes: list[list[float]], labels: list[int], names: tuple[str, ...] = NAMES) -> Result:
    return Result(
        path=path,
        width=48,
        height=40,
        classes=ClassTable(tuple(range(len(names))), names),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.full(len(boxes), 0.5, np.float32),
        labels=np.array(labels, np.int64),
    )


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((1, 2, 3, 5), (2, 5), (1, 3)),
        ((1.2, 2.7, 3.0, 4.1), (2, 5), (1, 3)),  # all pixels that it touches
        ((-3, -2, 4, 3), (0, 3), (0, 4)),
        ((44, 38, 60, 60), (38, 40), (44, 48)),
        ((10.25, 10.25, 10.5, 10.5), (10, 11), (10, 11)),
        ((-9, 5, -2, 8), (5, 8), (0, 0)),  # off the image
        ((50, 5, 60, 8), (5, 8), (48, 48)),
    ],
)
def test_a_crop_is_the_pixels_that_a_box_touches(
    box: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    expected: NDArray[np.uint8] = PIXELS[slice(*rows), slice(*columns)]
    assert np.array_equal(cut_out(PIXELS, np.array(box, np.float32)), expected)


def test_a_file_a_detection_in_the_folder_of_its_class(tmp_path: Path) -> None:
    with crop_writer(tmp_path) as add:
        boxes = [[1, 2, 5, 9], [0, 0, 48, 40], [3, 3, 4, 4], [-9, -9, -1, -1]]
        add(result_of("x/a.png", boxes, [0, 1, 0, 0]), number=1, name="a", pixels=PIXELS)
        add(result_of("y/a.JPG", [[1, 2, 5, 9]], [2]), number=2, name="a-2", pixels=PIXELS)
        add(result_of("b.png", [], []), number=3, name="b", pixels=PIXELS)
    crops = tmp_path / "crops"
    assert files(crops) == ["AC_DC/a-2.png", "_up/a-2-1.JPG", "red cell/a-1.png", "red cell/a-3.png"]
    assert np.array_equal(read_image(crops / "red cell" / "a-1.png"), PIXELS[2:9, 1:5])
    assert np.array_equal(read_image(crops / "AC_DC" / "a-2.png"), PIXELS)
    assert read_image(crops / "_up" / "a-2-1.JPG").shape == (7, 4, 3)


def test_the_crops_of_an_image_are_there_before_the_next_image(tmp_path: Path) -> None:
    def run() -> None:
        with crop_writer(tmp_path) as add:
            add(result_of("a.png", [[1, 2, 5, 9]], [0]), number=1, name="a", pixels=PIXELS)
            assert files(tmp_path) == ["crops/red cell/a-1.png"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert files(tmp_path) == ["crops/red cell/a-1.png"]


def test_only_detections_can_be_cut_out() -> None:
    with pytest.raises(UsageError, match=r"format crops cannot hold what this model finds \(task segment\), these"):
        chosen_formats(["crops"], "segment")


def test_an_image_whose_name_is_as_long_as_names_can_be(tmp_path: Path) -> None:
    with crop_writer(tmp_path) as add:
        for number, name in enumerate(("é" * 124 + "1", "é" * 124 + "2"), 1):
            add(result_of("", [[1, 2, 5, 9]], [0]), number=number, name=name, pixels=PIXELS)
    first = "é" * 40
    assert files(tmp_path) == [f"crops/red cell/{first}~1-1.png", f"crops/red cell/{first}~2-1.png"]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("red blood cell", "red blood cell"),
        ("łódź 公交车", "łódź 公交车"),
        ('a/b\\c:d*e?f"g<h>i|j', "a_b_c_d_e_f_g_h_i_j"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("ends with a point. ", "ends with a point"),
        ("con", "con_"),
        ("LPT1.txt", "LPT1.txt_"),
        ("console", "console"),
        ("tab\tand\nline", "tab and line"),
        ("\udcff", "unnamed"),
        ("x" * 300, "x" * 60),
        ("公" * 300, "公" * 60),
    ],
)
def test_folders_of_classes_have_safe_names(name: str, folder: str, tmp_path: Path) -> None:
    assert folder_names([name]) == [folder]
    (tmp_path / folder).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_no_two_classes_share_a_folder() -> None:
    assert folder_names(["Cat", "cat", "a/b", "a:b", "cat-2"]) == ["Cat", "cat-2", "a_b", "a_b-2", "cat-2-2"]
    assert one_line_names(["Cat", "cat", "a\nb", "a b"]) == ["Cat", "cat", "a b", "a b-2"], "case counts in texts"
