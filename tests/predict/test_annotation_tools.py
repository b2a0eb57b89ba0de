"""LabelMe and CVAT files of results: what is written is what the readers of datasets read back, at any moment."""

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded, exif, noise
from PIL import Image
from pycocotools import mask as coco_mask

from visionkit.classes import ClassTable
from visionkit.errors import UsageError
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.object_shapes import as_rle, decoded
from visionkit.formats.records import AnnotatedImages
from visionkit.predict.found_objects import found_objects
from visionkit.predict.output_formats import FORMATS
from visionkit.predict.yolo_writer import yolo_text
from visionkit.result import Result, Rle

CLASSES = ClassTable((3, 17), ("car", "kočka <>&"))
TOOLS = ["labelme", "cvat"]

Mask = NDArray[np.bool_]


def rle(mask: Mask) -> Rle:
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def result_of(
    path: Path | str,
    boxes: Sequence[Sequence[float]] = (),
    labels: Sequence[int] | None = None,
    masks: Sequence[Mask] | None = None,
    classes: ClassTable = CLASSES,
    size: tuple[int, int] = (48, 40),
) -> Result:
    """Of a picture of 48x40 px; scores fall from 0.9."""
    return Result(
        path=str(path),
        width=size[0],
        height=size[1],
        classes=classes,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.1, len(boxes), dtype=np.float32),
        labels=np.array(labels if labels is not None else [1] * len(boxes), np.int64),
        masks=None if masks is None else tuple(map(rle, masks)),
    )


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(noise(), "JPEG" if path.suffix == ".jpg" else "PNG"))
    return path


def write(tool: str, folder: Path, results: Sequence[Result]) -> Path:
    """The folder of the tool, with results of pictures that are called a, b, c."""
    with FORMATS[tool].writer(folder) as add:
        for number, (name, result) in enumerate(zip("abc", results, strict=False), 1):
            add(result, number=number, name=name, pixels=noise())
    return folder / tool


def read(folder: Path) -> AnnotatedImages:
    return read_split(find_layout(folder), "train")


def name_of(data: AnnotatedImages, category_id: int) -> str:
    return data.classes.names[data.classes.label(category_id)]


@pytest.mark.parametrize("tool", TOOLS)
def test_boxes_come_back_bit_for_bit(tool: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 20, (50, 2))
    boxes = np.hstack([corners, corners + random.uniform(0.5, 19, (50, 2))]).astype(np.float32)
    labels = random.integers(0, 2, 50).tolist()
    found = result_of(picture(tmp_path / "a.jpg"), boxes.tolist(), labels)
    data = read(write(tool, tmp_path / "out", [found]))
    (image,) = data.images
    back = np.array([(x, y, x + w, y + h) for x, y, w, h in (a.bbox for a in image.annotations)], np.float32)
    assert (back == found.boxes).all()
    assert [name_of(data, a.category_id) for a in image.annotations] == [CLASSES.names[label] for label in labels]
    assert all(a.segmentation is None for a in image.annotations)
    assert data.remarks == {}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_picture_is_there_as_it_came_and_those_without_objects_too(tool: str, tmp_path: Path) -> None:
    first, second = picture(tmp_path / "x" / "a.jpg"), picture(tmp_path / "y" / "a.png")
    results = [result_of(first, [[1, 2, 3, 4]]), result_of(second), result_of("clip.mp4#frame=3", [[5, 5, 9, 9]])]
    folder = write(tool, tmp_path / "out", results)
    data = read(folder)
    assert [(i.file_name, len(i.annotations)) for i in data.images] == [("a.jpg", 1), ("b.png", 0), ("c.png", 1)]
    placed = [image.path for image in data.images]
    assert placed[0] is not None
    assert placed[0].read_bytes() == first.read_bytes()
    assert placed[0].samefile(first), "linked, not copied"
    assert (np.asarray(Image.open(placed[2])) == noise()).all(), "a frame is saved"  # type: ignore[arg-type]
    table = (folder / "sources.csv").read_text().splitlines()
    assert table == ["picture,image", f"a.jpg,{first}", f"b.png,{second}", "c.png,clip.mp4#frame=3"]


