"""A model of each head that can be a graph, untrained and yet sure of something; and what it says, in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.build import Model, build_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.torch_backend import TorchBackend
from visionkit.models.yolov1 import YoloV1

CLASSES = ClassTable((3, 17, 18), ("car", "cat", "dog"))
SIDE = 128

HEADS: dict[str, dict[str, Any]] = {
    "yolo": {"model": "yolo", "backbone": "csp-light"},
    "yolo-masks": {"model": "yolo-masks", "backbone": "csp-light"},
    "yolov1": {"model": "yolov1", "backbone": "csp-light"},
    "retinanet": {"model": "retinanet", "backbone": "lenet5"},
    "faster-rcnn": {"model": "faster-rcnn", "backbone": "lenet5"},
    "mask-rcnn": {"model": "mask-rcnn", "backbone": "lenet5"},
    "fcn8s": {"model": "fcn8s", "backbone": "csp-light"},
    "classifier": {"model": "classifier", "backbone": "lenet5"},
}
"""LeNet-5 where the head takes it: tracing takes seconds, and longer the more layers there are."""

SPREAD = {
    "class_predictor": 0.1,
    "objectness_predictor": 0.3,
    "box_predictor": 0.05,
    "side_predictors": 0.3,
    "class_predictors": 0.1,
    "skips": 0.5,
    "linear": 0.1,
}
"""Deviations of the last layers' weights. As they start, they say next to nothing of any image."""

SPREAD_OF_YOLOV1 = 0.02
"""Its layers of the same names regress shares of 1."""


def sure_model(head: str, **others: Any) -> tuple[Model, Recipe]:
    """A model whose detections score all over 0 to 1; `others` are what its recipe says besides, or in place of it."""
    recipe = Recipe(**{**HEADS[head], "imgsz": SIDE, **others})
    model = build_model(recipe, CLASSES).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, module in model.named_modules():
            spread = next((value for part, value in SPREAD.items() if part in name.split(".")), None)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
            elif spread is not None and isinstance(module, nn.Conv2d | nn.Linear):
                std = SPREAD_OF_YOLOV1 if head == "yolov1" else spread
                module.weight.normal_(std=std, generator=generator)
        if isinstance(model, YoloV1):  # its confidences start around 0
            assert model.head.box_predictors.bias is not None
            model.head.box_predictors.bias.view(-1, 5)[:, 4] = 0.5
        # Without statistics maps of random weights vanish from layer to layer.
        model.train()(torch.from_numpy(pictures(4, seed=7)).permute(0, 3, 1, 2))
    return model.eval(), recipe


def pictures(count: int, height: int = SIDE, width: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """u8 [B, H, W, 3]: coloured rectangles on noise."""
    random = np.random.default_rng(seed)
    images = random.integers(60, 190, (count, height, width, 3), dtype=np.uint8)
    for image in images:
        for _ in range(12):
            (x1, x2), (y1, y2) = (np.sort(random.integers(0, side, 2)) for side in (width, height))
            colour = random.integers(0, 200, 3)  # never flat: equal scores have no order
            image[y1:y2, x1:x2] = colour + random.integers(0, 56, (y2 - y1, x2 - x1, 3))
    return images


def in_torch(model: Model, *, exact: bool = True) -> TorchBackend:
    return TorchBackend(
        model, CLASSES, image_size=SIDE, device=torch.device("cpu"), amp=False, name="", sha256="", exact=exact
    )
