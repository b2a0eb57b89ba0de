from dataclasses import replace

import numpy as np

from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.data.dataset import DetectionDataset
from visionkit.data.views import EvaluationView, TrainingView


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
