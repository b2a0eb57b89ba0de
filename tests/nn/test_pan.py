"""The path aggregation neck: strides stay, widths change, every output hears of every input."""

import pytest
import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.nn.pan import PathAggregation
from visionkit.types import Level

LEVELS = (Level(4, 8), Level(6, 16), Level(8, 32))


def maps(levels: tuple[Level, ...], side: int = 64, batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, level.channels, side // level.stride, side // level.stride) for level in levels]


@pytest.mark.parametrize(
    ("levels", "widths"),
    [
        (LEVELS, (4, 6, 8)),
        (LEVELS, (2, 4, 4)),  # a backbone wider than the neck: brought down first
        (LEVELS, (8, 8, 16)),  # and one that is narrower
        (LEVELS, (2, 8, 4)),
        (LEVELS[:2], (4, 6)),
        (LEVELS[1:2], (6,)),
        ((*LEVELS, Level(10, 64)), (4, 4, 12, 8)),
    ],
)
def test_widths_and_strides(levels: tuple[Level, ...], widths: tuple[int, ...]) -> None:
    neck = PathAggregation(levels, widths)
    inputs = maps(levels)
    outputs = neck(inputs)
    assert neck.levels == tuple(Level(width, level.stride) for width, level in zip(widths, levels, strict=True))
    assert [y.shape for y in outputs] == [(2, width, *x.shape[-2:]) for width, x in zip(widths, inputs, strict=True)]


def test_every_output_depends_on_every_input() -> None:
    neck = PathAggregation(LEVELS, (4, 6, 8)).eval()
    inputs = [x.requires_grad_() for x in maps(LEVELS)]
    for output in neck(inputs):
        gradients = torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_lateral_convolutions_stand_only_where_the_backbone_is_wider() -> None:
    neck = PathAggregation(LEVELS, (8, 6, 4))
    assert [isinstance(lateral, nn.Identity) for lateral in neck.lateral] == [True, True, False]


def test_sides_that_are_odd_in_cells_fit_together() -> None:
    # 96 pixels: 12, 6 and 3 cells.
    outputs = PathAggregation(LEVELS, (4, 6, 8))(maps(LEVELS, side=96))
    assert [y.shape[-1] for y in outputs] == [12, 6, 3]


def test_inputs_are_left_as_they_were() -> None:
    inputs = maps(LEVELS)
    before = list(inputs)
    PathAggregation(LEVELS, (4, 6, 8))(inputs)
    assert all(x is y for x, y in zip(inputs, before, strict=True))


def test_a_batch_equals_its_images_one_by_one() -> None:
    neck = PathAggregation(LEVELS, (4, 6, 8)).eval()
    inputs = maps(LEVELS, batch=3)
    together = neck(inputs)
    for b in range(3):
        for whole, one in zip(together, neck([x[b : b + 1] for x in inputs]), strict=True):
            torch.testing.assert_close(whole[b : b + 1], one)


def test_strides_that_do_not_double_are_refused() -> None:
    with pytest.raises(UsageError, match=r"needs levels whose strides double, got \[8, 32\]"):
        PathAggregation((LEVELS[0], LEVELS[2]), (4, 8))
