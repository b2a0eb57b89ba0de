from dataclasses import replace

import numpy as np
import pytest

from visionkit.data.augment import keyed_generator
from visionkit.data.mosaic import mosaic
from visionkit.types import Sample

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
DARK = (20, 20, 20)
WAYS = [(True, False), (False, True), (True, True), (False, False)]


def tile(colour, label, width=640, height=480, ignore=False):
    """A dark picture whose middle half, the object, has one colour."""
    image = np.full((height, width, 3), DARK, np.uint8)
    x1, y1, x2, y2 = width // 4, height // 4, width * 3 // 4, height * 3 // 4
    image[y1:y2, x1:x2] = colour
    box = np.array([[x1, y1, x2, y2]], np.float32)
    return Sample(image, box, np.array([label]), np.array([ignore]), image_id=40 + label)


def region(image, colour):
    """Box around the pixels nearer to `colour` than to the dark background; None where there are none."""
    near = np.abs(image.astype(int) - colour).max(axis=2) < 110
    rows, columns = np.nonzero(near)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


@pytest.mark.parametrize(("width", "height"), [(640, 480), (300, 500), (97, 61), (2500, 1700)])
def test_boxes_lie_on_their_objects(width, height):
    samples = [tile(colour, label, width, height) for label, colour in enumerate(COLOURS)]
    seen = 0
    for draw in range(25):
        out = mosaic(samples, 320, keyed_generator(draw))
        assert (out.image.shape, out.image.dtype) == ((320, 320, 3), np.uint8)
        for box, label in zip(out.boxes, out.labels, strict=True):
            np.testing.assert_allclose(box, region(out.image, COLOURS[label]), atol=1.6)
            seen += 1
    assert seen > 70  # of 100: an object of which less than a fifth shows has no box


def test_four_quadrants_hold_the_four_images_in_order():
    samples = [
        Sample(
            np.full((50, 50, 3), colour, np.uint8),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            np.zeros(0, bool),
            i,
        )
        for i, colour in enumerate(COLOURS)
    ]
    out = mosaic(samples, 100, keyed_generator(1), scale=(1.0, 1.0))
    # The centre lies in 30..70, and at scale 1 each image (100x100) fills its quadrant.
    corners = [out.image[0, 0], out.image[0, -1], out.image[-1, 0], out.image[-1, -1]]
    assert [tuple(int(v) for v in c) for c in corners] == COLOURS
    assert out.image_id == 0


def test_image_smaller_than_its_quadrant_lies_against_the_centre():
    samples = [tile(colour, label, 100, 100) for label, colour in enumerate(COLOURS)]
    out = mosaic(samples, 100, keyed_generator(1), scale=(0.2, 0.2))
    # 100 px at 0.2 are 20 px, each object the middle 10 of them: 5..15 px from the centre, which lies in 30..70.
    first, last = out.boxes[0], out.boxes[3]
    np.testing.assert_allclose(last[:2] - first[2:], [10, 10], atol=1e-4)
    np.testing.assert_allclose(last[2:] - last[:2], [10, 10], atol=1e-4)
    assert (out.image[:10, :10] == 114).all()


def test_labels_and_ignore_stay_with_their_boxes():
    samples = [tile(colour, label, ignore=label == 2) for label, colour in enumerate(COLOURS)]
    out = mosaic(samples, 320, keyed_generator(0), scale=(0.3, 0.3))
    assert out.labels.tolist() == [0, 1, 2, 3]
    assert out.ignore.tolist() == [False, False, True, False]
    assert (out.boxes.dtype, out.labels.dtype, out.ignore.dtype) == (np.float32, np.int64, np.bool_)


def test_ignored_regions_stay_while_they_show():
    """What is left of a crowd is as unlabelled as before; without its box it would be background."""
    seen = 0
    for draw in range(20):
        objects, crowds = (
            mosaic(
                [tile(colour, label, ignore=ignore) for label, colour in enumerate(COLOURS)],
                320,
                keyed_generator(draw),
                min_visible=0.9,
            )
            for ignore in (False, True)
        )
        np.testing.assert_array_equal(objects.image, crowds.image)
        for label, colour in enumerate(COLOURS):
            shown = region(crowds.image, colour)
            if shown is None or min(shown[2] - shown[0], shown[3] - shown[1]) < 4:
                continue  # blended with what is beside it
            (box,) = crowds.boxes[crowds.labels == label]
            np.testing.assert_allclose(box, shown, atol=1.6)
            seen += label not in objects.labels
    assert seen > 10  # of which an object would have been dropped


