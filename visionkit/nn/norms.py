"""Normalisation layers of feature maps [B, C, H, W], by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.errors import UsageError

Norm = Callable[[int], nn.Module]
"""Channels -> a layer that keeps the shape of its input."""

MOST_GROUPS = 32


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics, scale and shift are constants: buffers, not parameters.

    Meant for weights that were trained with batch normalisation and are fine-tuned in batches too small to measure
    statistics. The names are those of `nn.BatchNorm2d`, so the weights of each fit the other.

    Source: He et al. 2015, Deep Residual Learning, appendix A.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, start in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), start))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # Checkpoints from before torch counted batches lack it; `nn.BatchNorm2d` reads them too.
        state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, *others)


def group_norm(channels: int) -> nn.GroupNorm:
    """Over groups of neighbouring channels of one image. Source: Wu and He 2018, Group Normalization.

    The groups are the paper's 32, or where these do not divide the channels the most below 32 that do; but never of
    one channel, which would be instance normalisation.

    >>> [group_norm(channels).num_groups for channels in (256, 48, 16, 7)]
    [32, 24, 8, 1]
    """
    most = min(MOST_GROUPS, max(1, channels // 2))
    return nn.GroupNorm(max(g for g in range(1, most + 1) if channels % g == 0), channels)


class LayerNorm2d(nn.Module):
    """Over the channels of each pixel by itself.

    Source: Ba et al. 2016, Layer Normalization; of feature maps as Liu et al. 2022, ConvNeXt, section 2.6.

    Parameter names: `weight`, `bias`.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps)
        return last.movedim(-1, 1)


class InstanceNorm2d(nn.Module):
    """Over the pixels of each channel of each image. Source: Ulyanov et al. 2016, Instance Normalization.

    Parameter names: `weight`, `bias`.

    Raises:
        UsageError: in `forward`, a map of a single pixel, of which nothing would be left.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):
            raise UsageError(
                "instance normalisation needs maps of more than one pixel, got 1x1; use larger images, or norm group"
            )
        # As groups of one channel: torch's own takes no empty batch.
        return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)


class SwitchableNorm2d(nn.Module):
    """With a mean and a variance mixed from those of the instance, the layer and the batch; the shares are learnt.

    Source: Luo et al. 2018, Differentiable Learning-to-Normalize via Switchable Normalization, equations 2 to 5. As
    statistics of the batch, evaluation takes running averages, as batch normalisation does; the paper counts them again
    over a number of batches at the end (section 3.3, batch average).

    Parameter names: `weight`, `bias`; `mean_mixture`, `variance_mixture` [3], of instance, layer, batch, whose softmax
    gives the shares. Buffers: `running_mean`, `running_var`.

    Args:
        momentum: share of a batch in the running averages.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean_mixture = nn.Parameter(torch.ones(3))
        self.variance_mixture = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # Half precision is too coarse for sums over a whole map.
        full = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(full, (2, 3), correction=0)  # of instances, [B, C]
        layer_variance, layer_mean = _pooled(variance, mean, 1)
        if self.training:
            batch_variance, batch_mean = _pooled(variance, mean, 0)
            with torch.no_grad():
                self.running_mean.lerp_(batch_mean[0].to(self.running_mean), self.momentum)
                self.running_var.lerp_(batch_variance[0].to(self.running_var), self.momentum)
        else:
            batch_variance, batch_mean = self.running_var[None], self.running_mean[None]
        mean = _mixed(self.mean_mixture, mean, layer_mean, batch_mean)
        variance = _mixed(self.variance_mixture, variance, layer_variance, batch_variance)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[..., None, None], full, scale[..., None, None]).to(x.dtype)


def _pooled(variance: Tensor, mean: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Variance and mean of equal parts together: equation 3, with the variance of the means instead of a difference of
    squares, which can be negative."""
    variance_of_means, whole_mean = torch.var_mean(mean, axis, correction=0, keepdim=True)
    return variance.mean(axis, keepdim=True) + variance_of_means, whole_mean


def _mixed(mixture: Tensor, instance: Tensor, layer: Tensor, batch: Tensor) -> Tensor:
    shares = mixture.softmax(0)
    return shares[0] * instance + shares[1] * layer + shares[2] * batch


def no_norm(channels: int) -> nn.Identity:
    """Nothing; the convolution before it then needs a bias of its own."""
    return nn.Identity()


NORMS: dict[str, Norm] = {
    "batch": nn.BatchNorm2d,  # Ioffe and Szegedy 2015, Batch Normalization
    "frozen-batch": FrozenBatchNorm2d,
    "group": group_norm,
    "layer": LayerNorm2d,
    "instance": InstanceNorm2d,
    "switchable": SwitchableNorm2d,
    "none": no_norm,
}
