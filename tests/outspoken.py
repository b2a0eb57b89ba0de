"""Detectors whose random predictors speak up, so that hundreds of boxes survive and many overlap."""

from __future__ import annotations

import torch
from torch import nn

from visionkit.models.rcnn import Rcnn
from visionkit.models.yolov1 import YoloV1


def outspoken(model: nn.Module) -> nn.Module:
    """The model, changed, in eval."""
    for name, parameter in model.named_parameters():
        if "predictor" in name and parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
        elif "class_predictor" in name and not isinstance(model, YoloV1):
            nn.init.zeros_(parameter)  # instead of a prior by which every class is rare
    if isinstance(model, YoloV1):
        assert model.head.box_predictors.bias is not None
        model.head.box_predictors.bias.data.view(-1, 5)[:, 4] = 1.1  # instead of no object anywhere
    if isinstance(model, Rcnn):
        head = model.head
        generator = torch.Generator().manual_seed(0)
        head.svm_weight.normal_(generator=generator)
        head.svm_bias.zero_()
        head.box_weight.normal_(std=0.1, generator=generator)
    return model.eval()
