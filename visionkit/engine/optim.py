"""Which parameters learn, and how."""

from __future__ import annotations

import torch
from torch import nn

from visionkit.engine.settings import TrainSettings


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
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
    # Fused: one pass over each tensor instead of one an arithmetic step.
    if settings.optimizer == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999), fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
