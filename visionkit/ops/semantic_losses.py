"""Losses of semantic segmentation, by name, and sums of them: from logits and a label for each pixel to a number.

Each is a mean: over the pixels that are judged, or over the classes among them. (Where several processes share a batch,
Dice and Lovász are of each one's own pixels: they are no sums.) So they can be added with weights that
mean the same in every image size. With nothing to judge they are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.ops.global_count import global_count
from visionkit.ops.loss_sums import weighted_names
from visionkit.ops.losses import IGNORE_INDEX, cross_entropy_loss, dice_loss, softmax_focal_loss

SemanticLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

MOST_RANKED = 1 << 16
"""Pixels of a batch that the Lovász loss puts in order: all of them would take longer than the network on a CPU."""


def mean_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over judged pixels of -log softmax at the label, a pixel counting as much as its class weighs.

    Args:
        logits: [B, K, H, W].
        labels: i64 [B, H, W]; `IGNORE_INDEX` is not judged.
        weights: [K], or None for ones.
    """
    return _weighted_mean(cross_entropy_loss(logits, labels), labels, weights)


def mean_focal(logits: Tensor, labels: Tensor, weights: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """The same of -(1 - p)^gamma log p, p the softmax at the label: what is easy counts less.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 4, over a softmax.
    """
    return _weighted_mean(softmax_focal_loss(logits, labels, gamma=gamma), labels, weights)


def _weighted_mean(losses: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Of losses that are 0 where nothing is judged."""
    judged = labels != IGNORE_INDEX
    if weights is None:
        return losses.sum() / global_count(judged.sum()).clamp(min=1)
    each = weights.to(losses)[labels.where(judged, 0)] * judged
    return (losses * each).sum() / global_count(each.sum()).clamp(min=torch.finfo(losses.dtype).tiny)


def mean_dice(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean, by weight, over the classes among the labels of the Dice loss of their pixels in the whole batch.

    Source: Milletari et al. 2016, V-Net, section 3; see `dice_loss`.
    """
    probabilities, targets, present = _by_class(logits, labels)
    losses = dice_loss(probabilities[present], targets[present])
    return _mean_of_classes(losses, None if weights is None else weights[present])


def lovasz_softmax(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The Lovász extension of 1 - IoU, a mean by weight over the classes among the labels, of the whole batch's pixels:
    of more than `MOST_RANKED` of so many that are evenly spread.

    Source: Berman et al. 2018, The Lovász-Softmax Loss, equations 8 to 11 and algorithm 1; "present" classes only, as
    in section 3.
    """
    probabilities, targets, present = _by_class(logits, labels, MOST_RANKED)
    # Sorting is the cost: where a class is not among the labels there is nothing to learn from its order.
    errors, order = (targets[present] - probabilities[present]).abs().sort(dim=1, descending=True)
    losses = (errors * jaccard_steps(targets[present].gather(1, order))).sum(1)
    return _mean_of_classes(losses, None if weights is None else weights[present])


def jaccard_steps(targets: Tensor) -> Tensor:
    """By how much 1 - IoU rises with each further pixel that is wrong, [N, P] from targets [N, P] in the order in which
    pixels are given up: the gradient of the Lovász extension. Berman et al. 2018, algorithm 1.

    >>> jaccard_steps(torch.tensor([[1.0, 0.0, 1.0]]))  # 1 - IoU: 1 - 1/2, then 1 - 1/3, then 1 - 0/3
    tensor([[0.5000, 0.1667, 0.3333]])
    """
    # Whole numbers: on a GPU sums of floats that go on from pixel to pixel have no fixed order.
    given_up = targets.cumsum(1, dtype=torch.int32)
    total = given_up[:, -1:]
    place = torch.arange(1, targets.shape[1] + 1, dtype=torch.int32, device=targets.device)
    # Of `place` pixels so many are of the class; the others come to the union.
    jaccard = 1 - (total - given_up).to(targets) / (total + place - given_up).to(targets)
    return jaccard.diff(dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))


def _by_class(logits: Tensor, labels: Tensor, most: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and targets [K, P] of the P judged pixels, and which classes are among them, bool [K].

    Args:
        most: of more judged pixels, so many that are evenly spread.
    """
    judged = (labels != IGNORE_INDEX).flatten().nonzero().squeeze(1)
    if most is not None and len(judged) > most:
        # Not one in every so many: that might divide the rows, and always meet the same columns.
        judged = judged[torch.arange(most, device=judged.device) * len(judged) // most]
    own = logits.movedim(1, -1).flatten(0, -2)[judged]
    probabilities = own.to(torch.promote_types(own.dtype, torch.float32)).softmax(1).T
    targets = F.one_hot(labels.flatten()[judged], logits.shape[1]).T.to(probabilities)
    return probabilities, targets, targets.any(1)


def _mean_of_classes(losses: Tensor, weights: Tensor | None) -> Tensor:
    """[N] -> [], by weight; 0 of none."""
    each = torch.ones_like(losses) if weights is None else weights.to(losses)
    return (losses * each).sum() / global_count(each.sum()).clamp(min=torch.finfo(losses.dtype).tiny)


SEMANTIC_LOSSES: dict[str, SemanticLoss] = {
    "cross-entropy": mean_cross_entropy,
    "focal": mean_focal,
    "dice": mean_dice,
    "lovasz": lovasz_softmax,
}


def loss_sum(said: str) -> Mapping[str, float]:
    """The names of a sum of losses, each with its factor.

    Raises:
        ConfigError: not names of `SEMANTIC_LOSSES`, each at most once, joined by `+`, with factors above 0.

    >>> loss_sum("cross-entropy + 0.5*lovasz")
    {'cross-entropy': 1.0, 'lovasz': 0.5}
    """
    return weighted_names(said, SEMANTIC_LOSSES, "semantic_loss")
