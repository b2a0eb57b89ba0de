"""From image files to results, with a backend that always says the same."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.errors import UsageError, VisionkitError
from visionkit.predict.backend import Backend, RawClasses, RawDetections
from visionkit.predict.detect import LoadedImage, detect_loaded, read_images


@dataclass
class ConstantBackend:
    """Finds the same boxes in every image and remembers what it was asked."""

    boxes: list = field(default_factory=lambda: [[16, 24, 48, 40], [0, 16, 64, 48]])
    labels: list = field(default_factory=lambda: [1, 0])
    name: str = "constant"
    sha256: str = "ab" * 32
    classes: ClassTable = field(default_factory=lambda: ClassTable((3, 17), ("car", "cat")))
    image_size: int = 64
    asked: list = field(default_factory=list)

    def run(self, images, *, score, iou, max_det):
        self.asked.append((images.shape, images.dtype, score, iou, max_det))
        scores = np.linspace(0.9, 0.5, len(self.boxes), dtype=np.float32)
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        return [RawDetections(boxes, scores, np.array(self.labels, np.int64))] * len(images)


@pytest.fixture
def photos(tmp_path):
    """Three images of 128 x 64 pixels."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        cv2.imwrite(str(path), np.full((64, 128, 3), 200, np.uint8))
    return paths


def never(path, error):
    raise AssertionError(f"{path} was skipped: {error}")


def detect_files(backend, paths, on_skip, **options):
    """The results alone of image files."""
    pairs = detect_loaded(backend, read_images(paths, on_skip=on_skip), **options)
    return (result for _, result in pairs)


def test_boxes_come_back_in_original_pixels(photos):
    # 128 x 64 into 64 x 64: scale 0.5 to 64 x 32, 16 rows of grey above and below.
    # (16, 24, 48, 40) -> x: 16 / 0.5 = 32, 48 / 0.5 = 96; y: (24 - 16) / 0.5 = 16, (40 - 16) / 0.5 = 48.
    backend: Backend = ConstantBackend()
    result = next(detect_files(backend, photos, on_skip=never))
    np.testing.assert_allclose(result.boxes, [[32, 16, 96, 48], [0, 0, 128, 64]])
    assert (result.path, result.width, result.height) == (str(photos[0]), 128, 64)
    assert (result.model_name, result.model_sha256) == ("constant", "ab" * 32)
    assert result.to_json()["items"][0]["category_id"] == 17
    assert list(result.milliseconds) == ["read", "preprocess", "model", "postprocess"]
    assert all(ms >= 0 for ms in result.milliseconds.values())


def test_a_box_is_clipped_and_one_in_the_padding_goes(photos):
    # Rows 0 to 16 are padding: (0, 0, 64, 24) keeps its lower 8 rows, 16 original pixels; (0, 0, 64, 10) is no box.
    backend = ConstantBackend(boxes=[[0, 0, 64, 10], [0, 0, 64, 24]])
    result = next(detect_files(backend, photos, on_skip=never))
    np.testing.assert_allclose(result.boxes, [[0, 0, 128, 16]])
    assert (result.scores.tolist(), result.labels.tolist()) == ([0.5], [0])


def test_an_image_without_a_detection(photos):
    result = next(detect_files(ConstantBackend(boxes=[], labels=[]), photos, on_skip=never))
    assert (len(result), result.boxes.shape) == (0, (0, 4))


def test_batches_and_thresholds_reach_the_backend(photos):
    backend = ConstantBackend()
    results = list(detect_files(backend, photos, on_skip=never, score=0.3, iou=0.5, max_det=7, batch=2))
    assert [result.path for result in results] == [str(path) for path in photos]
    assert backend.asked == [((n, 64, 64, 3), np.uint8, 0.3, 0.5, 7) for n in (2, 1)]


def test_images_are_read_when_they_are_needed(photos):
    backend = ConstantBackend()
    seen = []
    paths = (seen.append(path) or path for path in photos)
    results = detect_files(backend, paths, on_skip=never)
    assert seen == []
    next(results)
    assert seen == photos[:1]


def test_a_broken_image_is_named_and_left_out(photos):
    photos[1].write_bytes(b"not a picture")
    photos.insert(2, photos[0].with_name("absent.png"))
    skipped = []
    images = read_images(photos, on_skip=lambda *what: skipped.append(what))
    pairs = list(detect_loaded(ConstantBackend(), images, batch=2))
    assert [result.path for _, result in pairs] == [str(photos[0]), str(photos[3])]
    assert [image.number for image, _ in pairs] == [1, 4]  # places among the sources, not among what could be read
    assert [path for path, _ in skipped] == photos[1:3]
    assert all(path.name in str(error) for path, error in skipped)


def test_only_the_chosen_classes(photos):
    for names, labels in ((["car"], [0]), (["cat", "car"], [1, 0])):
        result = next(detect_files(ConstantBackend(), photos, on_skip=never, classes=names))
        assert result.labels.tolist() == labels


