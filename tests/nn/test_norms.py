"""Norms against torch's layers, against a loop where torch has none, and by hand."""

import copy
import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.errors import UsageError
from visionkit.nn.freeze import NORM_LAYERS, freeze
from visionkit.nn.norms import NORMS, FrozenBatchNorm2d, InstanceNorm2d, LayerNorm2d, SwitchableNorm2d, group_norm
from visionkit.types import Unit

LEARNT = [name for name in NORMS if name not in ("frozen-batch", "none")]


def maps(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0)) + 1


def randomised(norm: nn.Module) -> nn.Module:
    """Scale, shift and statistics that no longer do nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return norm


# All of them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_shape_and_type_stay(name: str, training: bool) -> None:
    norm = NORMS[name](6).train(training)
    assert norm(maps(2, 6, 5, 7)).shape == (2, 6, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(maps(2, 6, 5, 7).bfloat16()).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:var_mean")  # of no image
@pytest.mark.parametrize("name", NORMS)
def test_an_image_in_a_batch_is_what_it_is_alone(name: str) -> None:
    norm = randomised(NORMS[name](6)).eval()
    x = maps(4, 6, 5, 7)
    alone = torch.cat([norm(x[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(norm(x), alone, rtol=1e-5, atol=1e-5)
    assert norm(x[:0]).shape == (0, 6, 5, 7)


@pytest.mark.parametrize("name", LEARNT)
def test_what_comes_out_of_a_fresh_norm_has_mean_0_and_variance_1(name: str) -> None:
    y = NORMS[name](64)(maps(8, 64, 16, 16))
    assert y.mean().item() == pytest.approx(0, abs=1e-3)
    assert y.var().item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
def test_freezing_knows_it(name: str) -> None:
    assert isinstance(NORMS[name](8), NORM_LAYERS)


@pytest.mark.parametrize("name", NORMS)
def test_a_backbone_of_it_learns_on_a_cpu_in_a_fixed_order(name: str) -> None:
    torch.manual_seed(0)
    backbone = CspLight(norm=NORMS[name])
    torch.use_deterministic_algorithms(True)  # as the training loop has it
    try:
        sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    # A convolution has a bias where no norm shifts what it gives.
    assert (backbone.stem.conv.bias is not None) == (name == "none")


# Frozen batch ---------------------------------------------------------------------------------------------------------


def test_frozen_batch_is_batch_in_eval_whatever_is_said() -> None:
    batch = randomised(nn.BatchNorm2d(6)).eval()
    frozen = FrozenBatchNorm2d(6)
    frozen.load_state_dict(batch.state_dict())
    before = copy.deepcopy(frozen.state_dict())
    x = maps(2, 6, 5, 7)
    torch.testing.assert_close(frozen.train()(x), batch(x))
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())
    assert not list(frozen.parameters())


def test_weights_go_both_ways_between_batch_and_frozen_batch() -> None:
    frozen, batch = randomised(FrozenBatchNorm2d(6)), nn.BatchNorm2d(6)
    batch.load_state_dict(frozen.state_dict())
    assert torch.equal(batch.running_var, frozen.running_var)
    old = {name: tensor for name, tensor in batch.state_dict().items() if name != "num_batches_tracked"}
    FrozenBatchNorm2d(6).load_state_dict(old)  # of a checkpoint from before batches were counted


# Group, layer, instance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "groups"),
    # 48: of 1, 2, 3, 4, 6, 8, 12, 16, 24, 48 the largest up to 32. 16: pairs. 24 = 2 * 12. 7 is prime. 1 has no pair.
    [(64, 32), (256, 32), (48, 24), (16, 8), (24, 12), (7, 1), (1, 1)],
)
def test_groups_divide_the_channels_and_hold_two_or_more(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_layer_by_hand() -> None:
    # One pixel whose channels are 1 and 3: mean 2, deviation 1. Another: 0 and 10, mean 5, deviation 5. All -1 and 1.
    x = torch.tensor([[1.0, 0], [3.0, 10]]).view(1, 2, 1, 2)
    expected = torch.tensor([[-1.0, -1], [1, 1]]).view(1, 2, 1, 2)
    torch.testing.assert_close(LayerNorm2d(2)(x), expected, rtol=0, atol=1e-5)


def test_layer_is_torchvisions_of_convnext() -> None:
    ours = randomised(LayerNorm2d(6))
    peer = torchvision.models.convnext.LayerNorm2d(6, eps=1e-6)
    peer.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(maps(2, 6, 5, 7)), peer(maps(2, 6, 5, 7)))


def test_instance_is_torchs() -> None:
    ours = randomised(InstanceNorm2d(6))
    peer = nn.InstanceNorm2d(6, affine=True)
    peer.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(maps(2, 6, 5, 7)), peer(maps(2, 6, 5, 7)))


def test_instance_refuses_a_single_pixel() -> None:
    with pytest.raises(UsageError) as error:
        InstanceNorm2d(6)(maps(2, 6, 1, 1))
    assert str(error.value) == (
        "instance normalisation needs maps of more than one pixel, got 1x1; use larger images, or norm group"
    )


# Switchable -----------------------------------------------------------------------------------------------------------


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def statistics(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def switchable_by_loop(norm: SwitchableNorm2d, x: Tensor) -> Tensor:
    """Equations 2 to 5 of the paper, one value at a time, while training."""
    of_mean, of_variance = softmax(norm.mean_mixture.tolist()), softmax(norm.variance_mixture.tolist())
    y = torch.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            three = [statistics(part.flatten().tolist()) for part in (x[n, c], x[n], x[:, c])]
            mean = sum(share * part[0] for share, part in zip(of_mean, three, strict=True))
            variance = sum(share * part[1] for share, part in zip(of_variance, three, strict=True))
            y[n, c] = norm.weight[c] * (x[n, c] - mean) / math.sqrt(variance + norm.eps) + norm.bias[c]
    return y


def test_switchable_equals_the_loop() -> None:
    norm = randomised(SwitchableNorm2d(4))
    x = maps(3, 4, 5, 2)
    torch.testing.assert_close(norm(x), switchable_by_loop(norm, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_switchable_with_all_of_one_share_is_that_norm(which: int) -> None:
    norm = SwitchableNorm2d(4)
    peer = (nn.InstanceNorm2d(4), nn.GroupNorm(1, 4), nn.BatchNorm2d(4))[which]
    with torch.no_grad():
        norm.mean_mixture[which] = norm.variance_mixture[which] = 100
    x = maps(3, 4, 5, 2)
    torch.testing.assert_close(norm(x), peer(x), rtol=1e-5, atol=1e-5)


def test_switchable_starts_with_equal_shares_and_learns_them() -> None:
    norm = SwitchableNorm2d(4)
    assert norm.mean_mixture.softmax(0).tolist() == pytest.approx([1 / 3] * 3)
    norm(maps(3, 4, 5, 2)).pow(3).sum().backward()
    assert norm.mean_mixture.grad is not None
    assert norm.mean_mixture.grad.abs().max() > 1e-3
    assert norm.variance_mixture.grad is not None
    assert norm.variance_mixture.grad.abs().max() > 1e-3


def test_switchable_gradient() -> None:
    norm = randomised(SwitchableNorm2d(3)).double()
    assert torch.autograd.gradcheck(norm, maps(2, 3, 2, 2).double().requires_grad_())


def test_switchable_evaluates_with_running_statistics_of_the_batch() -> None:
    norm = SwitchableNorm2d(2)
    with torch.no_grad():
        norm.mean_mixture[2] = norm.variance_mixture[2] = 100  # all of the batch
    # Channel 0 holds 0 and 4: mean 2, variance 4; channel 1 holds 1 and 1: mean 1, variance 0.
    norm(torch.tensor([[0.0, 1], [4, 1]]).view(2, 2, 1, 1))
    # A tenth of the way: means from 0 to 0.2 and 0.1, variances from 1 to 0.9 + 0.4 and 0.9.
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.2, 0.1]))
    torch.testing.assert_close(norm.running_var, torch.tensor([1.3, 0.9]))
    y = norm.eval()(torch.ones(1, 2, 1, 1)).flatten().tolist()
    # (1 - 0.2) / sqrt(1.3), (1 - 0.1) / sqrt(0.9)
    assert y == pytest.approx([0.8 / math.sqrt(1.3), 0.9 / math.sqrt(0.9)], abs=1e-4)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.2, 0.1]))


def test_switchable_sums_half_precision_in_single() -> None:
    # Beside 256, bfloat16 has no 257: a mean of 256 and 258 summed in it would be off.
    norm = SwitchableNorm2d(1)
    norm(torch.tensor([256.0, 258]).bfloat16().view(1, 1, 1, 2))
    assert norm.running_mean.item() == pytest.approx(25.7)


def test_freezing_holds_the_statistics_of_switchable() -> None:
    model = nn.Sequential(SwitchableNorm2d(3), nn.Conv2d(3, 3, 1))
    frozen = freeze(model, [Unit("norm", ("0",)), Unit("head", ("1",))], [0])
    model.train()(maps(2, 3, 4, 4)).sum().backward()
    assert frozen.norm_layers == 1
    assert torch.equal(model[0].running_mean, torch.zeros(3))
    assert all(parameter.grad is None for parameter in model[0].parameters())
