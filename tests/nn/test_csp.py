"""Convolution, cross-stage partial and pooling blocks: shapes, names, and what flows where."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from visionkit.nn.conv import ConvNormAct, Residual
from visionkit.nn.csp import CspBlock, SpatialPyramidPool


def random_norms(module: nn.Module) -> None:
    """Statistics and affine weights that no longer do nothing."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.1)


@pytest.mark.parametrize(("kernel", "stride", "side"), [(1, 1, 7), (3, 1, 7), (3, 2, 4), (5, 1, 7)])
def test_convolution_keeps_or_halves_the_size(kernel: int, stride: int, side: int) -> None:
    block = ConvNormAct(3, 5, kernel, stride)
    assert block(torch.rand(2, 3, 7, 7)).shape == (2, 5, side, side)


def test_convolution_block_is_convolution_norm_hard_swish() -> None:
    block = ConvNormAct(2, 4, 3).eval()
    random_norms(block)
    x = torch.randn(1, 2, 5, 5)
    normed = block.norm(F.conv2d(x, block.conv.weight, padding=1))
    torch.testing.assert_close(block(x), normed * (normed + 3).clamp(0, 6) / 6)
    assert {name for name, _ in block.named_parameters()} == {"conv.weight", "norm.weight", "norm.bias"}


def test_depthwise_convolution_has_one_kernel_a_channel() -> None:
    assert ConvNormAct(6, 6, 3, groups=6).conv.weight.shape == (6, 1, 3, 3)


def test_residual_adds_its_input_or_not() -> None:
    block = Residual(4).eval()
    random_norms(block)
    x = torch.randn(1, 4, 5, 5)
    with_residual = block(x)
    block.shortcut = False
    torch.testing.assert_close(with_residual - x, block(x))


def test_csp_block_lets_half_the_channels_pass_by() -> None:
    block = CspBlock(6, 8, depth=2).eval()
    random_norms(block)
    x = torch.randn(2, 6, 5, 5)
    worked = block.blocks[1](block.blocks[0](block.entry(x)))
    torch.testing.assert_close(block(x), block.transition(torch.cat((worked, block.bypass(x)), 1)))


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("channels", [(6, 8), (8, 6), (3, 7)])
def test_csp_block_shapes(channels: tuple[int, int], depth: int) -> None:
    assert CspBlock(*channels, depth)(torch.rand(2, channels[0], 4, 6)).shape == (2, channels[1], 4, 6)


def test_spatial_pyramid_pools_over_5_9_and_13_cells() -> None:
    block = SpatialPyramidPool(8).eval()
    random_norms(block)
    x = torch.randn(2, 8, 17, 15)
    y = block.entry(x)
    pools = [F.max_pool2d(y, size, stride=1, padding=size // 2) for size in (5, 9, 13)]
    assert torch.equal(block(x), block.transition(torch.cat((y, *pools), 1)))


@pytest.mark.parametrize("block", [ConvNormAct(4, 4, 3), Residual(4), CspBlock(4, 4, 2), SpatialPyramidPool(4)])
def test_a_batch_equals_its_images_and_every_parameter_gets_a_gradient(block: nn.Module) -> None:
    x = torch.randn(3, 4, 6, 6, requires_grad=True)
    y = block.eval()(x)
    torch.testing.assert_close(y, torch.cat([block(image[None]) for image in x]))
    y.square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())
