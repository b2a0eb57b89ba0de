"""First weights of convolutions and fully connected layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn


def kaiming(network: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Normal weights of variance 2 / fan, biases 0: variance is kept through rectifiers.

    Source: He et al. 2015, Delving Deep into Rectifiers, section 2.2.

    Args:
        mode: `fan_in` keeps the variance of activations (equation 10), which a network without normalisation needs;
            `fan_out` that of gradients (equation 14).
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def xavier(network: nn.Module) -> None:
    """Uniform weights of variance 2 / (fan in + fan out), biases 0: variance is kept through layers as tanh near 0.

    Source: Glorot and Bengio 2010, Understanding the Difficulty of Training Deep Feedforward Neural Networks, eq. 16.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


INITIALISATIONS: dict[str, Callable[[nn.Module], None]] = {
    "xavier": xavier,
    "kaiming": lambda network: kaiming(network, "fan_in"),
}
