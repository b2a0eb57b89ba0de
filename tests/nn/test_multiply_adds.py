"""Multiply-adds by hand, and beside torch's own count of FLOPs."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visionkit.build import BACKBONES, MODELS
from visionkit.nn.multiply_adds import counting_multiply_adds
from visionkit.nn.squeeze_excitation import SqueezeExcitation
from visionkit.nn.upsample import BilinearUpsample


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(3, 16, 5, padding=2), (1, 3, 8, 8), 16 * 8 * 8 * 3 * 5 * 5),
        (nn.Conv2d(3, 16, 5, stride=2, padding=2), (1, 3, 8, 8), 16 * 4 * 4 * 3 * 5 * 5),
        # Of 4 groups each result reads 8 / 4 channels.
        (nn.Conv2d(8, 16, 3, padding=1, groups=4), (1, 8, 4, 6), 16 * 4 * 6 * 2 * 3 * 3),
        (nn.Conv2d(3, 1, 1), (2, 3, 5, 5), 2 * 5 * 5 * 3),  # both images of the batch
        # Each of 8 * 4 * 4 numbers is spread over 6 channels of 4x4.
        (nn.ConvTranspose2d(8, 6, 4, 2, 1), (1, 8, 4, 4), 8 * 4 * 4 * 6 * 4 * 4),
        (nn.ConvTranspose2d(8, 6, 2, 2, groups=2), (1, 8, 4, 4), 8 * 4 * 4 * 3 * 2 * 2),
        # Made twice as large, each channel by itself, by a kernel of 4x4; the continued border is left out.
        (BilinearUpsample(5, 2), (1, 5, 3, 3), 5 * 3 * 3 * 4 * 4),
        (nn.Linear(7, 5), (10, 7), 10 * 7 * 5),
        (nn.Linear(7, 5), (1, 2, 3, 7), 2 * 3 * 7 * 5),
        # 1x1 convolutions of a single cell: 8 * 2 and 2 * 8. The average and the product do not count.
        (SqueezeExcitation(8, 2), (1, 8, 9, 9), 8 * 2 + 2 * 8),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (1, 3, 8, 8), 0),
    ],
)
def test_by_hand(module: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    module.eval()
    with counting_multiply_adds(module) as counts:
        module(torch.zeros(shape))
    assert counts.total() == expected
    module(torch.zeros(shape))  # after the block nothing is counted
    assert counts.total() == expected


def test_each_call_counts() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1)
    with counting_multiply_adds(conv) as counts:
        conv(conv(torch.zeros(1, 1, 4, 4)))
    assert counts == {conv: 2 * 16 * 9}


def test_hooks_go_when_the_forward_fails() -> None:
    conv = nn.Conv2d(1, 1, 3)
    with pytest.raises(RuntimeError), counting_multiply_adds(conv):
        conv(torch.zeros(1, 2, 4, 4))
    assert not conv._forward_hooks


@pytest.mark.parametrize("name", ["csp-light", "se-resnet18", "convnext-tiny", "yolo"])
def test_half_of_torchs_flops(name: str) -> None:
    network = MODELS[name](BACKBONES["csp-light"](), 3) if name in MODELS else BACKBONES[name]()
    network.eval()
    with torch.no_grad(), counting_multiply_adds(network) as counts, FlopCounterMode(display=False) as flops:
        network(torch.zeros(1, 3, 64, 96))
    assert 2 * counts.total() == flops.get_total_flops()
