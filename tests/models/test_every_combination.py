"""Every backbone under every model: five steps on one batch, a file, and the same predictions out of it.

Only `rcnn` takes no steps: it is fitted on the batch at once.

What does not go together says why.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.api.models import zoo
from visionkit.build import BACKBONES, MODELS, build_model, load_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine import checkpoint
from visionkit.errors import UsageError
from visionkit.imaging.letterbox import Frame
from visionkit.models.rcnn import Rcnn
from visionkit.types import Batch, Target

CLASSES = ClassTable((3, 17, 18), ("car", "cat", "dog"))
STEPS = 5
RATE, SHORT_RATE = 1e-3, 3e-4
WITHOUT_NORM = ("lenet5", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "nin")
"""What these learn from the first layer on is not scaled by any norm: they take shorter steps."""

MOVING = {"yolo": ("class",), "yolo-masks": ("class",)}
"""Losses that a step down need not make smaller: what these classes should score is how good the boxes have become, and
how good they are together is what the loss is divided by. Of the others the last must be below the first."""

SIDE = 64
WARPED = 32

LARGE = 9_000_000
"""Backbones of more parameters learn as a whole under one model; under the others only their last unit does, in half
the time."""

WANTED = {
    "yolo": "8, 16, 32",
    "yolo-masks": "8, 16, 32",
    "yolov1": "32",
    "fcn32s": "32",
    "fcn16s": "16",
    "fcn8s": "8",
}
REFUSED = {
    ("lenet5", model): f"model {model} needs a backbone with maps of stride {strides}, but this one has 2, 4; "
    "choose another"
    for model, strides in WANTED.items()
}
"""LeNet-5 never goes further than stride 4: all other models take the maps that there are."""

# Corners in 64ths of a side, label, whether it is ignored: large and small, overlapping, cut by the edge, a crowd.
OBJECTS = (
    ((4, 6, 40, 44, 0, False), (30, 28, 60, 62, 1, False), (48, 2, 60, 14, 2, False), (0, 50, 22, 64, 1, True)),
    ((10, 8, 58, 60, 2, False), (0, 0, 20, 12, 0, False)),
)
COLOURS = torch.tensor([[220, 40, 40], [40, 200, 60], [50, 60, 230]], dtype=torch.uint8)


def pictures(side: int) -> tuple[Tensor, list[Target], list[Tensor]]:
    """Two images of coloured blocks on noise, all that may be true of them, and proposals near the objects and not."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(90, 150, (len(OBJECTS), 3, side, side), dtype=torch.uint8, generator=generator)
    targets, proposals = [], []
    for image, objects in zip(images, OBJECTS, strict=True):
        boxes = torch.tensor([o[:4] for o in objects]) * side / 64
        labels, ignore = torch.tensor([o[4] for o in objects]), torch.tensor([o[5] for o in objects])
        semantic = torch.zeros(side, side, dtype=torch.uint8)
        for (x1, y1, x2, y2), label, ignored in zip(boxes.int().tolist(), labels, ignore, strict=True):
            image[:, y1:y2, x1:x2] = COLOURS[label][:, None, None]
            semantic[y1:y2, x1:x2] = 255 if ignored else label
        masks = torch.ones(len(objects), 28, 28, dtype=torch.uint8)
        masks[:, :7, :7] = 0
        targets.append(Target(boxes, labels, ignore, semantic, masks))
        moved = boxes + side / 32 * torch.randn(boxes.shape, generator=generator)
        whole = torch.tensor([[0.0, 0, side, side]])
        proposals.append(torch.cat((moved, whole, whole / 2)))
    return images, targets, proposals


def of_whole(targets: Sequence[Target]) -> list[Target]:
    """What a classifier learns: one object an image."""
    return [Target(target.boxes[:1], target.labels[:1], target.ignore[:1]) for target in targets]