def test_slivers_are_dropped():
    samples = [tile(colour, label) for label, colour in enumerate(COLOURS)]
    for draw in range(30):
        all_shown = mosaic(samples, 320, keyed_generator(draw), min_visible=0.0)
        half_shown = mosaic(samples, 320, keyed_generator(draw), min_visible=0.5)
        assert set(half_shown.labels) <= set(all_shown.labels)
        np.testing.assert_array_equal(all_shown.image, half_shown.image)
        sides = all_shown.boxes[:, 2:] - all_shown.boxes[:, :2]
        assert (sides >= 2).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 10), (1, 300), (4000, 1)])
def test_any_shape_of_image(width, height):
    empty = Sample(
        np.zeros((height, width, 3), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, bool),
        1,
    )
    flat = Sample(empty.image, np.array([[0, 0, width, 0]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool), 2)
    for draw in range(10):
        out = mosaic([empty, flat, tile(COLOURS[0], 5), flat], 64, keyed_generator(draw))
        assert out.image.shape == (64, 64, 3)
        assert set(out.labels) <= {5}


def test_same_key_same_bytes_and_other_key_others():
    samples = [tile(colour, label) for label, colour in enumerate(COLOURS)]
    first, second, other = (mosaic(samples, 64, keyed_generator(k)).image.tobytes() for k in (3, 3, 4))
    assert first == second != other


def test_tiles_are_mirrored_one_by_one():
    ramp = np.zeros((50, 50, 3), np.uint8)
    ramp[:, :, 0] = np.arange(50) * 5  # brighter to the right
    ramp[:, :, 1] = np.arange(50)[:, None] * 5  # and, in green, downwards
    samples = [replace(tile(COLOURS[0], i, 50, 50), image=ramp) for i in range(4)]
    ways = [(False, False), (True, False), (False, True), (True, True)]
    out = mosaic(samples, 100, keyed_generator(2), scale=(0.5, 0.5), mirrored=ways)
    # At scale 0.5 each image is drawn at its own size, 50 px, and the centre is where all four meet.
    centre_x, centre_y = out.boxes[3, 0] - 13, out.boxes[3, 1] - 13  # mirrored, the object 12..37 begins at 50 - 37
    for i, (left_right, up_down) in enumerate(ways):
        x, y = int(centre_x) - (10 if i % 2 == 0 else -10), int(centre_y) - (10 if i < 2 else -10)
        steps = out.image[y + 1, x + 1].astype(int) - out.image[y, x]
        assert steps.tolist() == [-5 if left_right else 5, -5 if up_down else 5, 0]


def test_boxes_of_mirrored_tiles_lie_on_their_objects():
    samples = [tile(colour, label, 97, 61) for label, colour in enumerate(COLOURS)]
    for sample in samples:  # not in the middle, where mirroring would go unnoticed
        sample.image[:] = np.roll(sample.image, (9, 15), axis=(0, 1))
        sample.boxes[:] += [15, 9, 15, 9]
    seen = 0
    for draw in range(25):
        out = mosaic(samples, 160, keyed_generator(draw), mirrored=WAYS)
        for box, label in zip(out.boxes, out.labels, strict=True):
            np.testing.assert_allclose(box, region(out.image, COLOURS[label]), atol=1.6)
            seen += 1
    assert seen > 60


def test_drawn_on_a_given_canvas_it_is_the_same():
    samples = [tile(colour, label) for label, colour in enumerate(COLOURS)]
    canvases = np.full((3, 64, 64, 3), 7, np.uint8)
    given = mosaic(samples, 64, keyed_generator(3), out=canvases[1])
    fresh = mosaic(samples, 64, keyed_generator(3))
    np.testing.assert_array_equal(canvases[1], fresh.image)
    np.testing.assert_array_equal(given.boxes, fresh.boxes)
    assert (canvases[[0, 2]] == 7).all()
