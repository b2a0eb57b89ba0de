"""Losses of the masks of objects, by name: from logits [N, H, W] and truths [N, H, W] of 0 and 1 to one value a mask.

Each is a mean over the cells of a mask or a share of it, so that they can be added with weights that mean the same in
every size.
"""

from __future__ import annotations

from torch import Tensor

from visionkit.ops.losses import Loss, bce_loss, dice_loss, focal_loss


def mask_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean binary cross-entropy of a mask's cells, in [0, inf). Source: He et al. 2017, Mask R-CNN, section 3."""
    return bce_loss(logits, targets).flatten(1).mean(1)


def mask_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean focal loss of a mask's cells, in [0, inf). Source: Lin et al. 2017, Focal Loss, equation 5."""
    return focal_loss(logits, targets).flatten(1).mean(1)


def mask_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """The Dice loss of a mask's sigmoids, in [0, 1). Source: Tian et al. 2020, CondInst, section 3.3."""
    return dice_loss(logits.sigmoid(), targets)


OBJECT_MASK_LOSSES: dict[str, Loss] = {"bce": mask_bce, "focal": mask_focal, "dice": mask_dice}
