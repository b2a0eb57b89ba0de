"""Objects cut out of their images, and how a classifier's pictures are varied."""

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.data.augment import PRESETS, AugmentSettings, keyed_generator
from visionkit.data.collate import collate
from visionkit.data.crops import CropDataset, crop_windows, labelled
from visionkit.data.dataset import DetectionDataset
from visionkit.data.framing import PART, random_part, random_resized_crop
from visionkit.data.views import EvaluationView, TrainingView
from visionkit.errors import DataError
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


# Windows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "margin", "window"),
    [
        ((10, 10, 30, 20), 0.0, [10, 10, 30, 20]),
        # A margin of a tenth of the longer side, 20 px, is 2 px all round.
        ((10, 10, 30, 20), 0.1, [8, 8, 32, 22]),
        # Pixels that are touched are shown.
        ((10.6, 10.2, 30.4, 20.0), 0.0, [10, 10, 31, 20]),
        # The image, 100 x 50, ends it.
        ((-5, 0, 99, 50), 0.5, [0, 0, 100, 50]),
        # A box thinner than a pixel, and one on the edge.
        ((7.2, 7.2, 7.3, 7.3), 0.0, [7, 7, 8, 8]),
        ((100, 50, 100, 50), 0.0, [99, 49, 100, 50]),
    ],
)
def test_the_window_of_a_box(box: tuple[float, ...], margin: float, window: list[int]) -> None:
    assert crop_windows(boxes(box), np.array([[100, 50]], np.int32), margin).tolist() == [window]


def test_no_box_has_no_window() -> None:
    assert crop_windows(boxes(), np.zeros((0, 2), np.int32), 0.1).shape == (0, 4)


# The dataset ----------------------------------------------------------------------------------------------------------


def test_each_object_is_a_picture_of_its_class(tiny_split: AnnotatedImages) -> None:
    crops, images = CropDataset(tiny_split), DetectionDataset(tiny_split)
    # Ten images with a car each (10 5 20 30), but the fifth; crowds are left out.
    assert len(crops) == 9
    assert crops.labels.tolist() == [1] * 9
    sample = crops.read(4)
    assert sample.image_id == 105
    assert crops.path(4) == images.path(5)
    np.testing.assert_array_equal(sample.image, images.read(5).image[5:35, 10:30])
    assert sample.boxes.tolist() == [[0, 0, 20, 30]]
    assert (sample.labels.tolist(), sample.ignore.tolist()) == ([1], [False])


def test_the_cache_changes_nothing(tiny_split: AnnotatedImages) -> None:
    cached, plain = CropDataset(tiny_split, "ram", margin=0.2), CropDataset(tiny_split, margin=0.2)
    assert "cached in RAM" in cached.cache_words
    for index in (3, 0, 8, 3):
        np.testing.assert_array_equal(cached.read(index).image, plain.read(index).image)


def test_whole_images_keep_their_halves(tiny_split: AnnotatedImages) -> None:
    record = tiny_split.images[0]
    whole = Annotation(1, 17, (0, 0, record.width, record.height), 1.0)
    part = Annotation(2, 17, (0, 0, record.width, record.height - 1), 1.0)
    split = replace(tiny_split, images=(replace(record, annotations=(whole, part)),), whole_images=True)
    crops = CropDataset(split, "ram")
    assert [len(crops.read(index).halves) for index in (0, 1)] == [2, 0]
    assert crops.read(0).image.shape == (record.height, record.width, 3)


def test_an_image_is_decoded_once_for_its_objects(tiny_split: AnnotatedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tiny_split.images[0]
    cars = tuple(Annotation(i, 17, (i, 0, 20, 30), 600.0) for i in range(3))
    crops = CropDataset(replace(tiny_split, images=(replace(record, annotations=cars), *tiny_split.images[1:])))
    read: list[int] = []
    of_images = crops.images.read
    monkeypatch.setattr(crops.images, "read", lambda index: (read.append(index), of_images(index))[1])
    for index in range(4):
        crops.read(index)
    assert read == [0, 1]


def test_pickled_it_leaves_pictures_behind(tiny_split: AnnotatedImages) -> None:
    crops = CropDataset(tiny_split)
    before = len(pickle.dumps(crops))
    expected = crops.read(2).image
    assert len(pickle.dumps(crops)) == before
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(crops)).read(2).image, expected)


def test_nothing_to_cut_out(tiny_split: AnnotatedImages) -> None:
    with pytest.raises(DataError) as error:
        CropDataset(replace(tiny_split, images=tiny_split.images[4:5]))
    assert str(error.value) == (
        f"{tiny_split.source} has no objects to cut out, at least one is needed; add annotations"
    )


