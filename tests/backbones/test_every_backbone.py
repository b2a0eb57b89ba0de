"""What holds of every backbone that `--backbone` takes: levels, units, sizes, gradients, and a detector on top."""

import math

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.names import BackboneName
from visionkit.build import BACKBONES
from visionkit.errors import UsageError
from visionkit.models.yolo import Yolo
from visionkit.models.yolov1 import YoloV1
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.norms import NORMS
from visionkit.nn.stochastic_depth import StochasticDepth
from visionkit.types import Target, Unit

UNITS = {
    "csp-light": 10,
    "lenet5": 5,
    "alexnet": 8,
    "vgg11": 8 + 5,  # convolutions and poolings
    "vgg13": 10 + 5,
    "vgg16": 13 + 5,
    "vgg19": 16 + 5,
    "vgg11-bn": 8 + 5,
    "vgg13-bn": 10 + 5,
    "vgg16-bn": 13 + 5,
    "vgg19-bn": 16 + 5,
    "nin": 4 + 3,
    "googlenet": 3 + 4 + 9,
    "resnet18": 2 + 8,  # stem, maxpool and blocks
    "resnet34": 2 + 16,
    "resnet50": 2 + 16,
    "resnet101": 2 + 33,
    "resnet152": 2 + 50,
    "se-resnet18": 2 + 8,
    "se-resnet34": 2 + 16,
    "se-resnet50": 2 + 16,
    "se-resnet101": 2 + 33,
    "mobilenetv3-small": 11 + 2,  # blocks between first and last convolution
    "mobilenetv3-large": 15 + 2,
    "efficientnet-b0": 16 + 2,
    "convnext-tiny": 18 + 4,  # blocks, stem and three halvings
}
# Sides in pixels below which the last map would be empty, and how the others count cells.
LEAST = {"googlenet": 15, "convnext-tiny": 32} | {name: 32 for name in UNITS if name.startswith("vgg")}


