"""GoogLeNet (Inception v1), with the parameter names of torchvision's checkpoint."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from visionkit.backbones.image_size import require_least_side
from visionkit.nn.activations import ACTIVATIONS, Activation
from visionkit.nn.conv import conv_layers
from visionkit.nn.initialise import kaiming
from visionkit.nn.norms import Norm
from visionkit.nn.renormalize import Renormalize
from visionkit.types import Level, Unit

# Table 1: of each block the channels of 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; pooling projected.
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}

AUXILIARY = {"inception4a": 512, "inception4d": 528}
"""Where a classifier hangs the paper's auxiliary heads (section 5): the modules after which they read, and the channels
there. They belong to classifying, so this network has none: `visionkit.models.classifier` makes them. Torchvision's
`aux1.*` and `aux2.*` stay unused."""

LEAST_SIDE = 15


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with the eps torchvision's checkpoint was trained with, 0.001."""
    return nn.BatchNorm2d(channels, eps=0.001)


class Inception(nn.Module):
    """A 1x1, a 3x3, a larger convolution and a max pooling side by side, concatenated; 1x1s narrow what enters them.

    Source: Szegedy et al. 2014, Going Deeper with Convolutions, section 4, figure 2b.

    Args:
        widths: channels, as a row of `INCEPTIONS`.
        largest: kernel of the third branch.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, int, int, int, int, int], largest: int, norm: Norm, act: Activation
    ) -> None:
        super().__init__()
        one, reduced3, three, reduced5, five, projected = widths
        self.branch1 = _conv(in_channels, one, 1, norm, act)
        self.branch2 = nn.Sequential(_conv(in_channels, reduced3, 1, norm, act), _conv(reduced3, three, 3, norm, act))
        self.branch3 = nn.Sequential(
            _conv(in_channels, reduced5, 1, norm, act), _conv(reduced5, five, largest, norm, act)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _conv(in_channels, projected, 1, norm, act))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


class GoogLeNet(nn.Module):
    """Three convolutions, nine Inception blocks and four max poolings; randomly initialised, 5.60 M parameters.

    Source: Szegedy et al. 2014, Going Deeper with Convolutions, table 1. Its 16 units are conv1, maxpool1, conv2,
    conv3, maxpool2, inception3a, inception3b, maxpool3, inception4a to 4e, maxpool4, inception5a and 5b. As
    torchvision's, it differs from the paper in this:

    - The branch that the paper calls 5x5 is 3x3: an error in the conversion of the published weights that everyone has
      kept since. `largest=5` builds the paper's.
    - Batch normalisation after every convolution, no local response normalisation.
    - Poolings count a last, incomplete window (ceil mode). Of an even number of cells they leave half; of an odd number
      the smaller half, but the last pooling the larger.
    - Its published weights want images scaled to -1..1 (mean 0.5, deviation 0.5). Images arrive here as for all other
      networks, with mean 0 and deviation 1 over ImageNet, and are rescaled first: what torchvision calls
      `transform_input`, here not an option that a checkpoint could come without.

    `forward` takes normalised images f32 [B, 3, H, W] and returns the maps of inception3b, 4e and 5b, at strides 8, 16
    and 32.

    Args:
        norm: after every convolution.
        largest: kernel of the third branch of every Inception block, 3 or 5.

    Raises:
        UsageError: in `forward`, images of less than 15 pixels.

    >>> GoogLeNet().levels
    (Level(channels=480, stride=8), Level(channels=832, stride=16), Level(channels=1024, stride=32))
    """

    auxiliary = AUXILIARY

    def __init__(
        self, *, norm: Norm = batch_norm, activation: Activation = ACTIVATIONS["relu"], largest: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, norm, activation, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = _conv(64, 64, 1, norm, activation)
        self.conv3 = _conv(64, 192, 3, norm, activation)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = {}
        x = 192
        for block, widths in INCEPTIONS.items():
            self.add_module(f"inception{block}", Inception(x, widths, largest, norm, activation))
            channels[block] = x = widths[0] + widths[2] + widths[4] + widths[5]
            if block == "3b":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            elif block == "4e":
                self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        # The modules were made in the order in which they run.
        self.units = tuple(Unit(name, (name,)) for name, _ in self.named_children())
        self.levels = tuple(
            Level(channels[block], stride) for block, stride in zip(("3b", "4e", "5b"), (8, 16, 32), strict=True)
        )
        self.renormalize = Renormalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        kaiming(self)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        require_least_side(images, LEAST_SIDE, "googlenet")
        maps: dict[str, Tensor] = {}
        x = self.renormalize(images)
        for unit in self.units:
            x = maps[unit.name] = self.get_submodule(unit.name)(x)
        return maps["inception3b"], maps["inception4e"], maps["inception5b"]


def _conv(
    in_channels: int, out_channels: int, kernel: int, norm: Norm, activation: Activation, stride: int = 1
) -> nn.Sequential:
    """A convolution with what follows it, by torchvision's names `conv` and `bn`."""
    layers = conv_layers(in_channels, out_channels, kernel, stride, norm=norm, activation=activation)
    names = ("conv", "bn", "act") if len(layers) == 3 else ("conv", "act")
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))
