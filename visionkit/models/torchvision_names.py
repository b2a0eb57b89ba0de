"""The tensors of torchvision's detectors under our names, their class rows in our order.

The class tables of the house have no background. torchvision counts it as label 0: in R-CNN heads its logit is the last
one here; elsewhere, and for its boxes, nothing is kept of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from visionkit.errors import CheckpointError
from visionkit.types import ClassRows

BACKGROUND = 0
"""torchvision's label of it."""

NAMES: tuple[tuple[str, str], ...] = (
    # As in checkpoints from before convolutions were wrapped with their norms.
    (r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)", r"neck.\1_blocks.\2.0.\3"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.tower.0.0.\1"),
    *(
        (rf"head\.{theirs}_head\.conv\.{2 * i}\.(weight|bias)", rf"head.{ours}_tower.{i}.0.\1")
        for theirs, ours in (("classification", "class"), ("regression", "box"))
        for i in range(4)  # counted with the activations between them
    ),
    *((rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(weight|bias)", rf"mask.tower.{i}.0.\1") for i in range(4)),
    # As they are now.
    (r"backbone\.body\.(\d+\..*)", r"backbone.features.\1"),  # MobileNet, whose features are the body
    (r"backbone\.body\.(.*)", r"backbone.\1"),
    (r"backbone\.fpn\.(.*)", r"neck.\1"),
    (r"rpn\.head\.conv\.(.*)", r"rpn.tower.\1"),
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn.objectness_predictor.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn.box_predictor.\1"),
    (r"roi_heads\.box_head\.(.*)", r"head.tower.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"head.class_predictor.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"head.box_predictor.\1"),
    (r"roi_heads\.mask_head\.(\d\..*)", r"mask.tower.\1"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"mask.enlarge.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)", r"mask.predictor.\1"),
    (r"head\.classification_head\.conv\.(.*)", r"head.class_tower.\1"),
    (r"head\.classification_head\.cls_logits\.(.*)", r"head.class_predictor.\1"),
    (r"head\.regression_head\.conv\.(.*)", r"head.box_tower.\1"),
    (r"head\.regression_head\.bbox_reg\.(.*)", r"head.box_predictor.\1"),
)
"""Patterns of whole names and what they are called here; the first that fits counts."""


def our_name(name: str) -> str:
    """What the tensor of this name in a detector of torchvision is called in ours.

    Raises:
        CheckpointError: no detector of torchvision that we know has it.

    >>> our_name("roi_heads.box_head.fc6.weight")
    'head.tower.fc6.weight'
    """
    for pattern, ours in NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    raise CheckpointError(
        f"the weights have a tensor {name!r}, which no known detector of torchvision has; give weights of one of "
        "visionkit.models.torchvision_models"
    )


def from_torchvision(state: Mapping[str, Tensor], labels: Sequence[int]) -> dict[str, Tensor]:
    """The state dict of a detector of torchvision as the same model here loads it.

    Args:
        state: of published weights, old or new, or of a model.
        labels: torchvision's label of each of our classes, in our order; for its weights of COCO the official category
            ids. Of labels that are not named nothing is kept: R-CNN's softmax then is over fewer classes.

    Raises:
        CheckpointError: a tensor has a name that is not known, or fewer rows than there are labels.
    """
    tensors = {our_name(name): tensor for name, tensor in state.items()}
    with_background = any(name.startswith("roi_heads.") for name in state)
    anchors = 1 if with_background else len(tensors["head.box_predictor.bias"]) // 4
    given = len(tensors["head.class_predictor.bias"]) // anchors
    if not 0 <= min(labels, default=0) <= max(labels, default=0) < given:
        raise CheckpointError(f"the weights have labels 0 to {given - 1}, got {max(labels)}; name labels they have")
    if with_background:
        class_rows = [*labels, BACKGROUND]
        box_rows = [4 * label + side for label in labels for side in range(4)]
    else:
        class_rows = ClassRows(groups=anchors).rows(labels, given)
        box_rows = list(range(4 * anchors))
    predictors = {"head.class_predictor": class_rows, "head.box_predictor": box_rows, "mask.predictor": list(labels)}
    for predictor, rows in predictors.items():
        for name in (f"{predictor}.weight", f"{predictor}.bias"):
            if name in tensors:
                tensors[name] = tensors[name][torch.tensor(rows)]
    return tensors
