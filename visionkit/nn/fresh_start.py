"""First weights of the layers behind a backbone, which start fresh where the backbone's are loaded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    # Glorot and Bengio 2010, Understanding the Difficulty of Training Deep Feedforward Neural Networks, equation 16
    "xavier": nn.init.xavier_uniform_,
    # He et al. 2015, Delving Deep into Rectifiers, equation 10
    "kaiming": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
}


def start_behind_backbone(model: nn.Module, name: str, seed: int) -> None:
    """Draw the weights of all convolutions and linear layers outside `model.backbone` anew; biases stay as they are,
    since a predictor's holds how rare its class is (Lin et al. 2017, Focal Loss, section 4.1).

    Args:
        name: of `WEIGHTS`; another leaves everything as it is.
        seed: of the run; layers draw in their order.
    """
    if name not in WEIGHTS:
        return
    inside = set(model.get_submodule("backbone").modules())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module not in inside:
                WEIGHTS[name](module.weight)
