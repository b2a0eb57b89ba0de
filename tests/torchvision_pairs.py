"""A detector of torchvision's with random weights that find something, and what it says of images as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from visionkit.models.torchvision_models import TorchvisionName

DEVIATIONS = {"cls_logits": 0.5, "cls_score": 1.5, "bbox_pred": 0.5, "bbox_reg": 0.5, "mask_fcn_logits": 2.0}
"""Of 150 million logits of a RetinaNet the sigmoids of the best 300 must differ by more than scores are compared by."""

Images = tuple[Tensor, Sequence[tuple[int, int]]]
"""Normalised f32 [B, 3, H, W], and H and W of each without padding."""


def labels_of(name: TorchvisionName, count: int) -> range:
    """Those of `count` labels of torchvision's that are classes: all but the first, its background, in R-CNN heads."""
    return range(1, count) if "rcnn" in name else range(count)


@torch.no_grad()
def with_something_to_say(network: Any, batches: Sequence[Images], stages: Sequence[str] = ("rpn.", "")) -> Any:
    """Random weights under which places, anchors and classes differ: norms measured on these images, and each number
    predicted with mean 0 and the deviation of `DEVIATIONS` over places.

    Args:
        stages: how the names of the predictors begin that are changed together, what others follow from first: regions
            follow from proposals.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.train()
    for x, _ in batches:
        network.backbone(x)
    network.eval()
    predictors = {name: m for name, m in network.named_modules() if name.rpartition(".")[2] in DEVIATIONS}
    hooks = []
    for name, predictor in predictors.items():
        nn.init.normal_(predictor.weight, std=0.01)
        hooks.append(predictor.register_forward_hook(lambda _, __, output, name=name: said[name].append(output)))
    for stage in stages:
        said: dict[str, list[Tensor]] = {name: [] for name in predictors}
        for x, sizes in batches:
            torchvision_says(network, x, sizes)
        for name, predictor in predictors.items():
            if name.startswith(stage):
                wanted = DEVIATIONS[name.rpartition(".")[2]] * (10 if name.endswith("box_predictor.bbox_pred") else 1)
                everywhere = torch.cat([output.movedim(1, -1).flatten(0, -2) for output in said[name]])
                deviation, mean = torch.std_mean(everywhere, 0)
                predictor.bias.sub_(mean).mul_(wanted / deviation)
                predictor.weight *= (wanted / deviation).view(-1, *[1] * (predictor.weight.ndim - 1))
    for hook in hooks:
        hook.remove()
    return network


@torch.no_grad()
def torchvision_says(network: Any, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
    """Detections of normalised images, without torchvision's own resizing."""
    images = ImageList(x, list(sizes))
    features = network.backbone(x)
    if hasattr(network, "rpn"):
        proposals, _ = network.rpn(images, features)
        return network.roi_heads(features, proposals, images.image_sizes)[0]
    maps = list(features.values())
    outputs = network.head(maps)
    per_cell = network.anchor_generator.num_anchors_per_location()[0]
    counts = [per_cell * f.shape[2] * f.shape[3] for f in maps]
    anchors = [list(a.split(counts)) for a in network.anchor_generator(images, maps)]
    split = {name: list(value.split(counts, 1)) for name, value in outputs.items()}
    return network.postprocess_detections(split, anchors, images.image_sizes)
