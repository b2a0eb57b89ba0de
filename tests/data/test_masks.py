"""Masks move with their objects: through every augmentation, into the batch; and cost nothing where no one asks."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.data.augment import AugmentSettings
from visionkit.data.collate import MASK_CELLS, pack
from visionkit.data.dataset import DetectionDataset
from visionkit.data.framing import letterboxed
from visionkit.data.views import EvaluationView, TrainingView
from visionkit.errors import DataError
from visionkit.formats.coco import read_coco
from visionkit.formats.outlines import Outlines, segmentation_edges
from visionkit.types import Sample

SIDE = 128


def l_shape(x: float, y: float, size: float) -> list[float]:
    """A polygon that no mirroring and no turn leaves as it is."""
    corners = [(0, 0), (1, 0), (1, 0.5), (0.4, 0.5), (0.4, 1), (0, 1)]
    return [v for corner in corners for v in (x + size * corner[0], y + size * corner[1])]


@dataclass(frozen=True)
class Shapes:
    """Pictures of 160 x 120 px with two white shapes on black, which are all that is white."""

    masks: bool = True

    def __len__(self) -> int:
        return 5

    def read(self, index: int) -> Sample:
        shapes = [l_shape(10 + 8 * index, 20, 48), l_shape(90, 50 - 3 * index, 60)]
        image = np.zeros((120, 160, 3), np.uint8)
        for shape in shapes:
            # OpenCV counts from pixel centres.
            cv2.fillPoly(image, [np.round(np.array(shape).reshape(-1, 2) - 0.5).astype(np.int32)], (255, 255, 255))
        points = [np.array(shape, np.float32).reshape(-1, 2) for shape in shapes]
        return Sample(
            image,
            boxes=np.array([[*p.min(0), *p.max(0)] for p in points], np.float32),
            labels=np.array([0, 1]),
            ignore=np.zeros(2, np.bool_),
            image_id=index,
            outlines=Outlines.of([segmentation_edges([s], 160, 120) for s in shapes]) if self.masks else None,
        )


def white(sample: Sample, box: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What the picture itself shows in a box, on the cells of its mask."""
    x, y = (a + (np.arange(MASK_CELLS) + 0.5) * (b - a) / MASK_CELLS for a, b in ((box[0], box[2]), (box[1], box[3])))
    return sample.image[np.ix_(y.astype(int), x.astype(int))].min(axis=2) > 127  # the padding is grey


def agreement(sample: Sample) -> list[float]:
    """Of each object, the IoU of its mask and of what is white."""
    assert sample.outlines is not None
    masks = sample.outlines.box_masks(sample.boxes, MASK_CELLS).astype(np.bool_)
    shown = [white(sample, box) for box in sample.boxes]
    return [(m & s).sum() / (m | s).sum() for m, s in zip(masks, shown, strict=True)]


AUGMENTATIONS = {
    "none": AugmentSettings(),
    "mirror": AugmentSettings(flip_left_right=0.5, flip_up_down=0.5),
    "transpose": AugmentSettings(transpose=1.0),
    "crop": AugmentSettings(crop=1.0, flip_left_right=0.5),
    "shift and zoom": AugmentSettings(affine=1.0, translate=0.3, scale=0.4),
    "turn and shear": AugmentSettings(affine=1.0, degrees=25, shear=8, translate=0.1, scale=0.2, flip_left_right=0.5),
}


@pytest.mark.parametrize("settings", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_masks_move_with_what_the_picture_shows(settings: AugmentSettings) -> None:
    view = TrainingView(Shapes(), settings, SIDE, seed=0)
    found = [value for draw in range(10) for value in agreement(view[0, draw][0])]
    # Shapes of 20 to 80 px of which each border pixel may be said either way.
    assert len(found) >= 10
    assert min(found) > 0.8, found
    assert np.mean(found) > 0.93


def test_masks_in_a_mosaic_end_with_their_tile() -> None:
    view = TrainingView(Shapes(), AugmentSettings(mosaic=1.0, flip_left_right=0.5), SIDE, seed=0)
    samples = [view[0, draw][0] for draw in range(10)]
    assert max(len(sample.labels) for sample in samples) > 2
    found = np.concatenate([agreement(sample) for sample in samples])
    assert np.quantile(found, 0.1) > 0.75  # tiles are smaller, and so shapes
    assert found.mean() > 0.9


def test_mixup_has_the_masks_of_both() -> None:
    sample = TrainingView(Shapes(), AugmentSettings(mixup=1.0), SIDE, seed=0)[0, 0][0]
    assert sample.outlines is not None
    assert sample.outlines.objects == len(sample.labels) == 4
    assert (sample.outlines.box_masks(sample.boxes, MASK_CELLS).mean((1, 2)) > 0.6).all()  # an L fills 70 % of its box


def test_a_batch_has_masks_by_image() -> None:
    samples = [letterboxed(Shapes().read(i), SIDE) for i in range(2)]
    empty = replace(samples[0][0].with_objects(np.zeros(2, np.bool_)), image_id=9)
    batch = pickle.loads(pickle.dumps(pack([samples[0], (empty, samples[0][1]), samples[1]]))).unpack()
    assert [t.masks.shape for t in batch.targets] == [(2, 56, 56), (0, 56, 56), (2, 56, 56)]
    # An L of 1 less a piece of 0.6 by 0.5: 70 % of its box.
    assert batch.targets[2].masks.float().mean((1, 2)).tolist() == pytest.approx([0.7, 0.7], abs=0.02)


def test_without_outlines_a_batch_has_no_masks() -> None:
    batch = pack([EvaluationView(Shapes(masks=False), SIDE)[0]]).unpack()
    assert batch.targets[0].masks is None


def write_coco(folder: Path, segmentations: list[object]) -> Path:
    """One image of 8 x 8 px; its objects have these segmentations, the last one is a crowd."""
    cv2.imwrite(str(folder / "a.png"), np.zeros((8, 8, 3), np.uint8))
    rows = []
    for i, segmentation in enumerate(segmentations, start=1):
        row = {"id": i, "image_id": 1, "category_id": 7, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
        rows.append(row | ({"segmentation": segmentation} if segmentation else {}))
    rows[-1]["iscrowd"] = 1
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 8}
    content = {"images": [image], "annotations": rows, "categories": [{"id": 7, "name": "shape"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


CROWD = {"size": [8, 8], "counts": [0, 64]}


def test_the_dataset_reads_masks_of_objects_that_have_one(tmp_path: Path) -> None:
    rle = {"size": [8, 8], "counts": [9, 4, 4, 4, 43]}  # rows 1 to 4 of columns 1 and 2
    file = write_coco(tmp_path, [[[1, 1, 5, 1, 5, 5, 1, 5]], None, rle, CROWD])
    annotated = read_coco(file, tmp_path)
    sample = DetectionDataset(annotated, masks=True).read(0)
    assert sample.outlines is not None
    masks = sample.outlines.box_masks(sample.boxes, 4)
    assert masks.mean((1, 2)).tolist() == [1, 0, 0.5, 0]
    assert DetectionDataset(annotated).read(0).outlines is None


def test_a_dataset_without_masks_is_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    annotated = read_coco(write_coco(tmp_path, [None, CROWD]), tmp_path)
    with pytest.raises(DataError, match=r"a.json has no masks, learning them needs objects with a segmentation; add"):
        DetectionDataset(annotated, masks=True)
