"""A fresh transposed convolution is bilinear interpolation, and one that learns learns by itself."""

import pytest
import torch
import torch.nn.functional as F

from visionkit.nn.upsample import BilinearUpsample, bilinear_kernel


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_a_fresh_one_is_interpolation_up_to_its_border(factor: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    upsample = BilinearUpsample(3, factor).double()
    wanted = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert upsample(x).shape == wanted.shape
    torch.testing.assert_close(upsample(x), wanted, rtol=0, atol=1e-6)  # the kernel is single precision


def test_the_kernel_of_two_by_hand() -> None:
    # Centres of coarse pixels lie 2 apart, a fine pixel 0.5 or 1.5 from them: weights 1 - 0.25 and 1 - 0.75.
    torch.testing.assert_close(bilinear_kernel(2)[1], torch.tensor([0.25, 0.75, 0.75, 0.25]) * 0.75)


def test_a_line_of_two_pixels_by_hand() -> None:
    # 0 and 8, twice as wide: the ends stay, between them 8 * 1/4 and 8 * 3/4.
    x = torch.tensor([[[[0.0, 8.0]]]])
    assert BilinearUpsample(1, 2)(x)[0, 0].tolist() == [[0, 2, 6, 8]] * 2


def test_channels_do_not_mix() -> None:
    x = torch.zeros(1, 2, 3, 3)
    x[:, 1] = 1
    y = BilinearUpsample(2, 4)(x)
    assert y[:, 0].abs().max() == 0
    torch.testing.assert_close(y[:, 1], torch.ones(1, 12, 12))


def test_an_empty_batch_stays_empty() -> None:
    assert BilinearUpsample(2, 4)(torch.zeros(0, 2, 3, 3)).shape == (0, 2, 12, 12)


def test_a_batch_is_its_images_one_by_one() -> None:
    x, upsample = torch.randn(3, 2, 4, 5), BilinearUpsample(2, 8)
    torch.testing.assert_close(upsample(x), torch.cat([upsample(one[None]) for one in x]))


@pytest.mark.parametrize("learnable", [True, False])
def test_only_a_learnable_one_has_parameters_and_both_have_the_same_state(learnable: bool) -> None:
    upsample = BilinearUpsample(2, 4, learnable=learnable)
    assert len(list(upsample.parameters())) == learnable
    assert {name: value.shape for name, value in upsample.state_dict().items()} == {"weight": (2, 1, 8, 8)}


@pytest.mark.parametrize("learnable", [True, False])
def test_under_autocast_it_stays_in_single_precision(learnable: bool) -> None:
    x, upsample = torch.randn(1, 2, 3, 4).bfloat16(), BilinearUpsample(2, 4, learnable=learnable)
    with torch.autocast("cpu", torch.bfloat16):
        y = upsample(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, upsample(x.float()), rtol=0, atol=0)


def test_gradients_reach_input_and_kernel() -> None:
    upsample = BilinearUpsample(1, 2, learnable=True).double()
    x = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(upsample, x)
    upsample(x).sum().backward()
    assert upsample.weight.grad is not None
    assert upsample.weight.grad.abs().sum() > 0