def test_arrays_come_back_with_their_results():
    images = [LoadedImage("", np.zeros((64, 64, 3), np.uint8)), LoadedImage("two", np.zeros((32, 64, 3), np.uint8))]
    pairs = list(detect_loaded(ConstantBackend(), images, batch=8))
    assert [image for image, _ in pairs] == images
    assert [(result.path, result.height) for _, result in pairs] == [("", 64), ("two", 32)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": 1.5}, "score must be between 0 and 1, got 1.5; choose a value such as 0.5"),
        ({"score": float("nan")}, "score must be between 0 and 1, got nan; choose a value such as 0.5"),
        ({"iou": -0.1}, "iou must be between 0 and 1, got -0.1; choose a value such as 0.5"),
        ({"max_det": 0}, "max_det must be at least 1, got 0; choose a larger value"),
        ({"batch": 0}, "batch must be at least 1, got 0; choose a larger value"),
        (
            {"classes": ["dog", "car"]},
            "the model knows no class 'dog', classes are chosen by the model's names; choose from car, cat",
        ),
        ({"classes": []}, "no class is chosen, classes are chosen by the model's names; choose from car, cat"),
    ],
)
def test_wrong_options_are_refused_at_the_call(options, message):
    with pytest.raises(UsageError) as error:
        detect_files(ConstantBackend(), [], on_skip=never, **options)
    assert str(error.value) == message


MEMORY = """
import itertools, sys
from pathlib import Path
import cv2
import numpy as np
from visionkit.classes import ClassTable
from visionkit.predict.backend import RawDetections
from visionkit.predict.detect import detect_loaded, read_images
from visionkit.predict.drawing import draw
from visionkit.predict.output_formats import FORMATS
from visionkit.predict.writers import OutputNames, save_picture

class Three:
    name, sha256, classes, image_size = "three", "", ClassTable((1,), ("cat",)), 64
    boxes = np.tile(np.array([8, 8, 40, 40], np.float32), (3, 1))
    def run(self, images, **thresholds):
        return [RawDetections(self.boxes, np.ones(3, np.float32), np.zeros(3, np.int64))] * len(images)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

folder = Path(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
save_picture(folder / "tiny.png", pixels)
paths = itertools.repeat(folder / "tiny.png", 2_000)  # a generator: it holds no list of names either
images = read_images(paths, on_skip=lambda path, error: sys.exit(str(error)))
names = OutputNames(folder / "out")
writers = [chosen.writer(folder / "out") for chosen in FORMATS.values() if "detect" in chosen.tasks]
adders = [writer.__enter__() for writer in writers]
for image, result in detect_loaded(Three(), images, batch=4):
    picture = names.take(image.path)
    for add in adders:
        add(result, number=image.number, name=picture.stem, pixels=image.pixels)
    save_picture(picture, draw(image.pixels, result))
    if image.number == 200:
        before = resident()
print(image.number, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process its memory like that")
def test_memory_stays_flat_over_2000_images(tmp_path):
    """The 1,800 images after the first 200 may add 4 MB; their pixels alone, 64 x 48 x 3 bytes each, are 17 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images, growth = map(int, done.stdout.split())
    assert images == 2_000
    assert growth < 4_000_000
    assert len(list((tmp_path / "out").glob("*.png"))) == 2_000


@dataclass
class SnugBackend(ConstantBackend):
    frame_multiple: int | None = 32

    def run(self, images, *, score, iou, max_det):
        # What is found says which image it is: the left edge is its grey.
        super().run(images, score=score, iou=iou, max_det=max_det)
        label, one = np.zeros(1, np.int64), np.ones(1, np.float32)
        return [
            RawDetections(np.array([[image[..., 0].min() / 10, 0, 32, 32]], np.float32), one, label) for image in images
        ]


def test_images_of_one_shape_are_looked_at_together_and_come_back_in_their_order():
    # Into 64 px: 128 x 64 is 64 x 32, 64 x 128 is 32 x 64, so scale 0.5; a fresh frame has no padding here.
    shapes = [(64, 128), (128, 64), (64, 128)]
    images = [LoadedImage(str(i), np.full((*shape, 3), 10 * i, np.uint8)) for i, shape in enumerate(shapes)]
    backend = SnugBackend()
    results = [result for _, result in detect_loaded(backend, images, batch=3)]
    assert [asked[0] for asked in backend.asked] == [(2, 32, 64, 3), (1, 64, 32, 3)]
    assert [(r.path, r.boxes.tolist()) for r in results] == [(str(i), [[2 * i, 0, 64, 64]]) for i in range(3)]


def test_a_backend_that_takes_squares_after_all_gets_them():
    backend = SnugBackend(frame_multiple=None)
    list(detect_loaded(backend, [LoadedImage("", np.zeros((64, 128, 3), np.uint8))]))
    assert backend.asked[0][0] == (1, 64, 64, 3)


def test_a_classifier_whose_scores_are_no_numbers_is_named_and_no_result():
    class Broken(ConstantBackend):
        def run(self, images, *, score, iou, max_det):
            return [RawClasses(np.array([np.nan, np.nan], np.float32), np.array([0, 1]))] * len(images)

    image = LoadedImage("photo", np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(VisionkitError, match="the model says scores that are no numbers, its weights are broken; name"):
        list(detect_loaded(Broken(), [image]))
