"""Large images in tiles: which there are, and what is true in them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from masks import write_masks

from visionkit.data.dataset import DetectionDataset
from visionkit.data.framing import Window
from visionkit.data.semantic import SemanticDataset
from visionkit.data.tiles import TiledDataset, cut_out
from visionkit.formats.coco import read_coco
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.outlines import Outlines
from visionkit.formats.semantic_map import with_background
from visionkit.types import Sample

# Of a picture of 100 x 60 px, with 20 px in common.
WINDOWS = [(0, 0, 60, 60), (40, 0, 100, 60)]


@pytest.fixture
def images(tmp_path: Path) -> DetectionDataset:
    """A large picture between two small ones."""
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (width, boxes) in enumerate(
        [(50, [[5, 5, 10, 10]]), (100, [[10, 10, 20, 20], [50, 30, 20, 10], [5, 50, 95, 5]]), (50, [])]
    ):
        picture = np.zeros((60, width, 3), np.uint8)
        picture[..., 0] = np.arange(width)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1])
        rows.append({"id": number, "file_name": f"{number}.png", "width": width, "height": 60})
        for box in boxes:
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box})
    content = {"images": rows, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    return DetectionDataset(read_coco(tmp_path / "a.json", tmp_path))


def test_a_large_image_comes_in_tiles_and_whole(images: DetectionDataset) -> None:
    tiled = TiledDataset(images, [[], WINDOWS, []], min_visible=0.5)
    samples = [tiled.read(i) for i in range(len(tiled))]
    assert [sample.image.shape for sample in samples] == [(60, width, 3) for width in (50, 60, 60, 100, 50)]
    assert [sample.image_id for sample in samples] == [0, 1, 1, 1, 2]
    assert [tiled.path(i).name for i in range(5)] == ["0.png", "1.png", "1.png", "1.png", "2.png"]
    assert [tiled.whole(image) for image in range(3)] == [0, 3, 4]
    # Reds count columns.
    assert [(sample.image[0, 0, 0], sample.image[0, -1, 0]) for sample in samples[1:3]] == [(0, 59), (40, 99)]
    # Of 50..70 half is left of 60, and 40 off where the second tile begins; 5..100 shows 55 of 95 px, and 60.
    assert samples[1].boxes.tolist() == [[10, 10, 30, 30], [50, 30, 60, 40], [5, 50, 60, 55]]
    assert samples[2].boxes.tolist() == [[10, 30, 30, 40], [0, 50, 60, 55]]
    assert len(samples[3].boxes) == 3
    assert tiled.cache_words == f"{images.cache_words}; 2 tiles of 1 large image"
    assert (tiled.classes, tiled.is_cached) == (images.classes, False)


def test_an_object_that_hardly_shows_is_not_in_the_tile(images: DetectionDataset) -> None:
    tiled = TiledDataset(images, [[], WINDOWS, []], min_visible=0.6)
    assert tiled.read(1).boxes.tolist() == [[10, 10, 30, 30]]  # 10 of 20 px, and 55 of 95


def test_an_ignored_region_is_in_every_tile_that_shows_it(images: DetectionDataset) -> None:
    sample = images.read(1)
    crowds = replace(sample, ignore=np.ones(3, np.bool_))
    # 50..70 shows 10 of 20 columns in the first tile; nothing of 10..30 shows in the second.
    assert cut_out(sample, Window(*WINDOWS[0]), min_visible=0.6).boxes.tolist() == [[10, 10, 30, 30]]
    assert cut_out(crowds, Window(*WINDOWS[0]), min_visible=0.6).boxes.tolist() == [
        [10, 10, 30, 30], [50, 30, 60, 40], [5, 50, 60, 55],
    ]  # fmt: skip
    assert cut_out(crowds, Window(*WINDOWS[1]), min_visible=0.6).boxes.tolist() == [[10, 30, 30, 40], [0, 50, 60, 55]]


def test_all_that_is_true_is_cut(images: DetectionDataset) -> None:
    box = np.array([[10, 10, 30, 30]], np.float32)
    edges = np.array([[10, 10, 30, 10], [30, 10, 30, 30], [30, 30, 10, 30], [10, 30, 10, 10]], np.float32)
    sample = Sample(
        np.zeros((60, 100, 3), np.uint8),
        box,
        np.array([2]),
        np.array([True]),
        image_id=9,
        outlines=Outlines.of([edges]),
        proposals=np.array([[0, 0, 100, 60], [90, 0, 100, 10]], np.float32),
    )
    cut = cut_out(sample, Window(20, 5, 80, 60), min_visible=0.0)
    assert cut.boxes.tolist() == [[0, 5, 10, 25]]
    assert (cut.labels.tolist(), cut.ignore.tolist(), cut.image_id) == ([2], [True], 9)
    assert cut.outlines is not None
    assert cut.outlines.edges[0].tolist() == [-10, 5, 10, 5]
    assert cut.outlines.box_masks(cut.boxes, 4).all()  # the object fills its box, also what is left of it
    assert cut.proposals is not None
    assert cut.proposals.tolist() == [[0, 0, 60, 55]]


def test_a_segmenter_sees_a_large_image_in_tiles_alone(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "data", {"val": 2})
    maps = SemanticDataset(with_background(read_split(find_layout(data), "val")))
    tiled = TiledDataset(maps, [[(0, 0, 48, 48), (16, 0, 64, 48)], []], min_visible=0.2)
    whole = maps.read(0).semantic
    assert whole is not None
    assert [tiled.read(i).image.shape[1] for i in range(len(tiled))] == [48, 48, 64]
    for i, columns in enumerate((slice(0, 48), slice(16, 64))):
        np.testing.assert_array_equal(tiled.read(i).semantic, whole[:, columns])
