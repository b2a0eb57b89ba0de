"""One pass over images: statistics, crops of true boxes, places beside them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionkit.advice.look import look, places_beside
from visionkit.imaging.letterbox import Frame
from visionkit.ops.boxes import box_iou
from visionkit.types import Batch, Target, Unit

SIDE = 64


class Net(nn.Module):
    """Two maps of mean colours, of strides 8 and 16, after a norm that remembers black."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.Identity()
        self.backbone = Backbone()
        self.units = (Unit("backbone.norm", ("backbone.norm",)),)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.norm(images.float())
        return nn.functional.avg_pool2d(x, 8), nn.functional.avg_pool2d(x, 16)


def batches(count: int, classes: int = 2, objects: int = 1) -> Iterator[Batch]:
    """Images of two: black, with a square of 24 px whose colour is its class, in a corner that changes."""
    for first in range(0, count, 2):
        images = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
        targets = []
        for place in range(2):
            number = first + place
            label = number % classes
            x, y = 8 + 24 * (number // 2 % 2), 8 + 24 * (number // 4 % 2)
            images[place, label, y : y + 24, x : x + 24] = 255
            boxes = torch.tensor([[x, y, x + 24.0, y + 24]] * objects)
            targets.append(Target(boxes, torch.full((objects,), label), torch.zeros(objects, dtype=torch.bool)))
        yield Batch(images, tuple(targets), (Frame(SIDE, SIDE, 1, 1, 0, 0),) * 2, (first, first + 1))


def looked(model: nn.Module, given: Iterator[Batch], **options: object) -> object:
    settings = {"strides": (8, 16), "classes": 2, "background": False, "device": torch.device("cpu"), **options}
    return look(model, model.units, given, **settings)  # type: ignore[arg-type]


def test_classes_of_their_own_colour_are_told_apart_and_images_that_are_not_black_are_far() -> None:
    done: list[int] = []
    found = look(
        Net(), Net().units, batches(8), strides=(8, 16), classes=2, background=False, device=torch.device("cpu"),
        on_images=done.append,
    )  # fmt: skip
    assert (found.images, done) == (8, [2, 4, 6, 8])
    assert found.separability is not None
    assert (found.separability.knn, found.separability.crops) == (1, 8)
    assert found.similarity is not None
    # Before the norm red and green are 255 in 24² of 64² pixels of half of the images: mean 17.9, deviation 65.2; the
    # memory is 0 and 1. Blue is always 0, at a distance of 1, so the median is √(17.9² + 64.2²).
    assert found.similarity.distance == pytest.approx(66.7, abs=0.1)


def test_places_beside_the_objects_are_one_more_class() -> None:
    given = {"strides": (8, 16), "classes": 2, "device": torch.device("cpu")}
    found = look(Net(), Net().units, batches(8), background=True, **given)  # type: ignore[arg-type]
    assert found.separability is not None
    assert found.separability.background
    assert found.separability.crops == 16
    assert found.separability.knn > 0.75  # places may touch an object a little


def test_with_one_class_objects_are_told_from_what_lies_beside() -> None:
    given = {"strides": (8, 16), "classes": 1, "device": torch.device("cpu")}
    alone = look(Net(), Net().units, batches(8, classes=1), background=False, **given)  # type: ignore[arg-type]
    assert alone.separability is None
    beside = look(Net(), Net().units, batches(8, classes=1), background=True, **given)  # type: ignore[arg-type]
    assert beside.separability is not None
    assert beside.separability.knn > 0.75


def test_images_without_objects_still_have_statistics() -> None:
    empty = Batch(
        torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8),
        (Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)),),
        (Frame(SIDE, SIDE, 1, 1, 0, 0),),
        (1,),
    )
    found = look(Net(), Net().units, [empty], strides=(8, 16), classes=2, background=True, device=torch.device("cpu"))
    assert found.separability is None
    assert found.similarity is not None


def test_ignored_and_tiny_objects_are_no_crops() -> None:
    (batch,) = batches(2)
    boxes = torch.tensor([[8.0, 8, 32, 32], [40, 40, 60, 60], [1, 1, 3, 3]])
    target = Target(boxes, torch.tensor([0, 0, 0]), torch.tensor([False, True, False]))
    found = look(
        Net(), Net().units, [Batch(batch.images, (target, target), batch.frames, batch.image_ids)], strides=(8, 16),
        classes=1, background=True, device=torch.device("cpu"),
    )  # fmt: skip
    assert found.separability is not None
    # Of each image one object and one place beside.
    assert found.separability.crops == 4


def test_nothing_of_the_model_changes() -> None:
    model = Net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    looked(model, batches(4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.backbone.norm.training


@pytest.mark.parametrize("seed", range(3))
def test_places_beside_touch_no_object_and_lie_in_the_square(seed: int) -> None:
    boxes = torch.tensor([[0.0, 0, 20, 10], [30, 30, 50, 60]])
    found = places_beside(boxes, boxes, SIDE, np.random.default_rng(seed))
    assert 1 <= len(found) <= 2
    assert box_iou(found, boxes).max() <= 0.1
    assert found.min() >= 0
    assert found.max() <= SIDE + 1e-4
    sizes = [tuple(size) for size in (boxes[:, 2:] - boxes[:, :2]).tolist()]
    assert all(tuple(round(side) for side in size) in sizes for size in (found[:, 2:] - found[:, :2]).tolist())
    again = places_beside(boxes, boxes, SIDE, np.random.default_rng(seed))
    assert torch.equal(found, again)


def test_a_full_square_has_no_place_beside() -> None:
    whole = torch.tensor([[0.0, 0, SIDE, SIDE]])
    assert places_beside(whole, whole, SIDE, np.random.default_rng(0)).shape == (0, 4)
