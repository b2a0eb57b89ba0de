"""Receptive fields by arithmetic equal those by gradients: where the image moves the middle cell of a map."""

import copy
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import convnext, resnet, vgg
from visionkit.build import BACKBONES
from visionkit.nn.activations import ACTIVATIONS
from visionkit.nn.conv import ConvNormAct
from visionkit.nn.fpn import FeaturePyramid
from visionkit.nn.norms import NORMS, LayerNorm2d
from visionkit.nn.pan import PathAggregation
from visionkit.nn.receptive_field import Field, Seen, tracing
from visionkit.nn.squeeze_excitation import SqueezeExcitation
from visionkit.nn.units import evaluating
from visionkit.nn.upsample import BilinearUpsample
from visionkit.types import Level


def fields(network: Callable[[Tensor], Tensor | Sequence[Tensor]], images: Tensor) -> list[Seen]:
    """What the cells of the maps see that a network returns."""
    model = network if isinstance(network, nn.Module) else nn.Identity()
    with torch.no_grad(), evaluating(model), tracing(model, images) as seen:
        maps = network(images)
        return [seen(level_map) for level_map in ([maps] if isinstance(maps, Tensor) else maps)]


def field_of(network: Callable[[Tensor], Tensor], channels: int = 3) -> Field:
    (seen,) = fields(network, torch.zeros(1, channels, 64, 64))
    assert isinstance(seen, Field)
    return seen


# By hand --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "pixels", "stride"),
    [
        ([nn.Conv2d(3, 3, 3)], 3, 1),
        # 3, then 2 steps of 1 more, then 2 of 1.
        ([nn.Conv2d(3, 3, 3)] * 3, 7, 1),
        # 7 (stride 2), then 2 steps of 2: ResNet's stem.
        ([nn.Conv2d(3, 3, 7, 2, 3), nn.MaxPool2d(3, 2, 1)], 11, 4),
        # Dilation 4: (3 - 1) * 4 + 1.
        ([nn.Conv2d(3, 3, 3, dilation=4)], 9, 1),
        ([nn.MaxPool2d(3, 2, dilation=2)], 5, 2),
        # A stride that is not given is the kernel: 2, then 1 step of 2.
        ([nn.MaxPool2d(2), nn.AvgPool2d(2)], 4, 4),
        # Enlarged twice, two neighbours are the same cell or two: 3 fine cells read 2 coarse ones, of 2 pixels each.
        ([nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1)], 4, 1),
        # 4 fine cells read 2 or 3 coarse ones: 3 * 2.
        ([nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 4)], 6, 1),
        # By bilinear interpolation each fine cell reads 2 coarse ones of 2 pixels.
        ([nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")], 4, 1),
        # A kernel of 4 at stride 2 reaches each fine cell from 2 coarse ones; one of 2 from 1.
        ([nn.AvgPool2d(2), nn.ConvTranspose2d(3, 3, 4, 2, 1)], 4, 1),
        ([nn.AvgPool2d(2), nn.ConvTranspose2d(3, 3, 2, 2)], 2, 1),
        # Odd kernel: cells upon a coarse one read 1, cells between read 2.
        ([nn.AvgPool2d(2), nn.ConvTranspose2d(3, 3, 3, 2, 1)], 4, 1),
        ([nn.AvgPool2d(2), BilinearUpsample(3, 2)], 4, 1),
        # A place a third of the way between two coarse cells, or upon one.
        ([nn.AvgPool2d(3), nn.Upsample(scale_factor=3, mode="bilinear")], 6, 1),
        ([nn.ReplicationPad2d(1), nn.Conv2d(3, 3, 3), nn.ReflectionPad2d((0, 0, 2, 0))], 3, 1),
        ([nn.ZeroPad2d(1), nn.Conv2d(3, 3, 3)], 3, 1),
        # Nothing of these looks around.
        ([nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(), nn.Conv2d(3, 3, 1)], 1, 1),
        ([NORMS["group"](3), NORMS["instance"](3), NORMS["layer"](3), NORMS["switchable"](3)], 1, 1),
    ],
)
def test_fields_by_hand(layers: list[nn.Module], pixels: int, stride: int) -> None:
    field = field_of(nn.Sequential(*layers))
    assert (field.pixels, field.stride, field.whole) == (pixels, stride, False)