def test_scores_stand_beside_the_shapes(tmp_path: Path) -> None:
    found = result_of(picture(tmp_path / "a.jpg"), [[1, 2, 3, 4], [2, 2, 8, 8]])
    shapes = json.loads((write("labelme", tmp_path, [found]) / "a.json").read_text())["shapes"]
    assert [shape["score"] for shape in shapes] == [0.9, 0.1]  # the shortest digits of the 32-bit floats
    root = ElementTree.parse(write("cvat", tmp_path, [found]) / "annotations.xml").getroot()
    boxes = root.findall("image/box")
    assert [box.findtext("attribute[@name='score']") for box in boxes] == ["0.9", "0.1"]
    assert {box.get("source") for box in boxes} == {"auto"}
    # A task that is made of these labels has the attribute.
    labels = root.findall("meta/task/labels/label")
    assert [label.findtext("name") for label in labels] == list(CLASSES.names)
    assert {label.findtext("attributes/attribute/name") for label in labels} == {"score"}


# Masks: two squares apart, a ring, nothing
TWO = np.zeros((40, 48), bool)
TWO[1:4, 1:5] = TWO[6:9, 7:11] = True
RING = np.zeros((40, 48), bool)
RING[20:30, 20:30] = True
RING[24:26, 24:26] = False
NOTHING = np.zeros((40, 48), bool)
BOXES = [[0.5, 0.5, 12, 10], [19, 19, 31, 31], [40, 30, 44, 35]]


@pytest.mark.parametrize("tool", TOOLS)
def test_masks_become_polygons_or_where_they_have_holes_masks(tool: str, tmp_path: Path) -> None:
    found = result_of(picture(tmp_path / "a.jpg"), BOXES, [0, 1, 1], [TWO, RING, NOTHING])
    (image,) = read(write(tool, tmp_path, [found])).images
    two, ring, nothing = image.annotations
    assert isinstance(two.segmentation, list)
    assert sorted(map(sorted, two.segmentation)) == [[1, 1, 1, 1, 4, 4, 5, 5], [6, 6, 7, 7, 9, 9, 11, 11]]
    assert (decoded(as_rle(two.segmentation, 48, 40)) == TWO).all()
    assert two.bbox == (1, 1, 10, 8), "the smallest box around the mask"
    assert isinstance(ring.segmentation, dict)
    assert (decoded(ring.segmentation) == RING).all()
    assert (nothing.segmentation, nothing.bbox) == (None, (40, 30, 4, 5)), "a mask without a pixel is a box"


def test_a_line_of_yolo_has_the_polygon_of_a_mask_of_one_part(tmp_path: Path) -> None:
    square, nothing = np.zeros((40, 48), bool), np.zeros((40, 48), bool)
    square[10:30, 12:36] = True
    found = result_of("a.jpg", [[12, 10, 36, 30], [0, 0, 24, 20]], [0, 1], [square, TWO])
    first, second = yolo_text(found).splitlines()
    label, *shares, score = first.split()
    corners = np.array(shares, float).reshape(-1, 2) * (48, 40)
    assert (label, score) == ("0", "0.900000")
    assert sorted(map(tuple, corners.round(3).tolist())) == [(12, 10), (12, 30), (36, 10), (36, 30)]
    assert second == "1 0.250000 0.250000 0.500000 0.500000 0.100000", "the box: its mask has two parts"
    for mask in (RING, nothing):  # a hole; no pixel
        assert len(yolo_text(result_of("a.jpg", [[1, 2, 3, 4]], masks=[mask])).split()) == 6


