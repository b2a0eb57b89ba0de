"""Every loss says its formula's range, keeps to it, and comes as near to both of its ends as anyone likes."""

import math
import re

import pytest
import torch
from torch import Tensor

from visionkit.ops.losses import BOX_LOSSES, CLASS_LOSSES, LOSSES, NUMBER_LOSSES

# By name: the range that its docstring says; a prediction and a truth for which it is least, and for which it is most.
FAR = 1e6
POINT, FAR_POINT = [0.0, 0, 1, 1], [FAR, 0, FAR + 1, 1]
LYING, FAR_STANDING = [0.0, 0, 1000, 1], [FAR, 0, FAR + 1, 1000]
ENDLESS = "[0, inf)"
RANGES: dict[str, str] = {
    "iou": "[0, 1]",
    "giou": "[0, 2)",  # 1, and all of the hull but the boxes
    "diou": "[0, 2)",  # 1, and a squared distance that is nearly the squared diagonal
    "ciou": "[0, 2.5)",  # likewise, and v² / (1 + v), 1/2 for v = 1: one box lies, the other stands
    **dict.fromkeys(("l1", "smooth-l1", "mse", "bce", "quality-focal", "varifocal", "focal", "hinge"), ENDLESS),
    **dict.fromkeys(("cross-entropy", "softmax-focal"), ENDLESS),
    "dice": "[0, 1)",
}


def best_and_worst(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A prediction that is all right and one that is all wrong, each with its truth; f64."""
    if name in BOX_LOSSES:
        near, far = (LYING, FAR_STANDING) if name == "ciou" else (POINT, FAR_POINT)
        box, other = (torch.tensor([corners], dtype=torch.double) for corners in (near, far))
        return (box, box), (box, other)
    if name in CLASS_LOSSES:
        sure, label = torch.tensor([[1e4, 0.0]], dtype=torch.double), torch.tensor([0])
        return (sure, label), (-sure, label)
    if name == "dice":
        everywhere = torch.ones(1, 1000, 1000, dtype=torch.double)
        return (everywhere, everywhere), (everywhere, 0 * everywhere)
    one, much = torch.ones(1, dtype=torch.double), torch.tensor([1e4], dtype=torch.double)
    if name in NUMBER_LOSSES:
        return (one, one), (much, one)
    return (much, one), (-much, one)


def ends(name: str) -> tuple[float, float, bool]:
    """Of the range: its lower end, its upper end, and whether that belongs to it."""
    found = re.fullmatch(r"\[(\d), ([\d.]+|inf)([])])", RANGES[name])
    assert found
    return float(found[1]), float(found[2]), found[3] == "]"


def test_every_loss_says_its_range() -> None:
    assert set(RANGES) == set(LOSSES)
    for name, loss in LOSSES.items():
        assert f"in {RANGES[name]}" in " ".join((loss.__doc__ or "").split()), name


@pytest.mark.parametrize("name", LOSSES)
def test_the_ends_of_the_range(name: str) -> None:
    low, high, reached = ends(name)
    right, wrong = best_and_worst(name)
    assert LOSSES[name](*right).item() == pytest.approx(low, abs=1e-6)
    worst = LOSSES[name](*wrong).item()
    if high == math.inf:
        assert worst > 2000
    elif reached:
        assert worst == high
    else:
        assert 0.99 * high < worst < high


@pytest.mark.parametrize("name", LOSSES)
def test_no_value_lies_beyond(name: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        # From a thousandth to a thousand: small and large, near and far.
        return torch.randn(*shape, generator=generator) * 10 ** (6 * torch.rand(shape, generator=generator) - 3)

    if name in BOX_LOSSES:
        corners, sides = drawn(2, 2000, 2), drawn(2, 2000, 2).abs()
        predictions, targets = torch.cat((corners, corners + sides), 2)
    elif name in CLASS_LOSSES:
        predictions, targets = drawn(2000, 5), torch.randint(5, (2000,), generator=generator)
    else:
        predictions, targets = drawn(2000, 4), (drawn(2000, 4) > 0).float()
        predictions = predictions.sigmoid() if name == "dice" else predictions
    low, high, _ = ends(name)
    losses = LOSSES[name](predictions, targets)
    assert losses.isfinite().all()
    # Single precision may lose a step around 1, and end where it only comes near.
    assert low - 1e-6 <= losses.min()
    assert losses.max() <= high
