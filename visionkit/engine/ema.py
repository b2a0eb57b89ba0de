"""The exponential moving average of weights: what is evaluated, saved and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from visionkit.nn.freeze import is_held

DECAY = 4
"""Shamir and Zhang's eta: at the highest learning rate the average looks back over a fifth of the steps taken."""


class WeightAverage:
    """A copy of a model whose weights follow the trained ones slowly.

    Source: the exponential average of Tarvainen and Valpola 2017, Mean Teacher; before its horizon is reached, the
    polynomial-decay average of Shamir and Zhang 2013, "Stochastic Gradient Descent for Non-smooth Optimization",
    section 4, which looks back over a share of the steps taken, so that the first random weights do not linger.

    It looks back the less, the lower the learning rate: what an average is to even out are the noisy steps of a high
    rate. As a schedule lets the weights come to rest, looking back only leaves out what was learnt last; docs/recipe.md
    says what that costs.

    Frozen tensors are equal in both and never touched, so that not even rounding can move them.

    Args:
        model: the model in training, on its device already.
        horizon: the most optimizer steps that the average looks back, at the highest learning rate.
    """

    def __init__(self, model: nn.Module, horizon: int) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.horizon = horizon
        # Looked up once: optimizers and `load_state_dict` change tensors, they do not exchange them.
        self._parameters = list(zip(self.model.parameters(), model.parameters(), strict=True))
        self._buffers = [
            (average, value, model.get_submodule(name.rpartition(".")[0]))
            for average, (name, value) in zip(self.model.buffers(), model.named_buffers(), strict=True)
        ]

    @torch.no_grad()
    def update(self, step: int, rate: float = 1.0) -> None:
        """Take one optimizer step's weights in.

        Args:
            step: counted from 1.
            rate: the step's learning rate, as a share of the run's highest.
        """
        share = max((DECAY + 1) / (step + DECAY), 1 / self.horizon)
        share = share / rate if rate > share else 1.0
        learnt: list[tuple[Tensor, Tensor]] = [pair for pair in self._parameters if pair[1].requires_grad]
        # Running statistics too: today's belong to today's weights, not to the mean of yesterday's.
        for average, value, module in self._buffers:
            if is_held(module):
                continue  # not even a -0 may become a 0, as it would by averaging it with itself
            if value.is_floating_point():
                learnt.append((average, value))
            else:
                average.copy_(value)
        torch._foreach_lerp_([average for average, _ in learnt], [value for _, value in learnt], share)
