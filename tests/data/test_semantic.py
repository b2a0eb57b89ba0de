"""Maps move in step with their pictures, whatever augmentation does: each pixel tells its own place."""

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from masks import write_masks
from numpy.typing import NDArray

from visionkit.data.augment import AugmentSettings, keyed_generator
from visionkit.data.collate import collate
from visionkit.data.framing import Motion, Window, framed, letterboxed, random_transpose
from visionkit.data.loader import BatchPlan, evaluation_loader, training_loader
from visionkit.data.mosaic import mosaic
from visionkit.data.semantic import SMALLEST_CROP, SemanticDataset, balanced_window
from visionkit.data.views import EvaluationView, TrainingView
from visionkit.formats.layout import find_layout, read_split
from visionkit.types import Sample

CELL = 20
HEIGHT, WIDTH = 160, 240


def coordinate_sample() -> Sample:
    """A picture whose red and green tell x and y of each pixel; its map the number of the 20-pixel cell it lies in."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([x, y, np.full_like(x, 200)], -1).astype(np.uint8)
    labels = (y // CELL * (WIDTH // CELL) + x // CELL).astype(np.uint8)
    nothing = np.zeros(0, np.int64)
    return Sample(image, np.zeros((0, 4), np.float32), nothing, nothing.astype(bool), 1, semantic=labels)


def assert_in_step(sample: Sample, slack: float, least: float = 0.2) -> None:
    """Where a pixel is of the picture, its colour lies in the cell that the map names, within `slack` source pixels;
    where it is padding, the map is 255."""
    assert sample.semantic is not None
    assert sample.semantic.shape == sample.image.shape[:2]
    judged = sample.semantic != 255
    assert least <= judged.mean() <= 1
    row, column = np.divmod(sample.semantic[judged].astype(int), WIDTH // CELL)
    red, green, blue = sample.image[judged].astype(float).T
    inside = blue > 195  # else the warp blended in some padding
    assert inside.mean() > 0.95
    for colour, cell in ((red, column), (green, row)):
        centre = (cell + 0.5) * CELL - 0.5
        assert np.abs(colour - centre)[inside].max() <= CELL / 2 + slack
    assert np.abs(sample.image[~judged].astype(int) - 114)[..., 2].max(initial=0) <= 86  # grey, or blended with it


@pytest.mark.parametrize("size", [96, 160, 320])
def test_letterboxed(size: int) -> None:
    sample, frame = letterboxed(coordinate_sample(), size)
    assert_in_step(sample, slack=2 * max(1, 1 / frame.scale_x), least=0.6)
    assert (sample.semantic[0] == 255).all()


@pytest.mark.parametrize("mirrored", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("window", [None, Window(30, 20, 190, 140), Window(3, 1, 64, 158)])
@pytest.mark.parametrize(
    "motion",
    [
        None,
        Motion(zoom=0.7, shift_x=0.1, shift_y=-0.2),
        Motion(zoom=0.4),
        Motion(zoom=1.8, shift_x=0.3),
        Motion(angle=0.4, shear_x=0.1, zoom=0.8),
        Motion(angle=-1.2, shear_y=0.2, zoom=1.3, shift_y=0.1),
    ],
)
def test_framed(mirrored: tuple[bool, bool], window: Window | None, motion: Motion | None) -> None:
    assert_in_step(framed(coordinate_sample(), 160, mirrored, window, motion), slack=4.0, least=0.05)


def test_mosaic() -> None:
    samples = [coordinate_sample()] * 4
    for seed in range(10):
        both = [(bool(seed & 1), bool(seed & 2))] * 4
        assert_in_step(mosaic(samples, 128, keyed_generator(seed), mirrored=both), slack=5.0)


def test_transposed() -> None:
    sample = random_transpose(coordinate_sample(), AugmentSettings(transpose=1), keyed_generator(0))
    assert sample.semantic is not None
    assert (sample.semantic == coordinate_sample().semantic.T).all()  # type: ignore[union-attr]
    assert sample.image.shape[:2] == sample.semantic.shape


class Coordinates:
    """A dataset of one coordinate picture."""

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Sample:
        return coordinate_sample()


def test_everything_together_stays_in_step_and_is_a_function_of_its_key() -> None:
    # No colours: they are what tells the place.
    settings = AugmentSettings(
        mosaic=0.3, flip_left_right=0.5, flip_up_down=0.5, crop=0.6, affine=0.6, degrees=30, translate=0.1, scale=0.4,
        shear=10,
    )  # fmt: skip
    view = TrainingView(Coordinates(), settings, 128, seed=3)
    for draw in range(60):
        sample, _ = view[1, draw]
        assert_in_step(sample, slack=6.0, least=0.01)
        again, _ = view[1, draw]
        assert (again.semantic == sample.semantic).all()
    maps = {view[1, draw][0].semantic.tobytes() for draw in range(20)}  # type: ignore[union-attr]
    assert len(maps) > 15  # some draws change nothing


def test_colours_leave_the_map_alone() -> None:
    settings = AugmentSettings(hue=0.1, brightness=0.3, blur=1, noise=1)
    sample, _ = TrainingView(Coordinates(), settings, 160, seed=0)[0, 0]
    still, _ = EvaluationView(Coordinates(), 160)[0]
    assert (sample.semantic == still.semantic).all()
    assert (sample.image != still.image).any()


# balanced crops -------------------------------------------------------------------------------------------------------


def rare_map() -> NDArray[np.uint8]:
    labels = np.zeros((100, 140), np.uint8)
    labels[80, 130] = 1
    labels[:3] = 255
    return labels


def test_a_crop_shows_each_class_of_the_image_as_often_as_chosen_or_more() -> None:
    labels = rare_map()
    seen = 0
    for seed in range(400):
        left, top, right, bottom = balanced_window(labels, keyed_generator(seed))
        assert 0 <= left < right <= 140
        assert 0 <= top < bottom <= 100
        assert right - left >= SMALLEST_CROP * 100
        assert bottom - top >= SMALLEST_CROP * 100
        seen += bool((labels[top:bottom, left:right] == 1).any())
    # Half of all draws choose the lone pixel, and others show it by chance. At random, the mean window of 95x80 of
    # 140x100 px would show a pixel near a corner in far less than half of the draws.
    assert seen > 220


def test_a_map_without_a_judged_pixel_has_crops_too() -> None:
    left, top, right, bottom = balanced_window(np.full((10, 12), 255, np.uint8), keyed_generator(0))
    assert 0 <= left < right <= 12
    assert 0 <= top < bottom <= 10


def test_crops_of_one_pixel() -> None:
    assert balanced_window(np.zeros((1, 1), np.uint8), keyed_generator(0)) == (0, 0, 1, 1)


# dataset and batches --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SemanticDataset:
    root = write_masks(tmp_path_factory.mktemp("masks") / "data", {"train": 5})
    return SemanticDataset(read_split(find_layout(root), "train"))


def test_the_dataset_reads_pictures_and_maps_and_no_boxes(dataset: SemanticDataset) -> None:
    sample = dataset.read(2)
    stored = cv2.imread(str(Path(str(dataset.path(2)).replace("images", "masks"))), cv2.IMREAD_UNCHANGED)
    assert (sample.semantic == stored).all()
    assert sample.boxes.shape == (0, 4)
    assert len(dataset) == 5
    assert dataset.classes.names[1] == "red block"
    assert dataset.cache_words


def test_cached_maps_are_read_once_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_masks(tmp_path / "data", {"train": 3})
    split = read_split(find_layout(root), "train")
    fresh, cached = SemanticDataset(split), SemanticDataset(split, "ram")
    assert cached.cache_words.startswith("3 images and their maps cached in RAM, 0.00 GB")
    maps = [fresh.read(index).semantic for index in range(3)]
    for _ in range(2):
        for index, expected in enumerate(maps):
            labels = cached.read(index).semantic
            assert labels is not None
            assert (labels == expected).all()
            assert not labels.flags.writeable
        # From here on the masks are not looked at any more.
        monkeypatch.setattr("visionkit.data.semantic.semantic_map", None)
    # Workers that are spawned get no room of their own.
    assert pickle.loads(pickle.dumps(cached))._maps is None


def test_batches_carry_the_maps(dataset: SemanticDataset) -> None:
    view = TrainingView(dataset, AugmentSettings(crop=1, flip_left_right=0.5), 64, seed=0)
    plan = BatchPlan(5, 2, 1, 0)
    for batch, keys in zip(training_loader(view, plan, workers=0), plan.batches(0), strict=True):
        for i, key in enumerate(keys):
            sample, _ = view[key]
            target = batch.targets[i].to(torch.device("cpu"))
            assert target.semantic is not None
            assert target.semantic.tolist() == sample.semantic.tolist()  # type: ignore[union-attr]
    (last,) = list(evaluation_loader(EvaluationView(dataset, 64), batch=8, workers=0))
    assert all(target.semantic is not None for target in last.targets)


def test_without_maps_batches_have_none(dataset: SemanticDataset) -> None:
    sample, frame = EvaluationView(dataset, 64)[0]
    batch = collate([(replace(sample, semantic=None), frame)])
    assert batch.targets[0].semantic is None
