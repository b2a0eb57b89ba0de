"""The torch backend: NumPy in, NumPy out, and nothing else than the model says."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.build import build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.torch_backend import TorchBackend
from visionkit.predict.backend import RawClasses
from visionkit.types import ClassScores, Detections

CLASSES = ClassTable((3, 17), ("car", "cat"))


class Corner(nn.Module):
    """Finds one box an image, made of the colours of its first two pixels; nothing where these are black."""

    task = "detect"
    snug = False

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


def test_a_classifier_s_answers_are_classes() -> None:
    class Sure(nn.Module):
        """Says cat, then car, of every image."""

        task = "classify"
        snug = False

        def forward(self, images: Tensor) -> Tensor:
            return images

        def predict(self, outputs: Tensor, **options: Any) -> list[ClassScores]:
            return [ClassScores(torch.tensor([0.75, 0.25]), torch.tensor([1, 0]))] * len(outputs)

    backend = TorchBackend(Sure(), CLASSES, image_size=8, device=torch.device("cpu"), amp=False, name="sure", sha256="")
    found = backend.run(np.zeros((2, 8, 8, 3), np.uint8), score=0.1, iou=0.5, max_det=5)
    assert len(found) == 2
    assert isinstance(found[0], RawClasses)
    assert (found[0].scores.tolist(), found[0].labels.tolist()) == ([0.75, 0.25], [1, 0])


def test_an_overlap_that_no_one_gives_is_the_model_s_own() -> None:
    asked: list[dict[str, Any]] = []

    class Asked(nn.Module):
        task = "detect"
        snug = False

        def forward(self, images: Tensor) -> Tensor:
            return images

        def predict(self, outputs: Tensor, **options: Any) -> list[Detections]:
            asked.append(options)
            return []

    backend = TorchBackend(Asked(), CLASSES, image_size=8, device=torch.device("cpu"), amp=False, name="", sha256="")
    for iou in (None, 0.3):
        backend.run(np.zeros((1, 8, 8, 3), np.uint8), score=0.1, iou=iou, max_det=5)
    assert asked == [{"score": 0.1, "max_det": 5}, {"score": 0.1, "max_det": 5, "iou": 0.3}]


def test_what_runs_is_a_folded_copy_and_exact_is_the_model_itself() -> None:
    recipe = Recipe(imgsz=64)
    model = build_model(recipe, CLASSES).eval()
    with torch.no_grad():  # an untrained head is nowhere sure of anything
        for predictor in model.head.class_predictors:
            predictor.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = {}
    for exact in (False, True):
        backend = TorchBackend(
            model, CLASSES, image_size=64, device=torch.device("cpu"), amp=False, name="", sha256="", exact=exact
        )
        assert (backend.model is model) is exact
        assert any(isinstance(module, nn.BatchNorm2d) for module in backend.model.modules()) is exact
        found[exact] = backend.run(images, score=0.01, iou=0.7, max_det=50)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for quick, slow in zip(found[False], found[True], strict=True):
        assert len(quick.scores) == len(slow.scores) > 10
        np.testing.assert_allclose(quick.scores, slow.scores, atol=1e-5)
        np.testing.assert_allclose(quick.boxes, slow.boxes, atol=1e-2)
