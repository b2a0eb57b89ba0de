"""Whole models that torchvision publishes, by its names for them: the file, and the classes they know.

Their architecture is `visionkit.models.forms`' and `torchvision_models`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from visionkit.published.weights import PublishedFile

COCO_WEIGHTS = "coco"
"""Their name for `--weights`; which of them it means, the model and the backbone decide."""

TORCHVISION = "torchvision:"
"""How the name of a certain one begins for `--weights`: `torchvision:retinanet_resnet50_fpn`."""

COCO_LICENCE = (
    "published by torchvision, whose code is BSD-3-Clause, without terms of their own; learnt from COCO, whose "
    "annotations are CC BY 4.0 and whose photos are their owners', and most after ImageNet, which is given "
    "out for non-commercial research and education only"
)

COCO_CATEGORIES: dict[int, str] = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
"""COCO's own ids and names. What torchvision's detectors call a label is this id: the rows of the ids that are missing
here were never learnt."""

VOC_CATEGORIES: dict[int, str] = dict(
    enumerate(
        (
            "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
            "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
        )
    )
)  # fmt: skip
"""Of torchvision's segmenters, which learnt the 20 classes of Pascal VOC from COCO's photos; by its labels."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model of torchvision's with its weights.

    Args:
        file: of the weights.
        categories: names by torchvision's labels; what it has no name for is left out here.
        imgsz: side in pixels of the square input here, on which a picture of 4:3 is about as large as torchvision makes
            it: its shorter side 800 px of most, 320 and 520 of the others, and so its longer one 1067, 427 and 693.
    """

    file: PublishedFile
    categories: Mapping[int, str]
    imgsz: int


def _exact(name: str, sha256: str, size: int, **scores: float) -> PublishedFile:
    return _of_torchvision(name, sha256, size, 0, scores)


def _rounded(name: str, sha256: str, mebibytes: float, **scores: float) -> PublishedFile:
    """Of this one, torchvision's documentation has the size, to a thousandth of a MiB: 524 bytes more or less."""
    return _of_torchvision(name, sha256, round(mebibytes * 2**20), 525, scores)


def _of_torchvision(name: str, sha256: str, size: int, within: int, scores: Mapping[str, float]) -> PublishedFile:
    return PublishedFile(f"https://download.pytorch.org/models/{name}", sha256, size, within, COCO_LICENCE, scores)


# The digits and sizes are known as those of `visionkit.published.weights`.
PUBLISHED_MODELS: dict[str, PublishedModel] = {
    "fasterrcnn_resnet50_fpn": PublishedModel(
        _exact(
            "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
            "258fb6c638b15964ddcdd1ae0748c5eef1be9e732750120cc857feed3faac384",
            167_502_836,
            AP=0.370,
        ),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "fasterrcnn_resnet50_fpn_v2": PublishedModel(
        _exact(
            "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
            "dd69338a24b8d7381807e247652bdc356325bcbaf1cd3e092e00e0a1a58706bf",
            175_221_657,
            AP=0.467,
        ),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": PublishedModel(
        _rounded("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", "fb6a3cc7", 74.239, AP=0.328),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": PublishedModel(
        _rounded("fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth", "907ea3f9", 74.239, AP=0.228),
        COCO_CATEGORIES,
        imgsz=448,
    ),
    "retinanet_resnet50_fpn": PublishedModel(
        _exact(
            "retinanet_resnet50_fpn_coco-eeacb38b.pth",
            "eeacb38b7cec8cf93c57867e05eaab621047f19b0d2ec5accaa405f690da15b7",
            136_595_076,
            AP=0.364,
        ),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "retinanet_resnet50_fpn_v2": PublishedModel(
        _rounded("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", "5905b1c5", 146.037, AP=0.415),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "maskrcnn_resnet50_fpn": PublishedModel(
        _rounded(
            "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
            "bf2d0c1efbc936eeee2bc95a48e80ebc86b891f61b0106485937fc29f9315fc0",
            169.84,
            AP=0.379,
            mask_AP=0.346,
        ),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "maskrcnn_resnet50_fpn_v2": PublishedModel(
        _rounded("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "73cbd019", 177.219, AP=0.474, mask_AP=0.418),
        COCO_CATEGORIES,
        imgsz=1088,
    ),
    "fcn_resnet50": PublishedModel(
        _rounded("fcn_resnet50_coco-1167a1af.pth", "1167a1af", 135.009, mIoU=0.605),
        VOC_CATEGORIES,
        imgsz=704,
    ),
}
"""By torchvision's name, the weights that it takes as its default."""


def is_published(weights: object) -> bool:
    """Whether `--weights` takes this from a server: `coco`, or `torchvision:` and a name, known or not.

    >>> [is_published(name) for name in ("coco", "torchvision:x", "coco.safetensors")]
    [True, True, False]
    """
    return str(weights) == COCO_WEIGHTS or str(weights).startswith(TORCHVISION)
