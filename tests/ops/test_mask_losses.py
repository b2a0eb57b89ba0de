"""Losses of objects' masks: by hand, by row, by gradient, and of none."""

import math

import pytest
import torch

from visionkit.errors import ConfigError
from visionkit.ops.loss_sums import weighted_names
from visionkit.ops.mask_losses import OBJECT_MASK_LOSSES

LOG3 = math.log(3)  # the logit of 3/4

# A mask of two cells, each said with 3/4; the first is inside.
LOGITS, TRUTH = torch.full((1, 1, 2), LOG3), torch.tensor([[[True, False]]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bce", -(math.log(3 / 4) + math.log(1 / 4)) / 2),
        # 1/4 * (1/4)² and 3/4 * (3/4)² of these.
        ("focal", -(math.log(3 / 4) / 64 + math.log(1 / 4) * 27 / 64) / 2),
        # 2 * 3/4 + 1 over 2 * 9/16 + 1 + 1.
        ("dice", 1 - 2.5 / 3.125),
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    assert OBJECT_MASK_LOSSES[name](LOGITS, TRUTH).tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("name", OBJECT_MASK_LOSSES)
def test_a_value_a_mask_with_a_gradient_and_none_of_none(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, dtype=torch.double, generator=generator, requires_grad=True)
    truth = torch.rand(3, 4, 5, generator=generator) > 0.5
    loss = OBJECT_MASK_LOSSES[name]
    rows = [loss(logits[i : i + 1], truth[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss(logits, truth), torch.cat(rows))
    assert torch.autograd.gradcheck(lambda x: loss(x, truth), logits)
    assert loss(logits[:0], truth[:0]).shape == (0,)
    assert loss(logits.bfloat16(), truth).dtype == torch.float32


def test_a_sum_by_name() -> None:
    assert weighted_names("bce+.5 * dice", OBJECT_MASK_LOSSES, "mask_loss") == {"bce": 1, "dice": 0.5}
    with pytest.raises(ConfigError) as error:
        weighted_names("bce, dice", OBJECT_MASK_LOSSES, "mask_loss")
    assert str(error.value) == (
        "mask_loss must be a sum of bce, focal, dice, each at most once, got 'bce, dice'; for example bce + 0.5*dice"
    )