# Variation ------------------------------------------------------------------------------------------------------------


def test_a_random_part_has_a_third_of_the_area_or_more() -> None:
    sample = labelled(np.zeros((60, 100, 3), np.uint8), 0, 1)
    windows = [random_part(sample, keyed_generator(0, draw)) for draw in range(500)]
    areas, ratios = [], []
    for left, top, right, bottom in windows:
        assert 0 <= left < right <= 100
        assert 0 <= top < bottom <= 60
        areas.append((right - left) * (bottom - top) / 6000)
        ratios.append((right - left) / (bottom - top) / (100 / 60))
    assert PART - 0.02 < min(areas) < 0.4  # sides are rounded to pixels
    assert max(areas) > 0.9
    assert 3 / 4 - 0.05 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 4 / 3 + 0.05


def test_a_picture_of_one_pixel() -> None:
    assert random_part(labelled(np.zeros((1, 1, 3), np.uint8), 0, 1), keyed_generator(0)) == (0, 0, 1, 1)


def varied(settings: AugmentSettings, draw: int = 0, size: int = 32):
    picture = cv2.resize(keyed_generator(9).integers(0, 256, (4, 4, 3), dtype=np.uint8), (40, 30))
    return random_resized_crop(labelled(picture, 2, 7), size, settings, keyed_generator(1, draw))


def test_without_settings_it_is_the_letterboxed_picture() -> None:
    sample, frame = varied(AugmentSettings())
    assert sample.boxes.tolist() == [[0, 4, 32, 28]]  # 40 x 30 -> 32 x 24, centred
    assert frame.scale_x == 32 / 40


@pytest.mark.parametrize(
    "settings",
    [
        AugmentSettings(crop=1),
        AugmentSettings(affine=1, translate=0.5, scale=0.9),
        AugmentSettings(affine=1, degrees=180, shear=45),
        AugmentSettings(flip_left_right=1, flip_up_down=1),
        PRESETS["heavy"],
    ],
    ids=["crop", "far", "turned", "flipped", "heavy"],
)
def test_the_label_stays_whatever_is_cut(settings: AugmentSettings) -> None:
    seen = set()
    for draw in range(20):
        sample, _ = varied(settings, draw)
        assert sample.image.shape == (32, 32, 3)
        assert (sample.labels.tolist(), sample.ignore.tolist(), len(sample.boxes)) == ([2], [False], 1)
        assert sample.image.tobytes() == varied(settings, draw)[0].image.tobytes()  # of the draw alone
        seen.add(sample.image.tobytes())
    assert len(seen) > 10 or settings.flip_up_down == 1


def test_a_flip_is_the_mirror_image() -> None:
    plain, flipped = varied(AugmentSettings())[0].image, varied(AugmentSettings(flip_left_right=1))[0].image
    assert np.abs(plain[:, ::-1].astype(int) - flipped).mean() < 3


def test_views_give_batches_of_one_label_each(tiny_split: AnnotatedImages) -> None:
    crops = CropDataset(tiny_split, margin=0.1)
    training = TrainingView(crops, PRESETS["light"], 32, seed=3, framing=random_resized_crop)
    evaluation = EvaluationView(crops, 32)
    assert len(evaluation) == 9
    for batch in (collate([training[1, draw] for draw in range(4)]), collate([evaluation[i] for i in range(4)])):
        assert batch.images.shape == (4, 3, 32, 32)
        assert [target.labels.tolist() for target in batch.targets] == [[1]] * 4
    assert training[1, 2][0].image.tobytes() == training[1, 2][0].image.tobytes()
    assert training[1, 2][0].image.tobytes() != training[2, 2][0].image.tobytes()


def test_a_dataset_of_other_shapes(tmp_path: Path) -> None:
    """A picture of one pixel's height is a picture too."""
    path = tmp_path / "thin.png"
    cv2.imwrite(str(path), np.zeros((1, 50, 3), np.uint8))
    record = ImageRecord(1, path.name, path, 50, 1, (Annotation(1, 1, (10, 0, 5, 1), 5.0),))
    crops = CropDataset(AnnotatedImages(ClassTable((1,), ("line",)), (record,), tmp_path), margin=0.1)
    assert crops.read(0).image.shape == (1, 7, 3)  # half a pixel of margin on each side
    assert EvaluationView(crops, 32)[0][0].image.shape == (32, 32, 3)
