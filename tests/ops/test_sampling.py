"""Balanced sampling: how many of what, and that only the key decides which."""

import pytest
import torch
from torch import Tensor

from visionkit.ops.matching import BACKGROUND, IGNORE, POSITIVE
from visionkit.ops.sampling import balanced_sample, step_key


def labels(positive: int, background: int, ignore: int = 0) -> Tensor:
    label = torch.tensor([POSITIVE] * positive + [BACKGROUND] * background + [IGNORE] * ignore, dtype=torch.int64)
    return label[torch.randperm(len(label), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("positive", "background", "drawn"),
    [
        (50, 500, (16, 48)),  # a quarter of 64, and the rest
        (3, 500, (3, 61)),  # too few: background takes their places
        (50, 10, (16, 10)),  # positive ones never take those of background
        (0, 500, (0, 64)),
        (5, 0, (5, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_how_many(positive: int, background: int, drawn: tuple[int, int]) -> None:
    label = labels(positive, background, ignore=30)
    chosen = balanced_sample(label, 64, 0.25, key=1)
    assert label[chosen].tolist() == [POSITIVE] * drawn[0] + [BACKGROUND] * drawn[1]
    assert len(chosen.unique()) == len(chosen)


def test_the_key_decides_and_nothing_else() -> None:
    label = labels(50, 500)
    first = balanced_sample(label, 64, 0.25, key=1)
    torch.rand(7)
    assert torch.equal(balanced_sample(label, 64, 0.25, key=1), first)
    assert not torch.equal(balanced_sample(label, 64, 0.25, key=2), first)


def test_sampling_draws_nothing_from_the_running_generator() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    balanced_sample(labels(50, 500), 64, 0.25, step_key(0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_box_may_be_drawn() -> None:
    label = labels(4, 4)
    seen = {int(i) for key in range(40) for i in balanced_sample(label, 4, 0.5, key)}
    assert seen == set(range(8))


def test_a_step_has_its_own_keys_whatever_was_drawn_in_it() -> None:
    torch.manual_seed(5)
    keys = [step_key(stage, image) for stage in (0, 1) for image in (0, 1)]
    torch.rand(3)
    assert [step_key(stage, image) for stage in (0, 1) for image in (0, 1)] == keys
    assert len(set(keys)) == 4
    torch.manual_seed(6)
    assert step_key(0, 0) not in keys
