import numpy as np
import pytest
import torch

from visionkit.data.collate import collate, pack
from visionkit.imaging.letterbox import Frame
from visionkit.types import Sample


def item(count, image_id, size=4):
    """An image of `count` objects whose pixels, labels and boxes tell which image it is."""
    image = np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3) + np.uint8(image_id)
    boxes = np.full((count, 4), image_id, np.float32)
    labels = np.full(count, image_id, np.int64)
    sample = Sample(image, boxes, labels, np.arange(count) % 2 == 1, image_id)
    return sample, Frame(image_id, 1, 1.0, 1.0, 0, 0)


def test_batch_by_hand():
    items = [item(2, 5), item(0, 6), item(3, 7)]
    batch = collate(items)

    assert batch.images.shape == (3, 3, 4, 4)
    assert batch.images.dtype == torch.uint8
    for image, (sample, _) in zip(batch.images, items, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), sample.image)
    assert [len(t.boxes) for t in batch.targets] == [2, 0, 3]
    assert batch.targets[2].labels.tolist() == [7, 7, 7]
    assert batch.targets[2].ignore.tolist() == [False, True, False]
    assert [f.width for f in batch.frames] == [5, 6, 7]
    assert batch.image_ids == (5, 6, 7)


def test_images_are_channels_last():
    assert collate([item(1, 1), item(1, 2)]).images.is_contiguous(memory_format=torch.channels_last)


def test_targets_have_their_types_also_without_objects():
    for target in collate([item(0, 1), item(0, 2)]).targets:
        assert (target.boxes.shape, target.boxes.dtype) == ((0, 4), torch.float32)
        assert (target.labels.shape, target.labels.dtype) == ((0,), torch.int64)
        assert (target.ignore.shape, target.ignore.dtype) == ((0,), torch.bool)


def test_packed_batch_holds_one_tensor():
    packed = pack([item(2, 1), item(1, 2)])
    tensors = [n for n in packed.__slots__ if isinstance(getattr(packed, n), torch.Tensor)]
    assert tensors == ["images"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="memory is pinned for a GPU, and there is none")
def test_pinned_images_stay_channels_last():
    images = pack([item(1, 1), item(1, 2)]).pin_memory().images
    assert images.is_pinned()
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_images_that_lie_in_the_batch_are_not_copied():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    items = [item(1, 5), item(0, 6)]
    for place, (sample, _) in zip(images, items, strict=True):
        place[:] = sample.image
    packed = pack(items, images)
    assert np.shares_memory(packed.images.numpy(), images)
    assert torch.equal(packed.images, pack(items).images)
    assert packed.images.is_contiguous(memory_format=torch.channels_last)
