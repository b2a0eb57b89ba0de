"""Parts of a batch, each with the counts of the whole, have losses and gradients that add up to the whole's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from visionkit.build import build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.ops.global_count import learning_together
from visionkit.types import Target

CLASSES = ClassTable((1, 2), ("a", "b"))


class Noting:
    """Two processes one after the other: first their counts are noted, then the sums of these are given."""

    rank, world_size = 0, 2

    def __init__(self, sums: Sequence[Tensor] = ()) -> None:
        self.counts: list[Tensor] = []
        self.sums = iter(sums)
        self.gives = bool(sums)

    def sum(self, tensor: Tensor) -> Tensor:
        self.counts.append(tensor.detach().clone())
        return next(self.sums) if self.gives else tensor


def batch(images: int) -> tuple[Tensor, list[Target]]:
    """Images of 64 px with none to three objects each: the parts have unlike counts."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (images, 3, 64, 64), generator=random).float()
    targets = []
    for i in range(images):
        corner = torch.rand((i % 4, 2), generator=random) * 30
        side = 12 + torch.rand((i % 4, 2), generator=random) * 20
        labels = torch.randint(0, 2, (i % 4,), generator=random)
        targets.append(Target(torch.cat((corner, corner + side), 1), labels, torch.zeros(i % 4, dtype=torch.bool)))
    return pixels, targets


def learnt(model: Any, images: Tensor, targets: Sequence[Target], processes: Any = None) -> tuple[Tensor, Tensor]:
    """The total loss, and all gradients in one row."""
    model.zero_grad(set_to_none=True)
    with learning_together(processes):
        losses = model.loss(model(images, targets=targets), targets)
    losses.total.backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    return losses.total.detach(), torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in learning]
    )


@pytest.mark.parametrize("name", ["yolo", "yolov1", "retinanet"])
def test_parts_add_up_to_the_whole(name: str) -> None:
    # With fixed statistics: batch norms that measure their own part differ from those of the whole, by intent.
    model = build_model(Recipe(model=name, imgsz=64), CLASSES).eval()
    images, targets = batch(6)
    whole, gradients = learnt(model, images, targets)
    parts = [(images[:2], targets[:2]), (images[2:], targets[2:])]
    counts = []
    for part in parts:
        noting = Noting()
        learnt(model, *part, noting)
        counts.append(noting.counts)
    assert counts[0]
    sums = [a + b for a, b in zip(*counts, strict=True)]
    results = [learnt(model, *part, Noting(sums)) for part in parts]
    assert float(results[0][0] + results[1][0]) == pytest.approx(float(whole), rel=1e-5)
    difference = results[0][1] + results[1][1] - gradients
    assert float(difference.norm() / gradients.norm()) < 1e-5
    # Each by itself, as if it were a whole batch, would not do.
    alone = [learnt(model, *part)[1] for part in parts]
    assert float((alone[0] + alone[1] - gradients).norm() / gradients.norm()) > 0.1