@pytest.mark.parametrize("tool", TOOLS)
def test_regions_of_a_semantic_map_come_back(tool: str, tmp_path: Path) -> None:
    labels = np.full((40, 48), 255, np.uint8)
    labels[TWO], labels[RING] = 0, 1
    shares = np.array([RING.mean(), TWO.mean()], np.float32)
    nowhere = np.zeros((0, 4), np.float32)
    found = Result(
        str(picture(tmp_path / "a.jpg")), 48, 40, CLASSES, nowhere, shares, np.array([1, 0]), task="segment",
        semantic=labels,
    )  # fmt: skip
    data = read(write(tool, tmp_path, [found]))
    seen = [np.zeros((40, 48), bool), np.zeros((40, 48), bool)]
    for annotation in data.images[0].annotations:
        assert annotation.segmentation is not None
        name = name_of(data, annotation.category_id)
        seen[CLASSES.names.index(name)] |= decoded(as_rle(annotation.segmentation, 48, 40))
    assert (seen[0] == TWO).all()
    assert (seen[1] == RING).all()
    assert len(data.images[0].annotations) == 3
    assert "score" not in "".join(path.read_text() for path in (tmp_path / "labelme").glob("*.json"))


@pytest.mark.parametrize("radius", [2, 4, 8, 16, 50, 200])
def test_polygons_have_few_points_and_keep_the_mask(radius: int) -> None:
    side = 2 * radius + 20
    middle, axes = (side // 2, side // 2), (radius, radius * 2 // 3)
    mask = cv2.ellipse(np.zeros((side, side), np.uint8), middle, axes, 30, 0, 360, 1, -1)
    (found,) = found_objects(result_of("", [[0, 0, 9, 9]], masks=[mask > 0], size=(side, side)))
    assert isinstance(found.segmentation, list)
    (polygon,) = found.segmentation
    back = decoded(as_rle([polygon], side, side))
    assert (back & (mask > 0)).sum() / (back | (mask > 0)).sum() >= 0.98
    assert len(polygon) // 2 <= 40


@pytest.mark.parametrize("tool", TOOLS)
def test_at_any_moment_the_files_are_whole(tool: str, tmp_path: Path) -> None:
    results = [result_of(picture(tmp_path / f"{name}.jpg"), [[1, 2, 30, 34]] * 3) for name in "abc"]
    with FORMATS[tool].writer(tmp_path / "out") as add:
        for number, (name, result) in enumerate(zip("abc", results, strict=True), 1):
            add(result, number=number, name=name, pixels=noise())
            # Read from the disk, as after a SIGKILL.
            assert [len(image.annotations) for image in read(tmp_path / "out" / tool).images] == [3] * number


@pytest.mark.parametrize("tool", TOOLS)
def test_a_run_that_is_stopped_keeps_what_it_has(tool: str, tmp_path: Path) -> None:
    def results() -> object:
        yield result_of(picture(tmp_path / "a.jpg"), [[1, 2, 3, 4]])
        yield result_of(picture(tmp_path / "b.jpg"), [[1, 2, 3, 4]])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tool, tmp_path / "out", results())  # type: ignore[arg-type]
    assert [image.file_name for image in read(tmp_path / "out" / tool).images] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("tool", TOOLS)
def test_names_that_the_files_could_not_have(tool: str, tmp_path: Path) -> None:
    classes = ClassTable((1, 2, 3), ("two\nlines", "bell\a", "two lines"))
    found = result_of(picture(tmp_path / "_hidden.v2.jpg"), [[1, 2, 3, 4]] * 3, [0, 1, 2], classes=classes)
    with FORMATS[tool].writer(tmp_path) as add:
        add(found, number=1, name="_hidden.v2", pixels=noise())
    data = read(tmp_path / tool)
    assert sorted(data.classes.names) == ["bell", "two lines", "two lines-2"]
    assert [image.file_name for image in data.images] == ["image_hidden_v2.jpg"]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_turned_picture_has_its_upright_size(tool: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noise(40, 48), "JPEG", exif=exif(6)))
    folder = write(tool, tmp_path, [result_of(path, [[1, 2, 38, 44]], size=(40, 48))])
    (image,) = read(folder).images
    assert (image.width, image.height) == (40, 48)
    assert image.path is not None
    assert image.path.samefile(path)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    found = result_of(picture(tmp_path / "a.jpg"))
    write("labelme", tmp_path, [found])
    with pytest.raises(UsageError, match=r"sources\.csv exists, nothing is overwritten"):
        write("labelme", tmp_path, [found])
    (tmp_path / "labelme" / "sources.csv").unlink()
    with pytest.raises(UsageError, match=r"a\.jpg exists, nothing is overwritten"):
        write("labelme", tmp_path, [found])
