"""The names of the forms that a model may have, to be read without torch; `visionkit.build.FORMS` has what they stand
for."""

from __future__ import annotations

from typing import Literal

OWN_FORM: Literal["own"] = "own"
"""The light parts that every model here has by itself."""

FormName = Literal[
    "own",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "fcn_resnet50",
]
"""Beside it, what torchvision publishes weights of, by the names it has there."""

FORM_PARTS: dict[str, tuple[str, str]] = {
    "fasterrcnn_resnet50_fpn": ("faster-rcnn", "resnet50"),
    "fasterrcnn_resnet50_fpn_v2": ("faster-rcnn", "resnet50"),
    "fasterrcnn_mobilenet_v3_large_fpn": ("faster-rcnn", "mobilenetv3-large"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("faster-rcnn", "mobilenetv3-large"),
    "retinanet_resnet50_fpn": ("retinanet", "resnet50"),
    "retinanet_resnet50_fpn_v2": ("retinanet", "resnet50"),
    "maskrcnn_resnet50_fpn": ("mask-rcnn", "resnet50"),
    "maskrcnn_resnet50_fpn_v2": ("mask-rcnn", "resnet50"),
    "fcn_resnet50": ("fcn8s", "resnet50"),
}
"""The model and the backbone that each is a form of. Of several for the same, the first is the one of the paper."""
