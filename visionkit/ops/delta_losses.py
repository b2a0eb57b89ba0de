"""Losses of boxes that a network says as deltas from anchors or proposals, by name: of these numbers, or of the boxes
that they stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from visionkit.ops.box_coding import DeltaWeights, decode_deltas, encode_deltas
from visionkit.ops.losses import BOX_LOSSES, NUMBER_LOSSES, Loss, smooth_l1_loss

BETA = 1 / 9
"""Where the parabola of `smooth-l1` becomes a line, in units of the deltas, as the authors' code of Faster R-CNN has
it; with 1, as in `ops.losses`, hardly a delta would get beyond it."""

UNWEIGHTED: DeltaWeights = (1, 1, 1, 1)

DeltaLoss = Callable[[Tensor, Tensor, Tensor, DeltaWeights], Tensor]
"""From deltas [N, 4], what they are of [N, 4], true boxes [N, 4] and the weights of the deltas to values from 0 up,
whose sum counts."""


def loss_of_numbers(loss: Loss, deltas: Tensor, anchors: Tensor, gt_boxes: Tensor, weights: DeltaWeights) -> Tensor:
    """[N, 4]: of each delta and the one that the truth is."""
    return loss(deltas, encode_deltas(gt_boxes, anchors, weights))


def loss_of_boxes(loss: Loss, deltas: Tensor, anchors: Tensor, gt_boxes: Tensor, weights: DeltaWeights) -> Tensor:
    """[N]: of the box that four deltas stand for and the true one."""
    return loss(decode_deltas(deltas, anchors, weights), gt_boxes)


_NUMBERS: dict[str, Loss] = {**NUMBER_LOSSES, "smooth-l1": partial(smooth_l1_loss, beta=BETA)}

DELTA_LOSSES: dict[str, DeltaLoss] = {
    **{name: partial(loss_of_boxes, loss) for name, loss in BOX_LOSSES.items()},
    **{name: partial(loss_of_numbers, loss) for name, loss in _NUMBERS.items()},
}