def test_where_a_field_lies() -> None:
    # Rows -3 to 3 around pixel 0, then rows -1, 0 and 1 of that, 2 pixels apart: from -2 - 3 up to 2 + 3.
    assert field_of(nn.Sequential(nn.Conv2d(3, 3, 7, 2, 3), nn.MaxPool2d(3, 2, 1))) == Field((-5,), (6,), 4)


def test_sums_and_concatenations_see_what_either_part_sees() -> None:
    three, one = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
    assert field_of(lambda x: three(x) + x).pixels == 3
    assert field_of(lambda x: torch.cat((one(x), three(three(x))), 1)).pixels == 5
    # Padding on one side only moves a field: rows 0 to 2 and rows -2 to 0 are 5 together.
    assert field_of(
        lambda x: F.avg_pool2d(F.pad(x, (0, 2, 0, 2)), 3, 1) + F.avg_pool2d(F.pad(x, (2, 0, 2, 0)), 3, 1)
    ) == (Field((-2,), (3,), 1))
    # Each second row from row 1 on: 1 to 1, 3 to 3.
    assert field_of(lambda x: x[:, :, 1::2, ::2]) == Field((1,), (2,), 2)


def test_channels_may_go_to_another_axis_and_back() -> None:
    linear, conv = nn.Linear(3, 5), nn.Conv2d(5, 4, 3)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.conv = linear, conv

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.linear(x.movedim(1, -1)).transpose(-1, 1).transpose(2, 3))

    assert field_of(Mixed()).pixels == 3


def test_squeeze_and_excitation_sees_everything_and_keeps_its_stride() -> None:
    field = field_of(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), SqueezeExcitation(8, 2), nn.Conv2d(8, 8, 3, 2, 1)))
    assert (field.whole, field.stride) == (True, 4)
    images = torch.zeros(1, 3, 8, 8)
    assert fields(nn.AdaptiveAvgPool2d(1), images) == ["global"]
    assert fields(nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 2)), images) == ["global"]
    assert fields(lambda x: x.mean((2, 3)), images) == ["global"]
    assert fields(lambda x: x.mean(1, keepdim=True), images) == [Field()]


def test_what_cannot_be_told_is_unknown() -> None:
    images = torch.zeros(1, 3, 8, 8)
    assert fields(lambda x: x.flatten(2), images) == ["unknown"]
    assert fields(lambda x: x + x.flatten(2).unflatten(2, (8, 8)), images) == ["unknown"]
    assert fields(lambda x: F.interpolate(x, size=12), images) == ["unknown"]  # 8 rows to 12: no whole factor
    assert fields(lambda x: torch.zeros(1, 3, 8, 8), images) == ["unknown"]  # nothing of the image is in it


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        # Each 3x3 two steps of its stride, each 2x2 pooling one: 1 + (2 * 2 + 1) + 2 (2 * 2 + 1) + 4 (3 * 2 + 1)
        # + 8 (3 * 2 + 1) + 16 (3 * 2 + 1) = 1 + 5 + 10 + 28 + 56 + 112, as Araujo et al. 2019, table 1.
        ("vgg16", 212),
        # Stem 11; layer1 4 * 2 * 4; then in each layer one 3x3 that halves and three behind it: 2 * 4 + 3 * 2 * 8,
        # 2 * 8 + 3 * 2 * 16 and 2 * 16 + 3 * 2 * 32. 11 + 32 + 56 + 112 + 224.
        ("resnet18", 435),
    ],
)
def test_whole_networks_by_hand(name: str, pixels: int) -> None:
    last = fields(BACKBONES[name](), torch.zeros(1, 3, 32, 32))[-1]
    assert isinstance(last, Field)
    assert (last.pixels, last.stride) == (pixels, 32)


# By gradients ---------------------------------------------------------------------------------------------------------


PIXEL_BY_PIXEL = (nn.ReLU, nn.Hardswish, nn.SiLU, nn.GELU, nn.Tanh)


