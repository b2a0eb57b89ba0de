"""Activations, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Activation = Callable[[int], nn.Module]
"""Channels -> a layer that keeps the shape of feature maps [B, C, H, W]. Most do not need to know the channels; those
that learn do. Some overwrite their input: nothing else may want it afterwards."""


class Maxout(nn.Module):
    """The largest of several affine maps: learns its shape, any convex one as its pieces grow in number.

    Source: Goodfellow et al. 2013, Maxout Networks, section 3. There a convolution gives `pieces` times the channels
    and maxout takes them back. Here a 1x1 convolution of its own does, so that it can stand behind any layer; after a
    convolution or a norm, the two are one affine map to the same end.

    Parameter names: `pieces.weight`, `pieces.bias`.

    Args:
        channels: C, of input and output.
        pieces: affine maps a channel.
    """

    def __init__(self, channels: int, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = nn.Conv2d(channels, pieces * channels, 1)
        # Keeps the mean square with two pieces: the larger of two such has that of each.
        nn.init.normal_(self.pieces.weight, std=channels**-0.5)
        nn.init.zeros_(self.pieces.bias)  # type: ignore[arg-type]
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        best: Tensor = self.pieces(x).unflatten(1, (-1, self.channels)).amax(1)
        return best


ACTIVATIONS: dict[str, Activation] = {
    # Nair and Hinton 2010, Rectified Linear Units Improve Restricted Boltzmann Machines
    "relu": lambda channels: nn.ReLU(inplace=True),
    # Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10
    "relu6": lambda channels: nn.ReLU6(inplace=True),
    # Maas et al. 2013, Rectifier Nonlinearities Improve Neural Network Acoustic Models: slope 0.01
    "leaky-relu": lambda channels: nn.LeakyReLU(inplace=True),
    # He et al. 2015, Delving Deep into Rectifiers, section 2.1: a slope to learn a channel, from 0.25
    "prelu": nn.PReLU,
    # Xu et al. 2015, Empirical Evaluation of Rectified Activations: slopes drawn from 1/8 to 1/3, their mean in eval
    "rrelu": lambda channels: nn.RReLU(inplace=True),
    # Clevert et al. 2015, Exponential Linear Units
    "elu": lambda channels: nn.ELU(inplace=True),
    # Hendrycks and Gimpel 2016, Gaussian Error Linear Units
    "gelu": lambda channels: nn.GELU(),
    "maxout": Maxout,
    "sigmoid": lambda channels: nn.Sigmoid(),
    # Courbariaux et al. 2015, BinaryConnect, section 2.3; the slope of 1/6 from Howard et al. 2019, MobileNetV3
    "hard-sigmoid": lambda channels: nn.Hardsigmoid(inplace=True),
    # LeCun et al. 1998, Efficient BackProp, section 4.4
    "tanh": lambda channels: nn.Tanh(),
    # Ramachandran et al. 2017, Searching for Activation Functions, with beta 1; Elfwing et al. 2017 name it SiLU
    "swish": lambda channels: nn.SiLU(inplace=True),
    # Howard et al. 2019, Searching for MobileNetV3, section 5.2
    "hard-swish": lambda channels: nn.Hardswish(inplace=True),
}