def learn(
    model: nn.Module,
    images: Tensor,
    targets: Sequence[Target],
    proposals: Sequence[Tensor],
    rate: float,
    moving: Sequence[str] = (),
) -> list[float]:
    """The loss before each of the steps, without its `moving` parts."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, fused=True)
    history = []
    for _ in range(STEPS):
        torch.manual_seed(0)  # the same regions and dropout in each step, so that losses compare
        optimizer.zero_grad()
        losses = model.loss(model(images, targets=targets, proposals=proposals), targets)
        losses.total.backward()
        optimizer.step()
        assert all(part.isfinite() for part in losses.parts.values())
        history.append(sum(part.item() for loss, part in losses.parts.items() if loss not in moving))
    return history


def hold_all_but_last(backbone: nn.Module) -> None:
    """Unlike `freeze`, norms go on measuring: their first statistics leave maps of random weights without scale."""
    for unit in backbone.units[:-1]:
        for name in unit.modules:
            backbone.get_submodule(name).requires_grad_(False)


@torch.no_grad()
def measure_norms(model: Rcnn, images: Tensor) -> None:
    """Without statistics random features grow from layer to layer, in the deepest networks beyond what f16 can hold."""
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    model.backbone(model.normalize(images))


def fit(model: Rcnn, images: Tensor, targets: Sequence[Target], proposals: Sequence[Tensor]) -> None:
    measure_norms(model, images)
    frame = Frame(images.shape[-1], images.shape[-2], 1.0, 1.0, 0, 0)
    model.fit([Batch(images, tuple(targets), (frame,) * len(images), (1, 2), tuple(proposals))])
    assert all(tensor.isfinite().all() for tensor in model.head.state_dict().values())


@torch.no_grad()
def decided(model: nn.Module, images: Tensor, proposals: Sequence[Tensor]) -> list[Tensor]:
    """Everything that is said of the images: the twenty best decisions, however unsure, or a map."""
    found = model.predict(model(images, proposals=proposals), score=0.0, max_det=20)
    values = [getattr(said, field.name) for said in found for field in fields(said)]
    return [value for value in values if value is not None]


@pytest.fixture
def quick_and_reproducible(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # What survives a power cut and a flipped bit is tested elsewhere.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(checkpoint, "tensors_sha256", lambda tensors: "")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module", params=list(BACKBONES))
def backbone(request: pytest.FixtureRequest) -> Iterator[str]:
    """One at a time, drawn once: of large ones drawing takes longer than learning. Each model gets a copy."""
    name = request.param
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, name, partial(copy.deepcopy, BACKBONES[name]()))
        yield name


@pytest.mark.usefixtures("quick_and_reproducible")
@pytest.mark.parametrize("name", list(MODELS))
def test_it_learns_and_its_file_says_the_same(backbone: str, name: Any, tmp_path: Path) -> None:
    recipe = Recipe(model=name, backbone=backbone, imgsz=SIDE, warp=WARPED if name == "rcnn" else "own")
    if (backbone, name) in REFUSED:
        with pytest.raises(UsageError) as error:
            build_model(recipe, CLASSES)
        assert str(error.value) == REFUSED[backbone, name]
        return

    model = build_model(recipe, CLASSES).train()
    images, targets, proposals = pictures(SIDE)
    if isinstance(model, Rcnn):
        fit(model, images, targets, proposals)
    else:
        parameters = sum(p.numel() for p in model.backbone.parameters())
        if parameters > LARGE and name != "yolo":
            hold_all_but_last(model.backbone)
        truth = of_whole(targets) if model.task == "classify" else targets
        rate = SHORT_RATE if backbone in WITHOUT_NORM else RATE
        history = learn(model, images, truth, proposals, rate, MOVING.get(name, ()))
        assert history[-1] < history[0], history

    expected = decided(model.eval(), images, proposals)
    assert all(len(value) and value.isfinite().all() for value in expected)
    path = tmp_path / "best.safetensors"
    save_model(path, model, CLASSES, recipe, {})
    again = decided(load_model(path).model, images, proposals)
    path.unlink()  # all of them together are 20 GB
    assert len(again) == len(expected)
    assert all(torch.equal(value, other) for value, other in zip(again, expected, strict=True))


def test_these_are_what_the_zoo_says() -> None:
    allowed = {(backbone, model.name) for model in zoo().models for backbone in model.parameters}
    assert allowed == {(backbone, model) for backbone in BACKBONES for model in MODELS} - set(REFUSED)
