"""The exponential moving average of weights: what is evaluated, saved and shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of a model whose weights follow the trained ones slowly.

    Source: Polyak and Juditsky 1992, in the exponential form of Tarvainen and Valpola 2017, Mean Teacher. Until step
    `horizon` it is the plain mean of all steps, or the first random weights would linger.

    Frozen tensors are equal in both and never touched, so that not even rounding can move them.

    Args:
        model: the model in training.
        horizon: optimizer steps that the average looks back.
    """

    def __init__(self, model: nn.Module, horizon: int) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.horizon = horizon

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take one optimizer step's weights in; `step` counts from 1."""
        share = 1 / min(step + 1, self.horizon)
        averages = dict(self.model.named_parameters())
        learnt = [(averages[name], p) for name, p in model.named_parameters() if p.requires_grad]
        torch._foreach_lerp_([a for a, _ in learnt], [p for _, p in learnt], share)
        # Running statistics are averages already.
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
