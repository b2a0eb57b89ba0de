"""Stochastic depth: residual branches left out at random while training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Each image's branch is zeroed with probability `drop`, else divided by 1 - drop; in eval nothing happens.

    Source: Huang et al. 2016, Deep Networks with Stochastic Depth, section 3, per image, and scaled while training
    instead of in eval, as the networks that use it here do (Tan and Le 2019, EfficientNet; Liu et al. 2022, ConvNeXt).

    It draws from torch's generator of the device, as `nn.Dropout` does. The training loop seeds that generator before
    each step by (seed, epoch, step), so what is dropped does not depend on where a run stopped.

    Args:
        drop: probability in 0..1 (1 excluded) that an image goes without the branch.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return branch
        kept = torch.empty(len(branch), *[1] * (branch.ndim - 1), dtype=branch.dtype, device=branch.device)
        return branch * kept.bernoulli_(1 - self.drop).div_(1 - self.drop)

    def extra_repr(self) -> str:
        return f"drop={self.drop:g}"
