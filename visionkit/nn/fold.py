"""Batch normalisation folded into the convolution before it: with constant statistics the two are one affine map."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn

from visionkit.nn.norms import FrozenBatchNorm2d

HOUSE = __name__.partition(".")[0]

BatchNorm = nn.BatchNorm2d | FrozenBatchNorm2d


def folded(model: nn.Module) -> nn.Module:
    """A copy of a model that predicts the same with fewer layers, but for rounding; the model itself where it has
    nothing to fold. Of no use to learn with.

    A convolution and the norm behind it, `scale * (w x + b - mean) + shift` with `scale = weight / sqrt(variance +
    eps)`, become one convolution of weights `scale * w` and bias `scale * (b - mean) + shift`; an identity takes the
    norm's place.

    Source: Jacob et al. 2017, Quantization and Training of Neural Networks, section 3.2, equation 14.
    """
    if next(_pairs(model), None) is None:
        return model
    model = copy.deepcopy(model)
    for parent, name, convolution, norm in list(_pairs(model)):
        _fold(convolution, norm)
        setattr(parent, name, nn.Identity())
    return model


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d, BatchNorm]]:
    """Each convolution with the norm that alone reads it, and where that norm is registered."""
    for parent in model.modules():
        if _runs_in_order(parent):
            for (_, first), (name, second) in pairwise(parent.named_children()):
                # Kinds of their own, such as timm's norms that end in an activation, are more than their base.
                if type(first) is nn.Conv2d and type(second) in (nn.BatchNorm2d, FrozenBatchNorm2d):
                    assert isinstance(second, BatchNorm)
                    if second.running_var is not None:
                        yield parent, name, first, second


def _runs_in_order(parent: nn.Module) -> bool:
    """Whether a norm among the children reads the convolution registered before it: by definition in a Sequential, by
    custom in the modules of this package, and not for certain in anybody else's."""
    return type(parent).forward is nn.Sequential.forward or type(parent).__module__.partition(".")[0] == HOUSE


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: BatchNorm) -> None:
    """Make the convolution do the norm's work too. In double precision: the product is rounded once."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean.double() if convolution.bias is None else convolution.bias.double() - mean.double()
    bias = scale * shift
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    weight = convolution.weight
    convolution.weight = nn.Parameter((weight.double() * scale.view(-1, 1, 1, 1)).to(weight.dtype))
    convolution.bias = nn.Parameter(bias.to(weight.dtype))
