from dataclasses import replace

import numpy as np
import pytest

from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.data.dataset import DetectionDataset
from visionkit.data.views import EvaluationView, TrainingView, multi_scale_bounds


def image_bytes(view, epoch, draw):
    return view[epoch, draw][0].image.tobytes()


def training_view(split, **settings):
    return TrainingView(DetectionDataset(split), AugmentSettings(**settings), image_size=64, seed=5)


def test_sample_is_a_function_of_epoch_and_draw(tiny_split):
    view = TrainingView(DetectionDataset(tiny_split), PRESETS["heavy"], 64, seed=5)
    first = image_bytes(view, 2, 3)
    assert first != image_bytes(view, 3, 3)
    assert first != image_bytes(view, 2, 4)
    assert first != image_bytes(replace(view, seed=6), 2, 3)
    assert first == image_bytes(view, 2, 3)


def test_second_draw_of_an_image_is_varied_anew(tiny_split):
    view = training_view(tiny_split, affine=1, translate=0.3)
    (once, _), (again, _) = view[0, 7], view[0, 17]  # 10 images: draw 17 is image 7 once more
    assert once.image_id == again.image_id == 107
    assert once.image.tobytes() != again.image.tobytes()


def test_mosaics_stop_for_the_last_epochs(tiny_split):
    view = training_view(tiny_split, mosaic=1, mosaic_epochs=1)  # only epoch 0 has mosaics
    plain = EvaluationView(view.dataset, 64)
    assert image_bytes(view, 0, 0) != plain[0][0].image.tobytes()
    for epoch in (1, 2, 3):
        assert image_bytes(view, epoch, 0) == plain[0][0].image.tobytes()


def test_mosaic_shows_other_images_too(tiny_split):
    view = training_view(tiny_split, mosaic=1, mosaic_scale=(0.3, 0.3))
    counts = [len(view[epoch, 0][0].boxes) for epoch in range(4)]
    assert max(counts) > 2  # each image has two objects at most


def test_crowd_keeps_its_ignore_flag(tiny_split):
    for settings in (AugmentSettings(), PRESETS["light"], PRESETS["heavy"]):
        view = TrainingView(DetectionDataset(tiny_split), settings, 64, seed=0)
        samples = [view[0, draw][0] for draw in range(10)]
        labels, ignore = (np.concatenate([getattr(s, name) for s in samples]) for name in ("labels", "ignore"))
        assert len(labels) > 5
        np.testing.assert_array_equal(ignore, labels == 0)  # the crowds are the objects of label 0


def test_evaluation_view_keeps_every_object_and_the_way_back(tiny_split):
    view = EvaluationView(DetectionDataset(tiny_split), 32)
    for index in range(len(view)):
        sample, frame = view[index]
        original = view.dataset.read(index)
        assert sample.image.shape == (32, 32, 3)
        np.testing.assert_allclose(frame.to_original(sample.boxes), original.boxes, atol=1e-3)


def test_mixup_adds_the_objects_of_a_second_sample(tiny_split):
    plain, mixed = training_view(tiny_split), training_view(tiny_split, mixup=1)
    counts = [(len(plain[0, draw][0].boxes), len(mixed[0, draw][0].boxes)) for draw in range(10)]
    assert all(more >= own for own, more in counts)
    assert sum(more for _, more in counts) > 1.5 * sum(own for own, _ in counts)


def test_mixup_stops_with_the_mosaics(tiny_split):
    view = training_view(tiny_split, mixup=1, mosaic_epochs=1)
    plain = EvaluationView(view.dataset, 64)
    assert image_bytes(view, 0, 0) != plain[0][0].image.tobytes()
    assert image_bytes(view, 1, 0) == plain[0][0].image.tobytes()


def test_copy_paste_adds_objects_of_a_second_sample(tiny_split):
    plain, pasted = training_view(tiny_split), training_view(tiny_split, copy_paste=1, min_visible=0)
    own, more = ([int(np.sum(view[0, draw][0].labels == 1)) for draw in range(10)] for view in (plain, pasted))
    # Each picture has one cat, which is label 1; picture 4 has none. Crowds are never pasted for their own sake.
    assert own == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert max(more) == 2


@pytest.mark.parametrize("name", ["none", "heavy", "mixed"])
def test_drawn_on_a_given_square_it_is_the_same(tiny_split, name):
    settings = PRESETS.get(name, replace(PRESETS["heavy"], mixup=0.5, copy_paste=0.5))
    view = TrainingView(DetectionDataset(tiny_split), settings, 64, seed=5)
    squares = np.full((3, 64, 64, 3), 7, np.uint8)
    for draw in range(10):
        given, given_frame = view.render((0, draw), 64, squares[1])
        fresh, fresh_frame = view[0, draw]
        assert np.shares_memory(given.image, squares)
        np.testing.assert_array_equal(squares[1], fresh.image)
        np.testing.assert_array_equal(given.boxes, fresh.boxes)
        assert given_frame == fresh_frame
    assert (squares[[0, 2]] == 7).all()


def test_cache_changes_no_byte(tiny_split):
    settings = replace(PRESETS["heavy"], mixup=0.3, copy_paste=0.3, degrees=10)
    cached, uncached = (
        TrainingView(DetectionDataset(tiny_split, cache=cache), settings, 64, seed=5) for cache in ("ram", "off")
    )
    for epoch in range(2):
        for draw in range(10):
            assert image_bytes(cached, epoch, draw) == image_bytes(uncached, epoch, draw)


def test_sizes_of_multi_scale_batches(tiny_split):
    view = replace(training_view(tiny_split, multi_scale=0.5), image_size=320)
    sizes = [view.batch_image_size(epoch, batch) for epoch in range(20) for batch in range(30)]
    # From 160 to 480 in steps of 32; each of 11 sizes is missed by 600 draws with probability (10/11)^600 = 1e-25.
    assert sorted(set(sizes)) == list(range(160, 481, 32))
    assert sizes == [view.batch_image_size(epoch, batch) for epoch in range(20) for batch in range(30)]
    assert sizes != [replace(view, seed=6).batch_image_size(epoch, batch) for epoch in range(20) for batch in range(30)]


def test_one_size_without_multi_scale_and_where_no_other_fits(tiny_split):
    assert training_view(tiny_split).batch_image_size(3, 4) == 64
    # [0.8, 1.2] * 64 = 51.2 to 76.8 holds one multiple of 32.
    assert training_view(tiny_split, multi_scale=0.2).batch_image_size(3, 4) == 64


@pytest.mark.parametrize(
    ("size", "spread", "bounds"),
    [
        (320, 0, (320, 320)),
        (320, 0.5, (160, 480)),
        (64, 0.2, (64, 64)),
        (32, 0.5, (32, 32)),  # 16 to 48
        (800, 0.44, (448, 1152)),  # in floating point 800 * 0.56 is more than 448
        (800, 0.16, (672, 928)),  # and 800 * 1.16 less than 928
    ],
)
def test_bounds_of_multi_scale_are_within_it(size, spread, bounds):
    assert multi_scale_bounds(size, spread) == bounds