def bare(network: nn.Module) -> nn.Module:
    """A copy in which every path from pixel to cell counts: means in place of weights and maxima, nothing else."""
    network = copy.deepcopy(network).double()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (nn.Conv2d, nn.Linear)):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
            elif isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
            elif isinstance(child, (nn.BatchNorm2d, LayerNorm2d, *PIXEL_BY_PIXEL, SqueezeExcitation)):
                setattr(module, name, nn.Identity())
    for name, parameter in network.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.ones_(parameter)
    return network


def numerical_field(image: Tensor, rows: Tensor, period: int) -> int:
    """The most rows of the image that one of a map's middle rows sees. A strip is enough, kernels being square.

    Args:
        rows: f64 [H], sums over a map's rows, with gradients to the image.
        period: after so many rows they are alike again: more than one where coarse maps were enlarged.
    """
    middle, widest = len(rows) // 2, 0
    for row in range(middle, middle + period):
        (gradient,) = torch.autograd.grad(rows[row], image, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 3)).nonzero()
        assert len({0, image.shape[2] - 1} & set(seen.flatten().tolist())) == 0, "the strip is too short"
        widest = max(widest, int(seen.max() - seen.min()) + 1)
    return widest


def without_gates(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, SqueezeExcitation):
                setattr(module, name, nn.Identity())
    return network


class WithNeck(nn.Module):
    """The backbone and neck of yolo."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BACKBONES["csp-light"]()
        self.neck = PathAggregation(self.backbone.levels, [level.channels for level in self.backbone.levels])

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.neck(self.backbone(images))
        return maps


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ConvNormAct(channels, 4, 3, 2) for channels in (3, 4, 4))
        self.neck = FeaturePyramid([Level(4, stride) for stride in (2, 4, 8)], 4, extra="convolve-p")

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        smooth: list[Tensor] = self.neck(maps[1:])
        return smooth


def thin(module: ModuleType, make: Callable[[], nn.Module]) -> nn.Module:
    """A network with an eighth of the channels that its paper gives it: of them no field depends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WIDTHS", tuple(width // 8 for width in module.WIDTHS))
        return make()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    # Each family of the zoo.
    **{name: BACKBONES[name] for name in ("lenet5", "alexnet", "nin", "googlenet", "csp-light")},
    "vgg11": lambda: thin(vgg, BACKBONES["vgg11"]),
    "resnet18": lambda: thin(resnet, BACKBONES["resnet18"]),
    "resnet50": lambda: thin(resnet, BACKBONES["resnet50"]),
    "dilated resnet50": lambda: thin(resnet, lambda: resnet.resnet50(dilated=2)),
    "se-resnet50": lambda: without_gates(thin(resnet, BACKBONES["se-resnet50"])),
    "mobilenetv3-small": lambda: without_gates(BACKBONES["mobilenetv3-small"]()),
    "efficientnet-b0": lambda: without_gates(BACKBONES["efficientnet-b0"]()),
    "convnext-tiny": lambda: thin(convnext, BACKBONES["convnext-tiny"]),
    "path aggregation": WithNeck,
    "feature pyramid": Pyramid,
}


def test_no_family_is_left_out() -> None:
    # A file each: inside one, networks differ in depth and width alone.
    families = {make.__module__ for make in BACKBONES.values()}
    assert families == {BACKBONES[name].__module__ for name in NETWORKS if name in BACKBONES}


@pytest.mark.parametrize("name", NETWORKS)
def test_arithmetic_equals_gradients(name: str) -> None:
    network = NETWORKS[name]().eval()
    known = fields(network, torch.zeros(1, 3, 64, 64))
    # High enough for the largest field on each side of rows a little below the middle.
    height = 128 * (max(seen.pixels for seen in known if isinstance(seen, Field)) // 128 + 4)
    image = torch.ones(1, 3, height, 32, dtype=torch.float64, requires_grad=True)
    maps = bare(network)(image)
    assert len(known) == len(maps) > 1
    for seen, level_map in zip(known, maps, strict=True):
        assert isinstance(seen, Field)
        assert not seen.whole
        assert level_map.shape[2] == height / seen.stride
        assert numerical_field(image, level_map.sum((0, 1, 3)), len(seen.first)) == seen.pixels


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_activation_looks_around(activation: str) -> None:
    assert field_of(ACTIVATIONS[activation](3)).pixels == 1
