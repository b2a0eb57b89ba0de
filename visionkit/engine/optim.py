"""Which parameters learn, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.engine.muon import Muon
from visionkit.engine.settings import TrainSettings


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters that learn, in two groups: those that decay, and norms and biases, which do not.

    Decaying a norm's scale or any bias only fights the data (He et al. 2018, Bag of Tricks, section 3.1). A parameter
    without gradient, frozen or unused, is in no group: no decay and no momentum can reach it.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer over everything in the model that learns; call it after freezing."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.optimizer == "muon":
        return Muon(_apart(groups, hidden_matrices(model)), lr=settings.lr, betas=(settings.momentum, 0.999))
    # Fused: one pass over each tensor instead of one an arithmetic step.
    if settings.optimizer == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999), fused=True)


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """The weights that Muon is for: those of layers between input and output whose scale a norm takes away.

    That are convolutions and linear layers without a bias of their own, because a norm follows, except those that see
    pixels and depthwise ones, which are not matrices. Predictors have a bias.
    """
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is None and module.weight.shape[1] > 3
    ]


def _apart(groups: list[dict[str, Any]], matrices: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The groups, each parted into what is orthogonalised and what is not."""
    chosen = {id(p) for p in matrices}
    parted = [
        {**group, "params": [p for p in group["params"] if (id(p) in chosen) == orthogonal], "orthogonal": orthogonal}
        for group in groups
        for orthogonal in (True, False)
    ]
    return [group for group in parted if group["params"]]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