def cells(name: str, side: int, stride: int) -> int:
    if name == "googlenet":
        # The stem's convolution rounds up, three poolings round down, the fourth up.
        halved = -(-side // 2) // 2 // 2
        return {8: halved, 16: halved // 2, 32: -(-(halved // 2) // 2)}[stride]
    return side // stride if name in LEAST else math.ceil(side / stride)


@pytest.fixture(scope="module", params=list(UNITS))
def name(request: pytest.FixtureRequest) -> BackboneName:
    given: BackboneName = request.param
    return given


@pytest.fixture(scope="module")
def network(name: BackboneName) -> nn.Module:
    torch.manual_seed(0)
    return BACKBONES[name]().eval()


def test_none_is_forgotten() -> None:
    assert list(UNITS) == list(BACKBONES)


def test_units_in_the_order_they_run(name: BackboneName, network: nn.Module) -> None:
    units: tuple[Unit, ...] = network.units
    assert len(units) == UNITS[name]
    called: list[str] = []
    handles = [
        network.get_submodule(module).register_forward_hook(lambda *_, module=module: called.append(module))
        for unit in units
        for module in unit.modules
    ]
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    assert called == [module for unit in units for module in unit.modules]


def test_every_parameter_belongs_to_exactly_one_unit(network: nn.Module) -> None:
    assert_units_cover(network)


def assert_units_cover(network: nn.Module) -> None:
    in_units = [p for u in network.units for name in u.modules for p in network.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(network.parameters())


def test_maps_tile_an_image_that_32_divides(name: BackboneName, network: nn.Module) -> None:
    assert tuple(level.stride for level in network.levels) == ((2, 4) if name == "lenet5" else (8, 16, 32))
    with torch.no_grad():
        maps = network(torch.randn(2, 3, 64, 96))
    for level, level_map in zip(network.levels, maps, strict=True):
        assert level_map.shape == (2, level.channels, 64 // level.stride, 96 // level.stride)
        assert level_map.isfinite().all()


@pytest.mark.parametrize("size", [(33, 50), (47, 32), (95, 61)])
def test_odd_sizes(name: BackboneName, network: nn.Module, size: tuple[int, int]) -> None:
    with torch.no_grad():
        maps = network(torch.randn(1, 3, *size))
    expected = [tuple(cells(name, side, level.stride) for side in size) for level in network.levels]
    assert [tuple(m.shape[-2:]) for m in maps] == expected


def test_the_smallest_image_works_and_a_smaller_one_is_refused(name: BackboneName, network: nn.Module) -> None:
    least = LEAST.get(name, 1)
    with torch.no_grad():
        maps = network(torch.randn(1, 3, least, least))
    assert maps[-1].shape[-2:] == (1, 1)
    if least > 1:
        with pytest.raises(UsageError) as error:
            network(torch.zeros(1, 3, 200, least - 1))
        assert str(error.value) == (
            f"{name.removesuffix('-bn')} needs images of at least {least}x{least} pixels, got 200x{least - 1}; "
            f"use 200x{least}"
        )


def test_a_batch_equals_its_images_one_by_one(network: nn.Module) -> None:
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for whole, *singles in zip(network(images), *(network(image[None]) for image in images), strict=True):
            torch.testing.assert_close(whole, torch.cat(singles), rtol=1e-4, atol=1e-4 * whole.abs().max().item())


def test_no_image(network: nn.Module) -> None:
    with torch.no_grad():
        maps = network(torch.zeros(0, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [
        (0, le.channels, 64 // le.stride, 64 // le.stride) for le in network.levels
    ]


def test_every_parameter_gets_a_gradient(network: nn.Module) -> None:
    network.train()  # running statistics of a fresh network say nothing yet, and signals would die out
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            module.eval()
    sum(m.square().mean() for m in network(torch.randn(2, 3, 64, 64))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    network.zero_grad()
    network.eval()
    assert not without


def test_first_weights_keep_the_size_of_signals(name: BackboneName) -> None:
    # As drawn, before any training step and with running statistics of 0 and 1: neither dying out nor exploding.
    fresh = BACKBONES[name]().train()
    with torch.no_grad():
        for level_map in fresh(torch.randn(4, 3, 64, 64)):
            assert 0.01 < level_map.std() < 30


def target(boxes: list[list[float]]) -> Target:
    return Target(torch.tensor(boxes), torch.arange(len(boxes)), torch.zeros(len(boxes), dtype=torch.bool))


def test_a_yolo_on_it_learns_one_step(name: BackboneName, network: nn.Module) -> None:
    if name == "lenet5":
        pytest.skip("lenet5 has no levels for it, as the next test says")
    torch.manual_seed(0)
    model = Yolo(network, 2).train()
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    losses = model.loss(model(images), [target([[8.0, 8, 40, 40], [30.0, 20, 60, 60]]), target([[0.0, 0, 32, 32]])])
    losses.total.backward()
    assert losses.total.isfinite()
    gradients: list[Tensor] = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(gradients) == len(list(network.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    network.zero_grad(set_to_none=True)
    network.eval()


@pytest.mark.parametrize(
    ("model", "wants"),
    [
        (Yolo, "yolo needs a backbone with maps of stride 8, 16, 32"),
        (YoloV1, "yolov1 needs a backbone with maps of stride 32"),
    ],
)
def test_lenet_is_too_fine_for_a_detector(model: type[nn.Module], wants: str) -> None:
    with pytest.raises(UsageError) as error:
        model(BACKBONES["lenet5"](), 2)
    assert str(error.value) == f"model {wants}, but this one has 2, 4; choose another"


SMALLEST = (
    *("lenet5", "alexnet", "vgg11-bn", "nin", "googlenet", "resnet18", "se-resnet50"),
    *("mobilenetv3-small", "efficientnet-b0", "convnext-tiny"),
)


@pytest.mark.parametrize("smallest", SMALLEST)
@pytest.mark.parametrize(("norm", "activation"), [("group", "prelu"), ("none", "leaky-relu")])
def test_norm_and_activation_are_options(smallest: str, norm: str, activation: str) -> None:
    network = BACKBONES[smallest](norm=NORMS[norm], activation=ACTIVATIONS[activation])
    own = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.Hardswish, nn.SiLU, nn.GELU, nn.Tanh)
    left = [n for n, module in network.named_modules() if isinstance(module, own)]
    # Squeeze and excitation brings its own, which is inside the gate.
    assert not [n for n in left if not n.endswith((".se.activation", ".2.activation", ".1.activation"))]
    given = nn.PReLU if activation == "prelu" else nn.LeakyReLU
    assert any(isinstance(module, given) for module in network.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in network.modules()) == (norm == "group")
    if norm == "none":  # a convolution without a norm behind it has a bias
        assert all(module.bias is not None for module in network.modules() if isinstance(module, nn.Conv2d))
    assert_units_cover(network)
    maps = network(torch.randn(2, 3, 64, 64))
    assert all(m.isfinite().all() for m in maps)
