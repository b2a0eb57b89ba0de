"""A folded model says what the model says, with fewer layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionkit.build import BACKBONES, MODELS, build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.models.forms import FORM_PARTS
from visionkit.nn.conv import ConvNormAct
from visionkit.nn.fold import folded
from visionkit.nn.norms import FrozenBatchNorm2d, Norm

CLASSES = ClassTable((3, 17), ("car", "cat"))
NORMS: dict[str, Norm] = {
    "batch": nn.BatchNorm2d,
    "without eps": partial(FrozenBatchNorm2d, eps=0.0),
    "frozen": FrozenBatchNorm2d,
    "without scale and shift": partial(nn.BatchNorm2d, affine=False),
}


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]


@torch.no_grad()
def with_statistics(model: nn.Module) -> nn.Module:
    """Norms with statistics, scales and shifts that do something."""
    generator = torch.Generator().manual_seed(0)

    def drawn(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator)

    for norm in norms_of(model):
        norm.running_mean.copy_(drawn(norm.running_mean) - 0.5)
        norm.running_var.copy_(drawn(norm.running_var) + 0.5)
        if norm.weight is not None:
            norm.weight.copy_(drawn(norm.weight) + 0.5)
            norm.bias.copy_(drawn(norm.bias) - 0.5)
    return model.eval()


# The law --------------------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 1, 1), FrozenBatchNorm2d(1, eps=0.0))
    for tensor, value in zip(layers.state_dict().values(), (2.0, 1.0, 5.0, 6.0, 3.0, 4.0), strict=False):
        tensor.fill_(value)
    # 5 * ((2 x + 1) - 3) / sqrt(4) + 6 = 5 x + 2.5 * -2 + 6 = 5 x + 1
    convolution, identity = folded(layers)
    assert (convolution.weight.item(), convolution.bias.item()) == (5, 1)
    assert type(identity) is nn.Identity


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("groups", [1, 4], ids=["dense", "depthwise"])
@pytest.mark.parametrize("bias", [True, False])
def test_law_a_convolution_and_its_norm_are_one_convolution(norm: str, groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2, groups=groups, bias=bias)
    layers = with_statistics(nn.Sequential(convolution, NORMS[norm](8)))
    x = torch.randn(2, 4, 9, 7)  # the zeros around it too: a norm behind the padding does not see them
    with torch.no_grad():
        torch.testing.assert_close(folded(layers)(x), layers(x), rtol=0, atol=1e-5)
        assert folded(layers)(x[:0]).shape == layers(x[:0]).shape


def test_the_model_itself_stays_as_it_is() -> None:
    model = with_statistics(ConvNormAct(3, 4, 3))
    before = copy.deepcopy(model.state_dict())
    small = folded(model)
    assert small is not model
    assert len(norms_of(model)) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    # Nothing is shared that a later change of one could carry to the other.
    assert not {t.data_ptr() for t in model.state_dict().values()} & {t.data_ptr() for t in small.state_dict().values()}


# What is left alone ---------------------------------------------------------------------------------------------------


class WithActivation(nn.BatchNorm2d):
    """More than its base, as timm has them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Backwards(nn.Module):
    """Registers its layers in another order than it runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)),
        nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(2, 2, 1), WithActivation(2)),
        Backwards(),
        nn.Linear(2, 2),
    ],
    ids=lambda model: type(model[-1] if isinstance(model, nn.Sequential) else model).__name__,
)
def test_where_there_is_nothing_to_fold_it_is_the_model_itself(model: nn.Module) -> None:
    assert folded(model) is model


# The zoo --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_no_batch_norm_is_left_in_a_backbone(name: str) -> None:
    with torch.device("meta"):  # shapes without numbers
        assert not norms_of(folded(BACKBONES[name]()))


@pytest.mark.parametrize("form", FORM_PARTS)
def test_no_batch_norm_is_left_in_a_form(form: str) -> None:
    model, backbone = FORM_PARTS[form]
    with torch.device("meta"):
        network = build_model(Recipe(model=model, backbone=backbone, form=form), CLASSES)
        assert norms_of(network)
        assert not norms_of(folded(network))


def tensors(said: Any) -> Iterator[Tensor]:
    """Those with a fraction in an outputs record."""
    if isinstance(said, Tensor):
        yield from [said] if said.is_floating_point() else []
    elif is_dataclass(said):
        for field in fields(said):
            yield from tensors(getattr(said, field.name))
    elif isinstance(said, tuple | list):
        for part in said:
            yield from tensors(part)


# One of each way to put a block together; with the blocks of the heads and necks below.
@pytest.mark.parametrize("name", ["resnet18", "se-resnet50", "googlenet", "mobilenetv3-small", "efficientnet-b0"])
def test_a_backbone_gives_the_same_maps(name: str) -> None:
    torch.manual_seed(0)
    network = with_statistics(BACKBONES[name]())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(folded(network)(x), network(x), strict=True):
            torch.testing.assert_close(found / expected.std(), expected / expected.std(), rtol=0, atol=1e-4)


# The others decide between equals in between, or are fed by someone else.
@pytest.mark.parametrize("name", ["yolo", "yolov1", "retinanet", "classifier", "fcn8s"])
def test_a_model_says_the_same(name: str) -> None:
    network = with_statistics(build_model(Recipe(model=name), CLASSES))
    assert MODELS[name] is type(network)
    assert not norms_of(folded(network))
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = zip(tensors(folded(network)(images)), tensors(network(images)), strict=True)
        for found, expected in both:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
