"""The torch backend: NumPy in, NumPy out, and nothing else than the model says."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.classes import ClassTable
from visionkit.engine.torch_backend import TorchBackend
from visionkit.types import Detections

CLASSES = ClassTable((3, 17), ("car", "cat"))


class Corner(nn.Module):
    """Finds one box an image, made of the colours of its first two pixels; nothing where these are black."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm2d(3)
        self.asked: list[dict[str, Any]] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert not self.batch_norm.training
        assert torch.is_inference_mode_enabled()
        return images.float()

    def predict(self, outputs: Tensor, **options: Any) -> list[Detections]:
        self.asked.append(options)
        found = []
        for image in outputs:
            red, green, blue = image[:, 0, 0].tolist()
            boxes = torch.tensor([[red, green, blue, image[0, 0, 1]]] if image[:, 0, 0].any() else []).reshape(-1, 4)
            found.append(Detections(boxes, torch.full((len(boxes),), 0.5), torch.ones(len(boxes), dtype=torch.int64)))
        return found


def backend_of(model: nn.Module) -> TorchBackend:
    return TorchBackend(
        model.train(), CLASSES, image_size=32, device=torch.device("cpu"), amp=False, name="corner", sha256="0" * 64
    )


def test_channels_and_pixels_reach_the_model_in_their_order_and_its_answer_comes_back() -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, 0, 0] = (10, 20, 30)  # red, green, blue of the first pixel
    images[0, 0, 1, 0] = 40  # red of the one right of it
    model = Corner()
    first, second = backend_of(model).run(images, score=0.25, iou=0.7, max_det=9)
    np.testing.assert_array_equal(first.boxes, [[10, 20, 30, 40]])
    np.testing.assert_array_equal(first.scores, [0.5])
    np.testing.assert_array_equal(first.labels, [1])
    assert second.boxes.shape == (0, 4)
    assert model.asked == [{"score": 0.25, "iou": 0.7, "max_det": 9}]


def test_it_gives_arrays_of_the_types_that_prediction_expects() -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0] = 9
    for raw in backend_of(Corner()).run(images, score=0.25, iou=0.7, max_det=9):
        count = len(raw.scores)
        assert (raw.boxes.dtype, raw.boxes.shape) == (np.float32, (count, 4))
        assert (raw.scores.dtype, raw.scores.shape) == (np.float32, (count,))
        assert (raw.labels.dtype, raw.labels.shape) == (np.int64, (count,))


def test_the_images_are_left_alone() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    before = images.copy()
    backend_of(Corner()).run(images, score=0.25, iou=0.7, max_det=9)
    np.testing.assert_array_equal(images, before)
