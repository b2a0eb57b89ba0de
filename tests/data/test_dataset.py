import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.data.dataset import DetectionDataset
from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord


def test_boxes_become_corners_and_category_ids_labels(tiny_split):
    dataset = DetectionDataset(tiny_split)
    sample = dataset.read(2)

    assert len(dataset) == 10
    assert sample.image.shape == (40, 64, 3)
    assert sample.image.dtype == np.uint8
    assert sample.image_id == 102
    # 10 5 20 30 -> 10, 5, 10 + 20, 5 + 30; category ids 3 and 17 are labels 0 and 1.
    np.testing.assert_array_equal(sample.boxes, [[10, 5, 30, 35], [40, 10, 48, 26]])
    assert sample.labels.tolist() == [1, 0]
    assert sample.ignore.tolist() == [False, True]


def test_image_is_rgb(tiny_split):
    bgr = cv2.imread(str(tiny_split.images[0].path))
    np.testing.assert_array_equal(DetectionDataset(tiny_split).read(0).image, bgr[:, :, ::-1])


@pytest.mark.parametrize("index", [0, 4])
def test_arrays_have_their_types_also_without_objects(tiny_split, index):
    sample = DetectionDataset(tiny_split).read(index)
    count = 0 if index == 4 else 2
    assert (sample.boxes.shape, sample.boxes.dtype) == ((count, 4), np.float32)
    assert (sample.labels.shape, sample.labels.dtype) == ((count,), np.int64)
    assert (sample.ignore.shape, sample.ignore.dtype) == ((count,), np.bool_)


def test_split_without_any_object_is_readable(tiny_split):
    background = replace(tiny_split, images=tuple(replace(i, annotations=()) for i in tiny_split.images))
    assert DetectionDataset(background).read(9).boxes.shape == (0, 4)


def test_samples_do_not_share_memory_with_the_dataset(tiny_split):
    dataset = DetectionDataset(tiny_split)
    dataset.read(0).boxes[:] = -1
    assert dataset.read(0).boxes.min() == 5


def test_pickles_small():
    """6,000 images with 7 objects each: what a spawned worker is sent. Records would be 6,000 + 42,000 objects."""
    objects = tuple(Annotation(j, 1, (1, 2, 3, 4), 12.0) for j in range(7))
    images = tuple(
        ImageRecord(i, "", Path(f"/home/someone/data/images/{i:012d}.jpg"), 640, 480, objects) for i in range(6000)
    )
    dataset = DetectionDataset(AnnotatedImages(ClassTable((1,), ("thing",)), images, Path("train.json")))
    sent = pickle.dumps(dataset)
    # 42,000 objects of 16 + 8 + 1 bytes are 1.05 MB; 6,000 images of 8 + 8 + 8 bytes and a path of 44 are 0.41 MB.
    assert len(sent) < 1.5e6
    assert pickle.loads(sent).path(5999) == images[5999].path


def test_path_with_other_letters_survives(tiny_split):
    strange = replace(tiny_split, images=(replace(tiny_split.images[0], path=Path("Bäume 树/ø.jpg")),))
    assert DetectionDataset(strange).path(0) == Path("Bäume 树/ø.jpg")


def test_refuses_a_split_without_images(tiny_split):
    with pytest.raises(DataError, match=r"train\.json lists no images, at least one is needed; check"):
        DetectionDataset(replace(tiny_split, images=()))


def test_refuses_an_image_without_a_file(tiny_split):
    lost = replace(tiny_split, images=(replace(tiny_split.images[0], path=None),))
    with pytest.raises(DataError, match=r"image '0\.png' of .*train\.json has no file, .*; name the folder"):
        DetectionDataset(lost)


def test_refuses_an_image_of_another_size_than_annotated(tiny_split):
    resized = replace(tiny_split, images=(replace(tiny_split.images[0], width=600),))
    with pytest.raises(DataError, match=r"0\.png is 60x40, its annotations are written for 600x40; put back the image"):
        DetectionDataset(resized).read(0)


def test_cached_samples_are_those_of_the_files(tiny_split):
    cached, uncached = DetectionDataset(tiny_split, cache="ram"), DetectionDataset(tiny_split)
    assert (cached.cache_words, uncached.cache_words) == (
        "10 images cached in RAM, 0.00 GB",
        "images not cached",
    )
    for _ in range(2):
        for index in range(10):
            mine, other = cached.read(index), uncached.read(index)
            np.testing.assert_array_equal(mine.image, other.image)
            np.testing.assert_array_equal(mine.boxes, other.boxes)


def test_cached_image_is_read_once(tiny_split, tmp_path):
    path = tmp_path / "moved.png"
    path.write_bytes(tiny_split.images[0].path.read_bytes())
    dataset = DetectionDataset(replace(tiny_split, images=(replace(tiny_split.images[0], path=path),)), cache="ram")
    first = dataset.read(0).image
    path.unlink()
    np.testing.assert_array_equal(dataset.read(0).image, first)


def test_cached_pixels_are_write_protected(tiny_split):
    image = DetectionDataset(tiny_split, cache="ram").read(0).image
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 0


def test_cache_stays_behind_when_the_dataset_is_sent_away(tiny_split):
    dataset = DetectionDataset(tiny_split, cache="ram")
    dataset.read(3)
    sent = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(sent.read(3).image, dataset.read(3).image)


def test_image_of_another_size_is_refused_with_a_cache_too(tiny_split):
    resized = replace(tiny_split, images=(replace(tiny_split.images[0], width=600),))
    dataset = DetectionDataset(resized, cache="ram")
    for _ in range(2):
        with pytest.raises(DataError, match="its annotations are written for 600x40"):
            dataset.read(0)


def test_memory_that_is_refused_switches_auto_off_and_fails_ram(tiny_split, monkeypatch):
    def refuse(sizes):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("visionkit.data.dataset.ImageCache", refuse)
    dataset = DetectionDataset(tiny_split, cache="auto")
    assert dataset.cache_words == "images not cached: the system gives no memory for it (Cannot allocate memory)"
    assert dataset.read(0).image.shape == (40, 60, 3)
    with pytest.raises(UsageError, match=r"gives no memory for cache ram \(Cannot allocate memory\); use --cache off"):
        DetectionDataset(tiny_split, cache="ram")
