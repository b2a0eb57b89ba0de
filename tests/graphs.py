"""ONNX graphs that keep the contract of an export and answer what can be worked out by hand: they look at brightness.

How bright an image is, b, is the mean of its numbers divided by 255. Class 0 is `light`, with score b; class 1 is
`dark`, with score 1 - b.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = [{"id": 4, "name": "light"}, {"id": 9, "name": "dark"}]
BOXES = [[0, 0, 16, 8], [8, 8, 24, 32]]
"""Where `light` and `dark` are said to lie, network pixels."""
MASKS = [[[1, 0], [0, 0]], [[0.25, 0.5], [0.75, 1]]]

CARD: dict[str, Any] = {
    "schema": "visionkit.onnx/1", "task": "detect", "model": "brightness", "classes": CLASSES, "imgsz": 64,
    "stride": 32, "iou": 0.6, "sha256": "", "recipe": {},
}  # fmt: skip


def card(**other: Any) -> str:
    """The metadata as JSON, with some values others; None leaves a key out."""
    return json.dumps({key: value for key, value in (CARD | other).items() if value is not None or key == "iou"})


def write_graph(
    path: Path, task: str = "detect", *, side: int | None = None, masks: bool = False, text: str | None = None
) -> Path:
    """Write a graph.

    Args:
        side: of its images, where it is fixed.
        text: the metadata; `card(task=task)` where None, none at all where empty.
    """
    node, value = helper.make_node, helper.make_tensor_value_info
    square = ["batch", side or "height", side or "width", 3]
    inputs = [value("images", TensorProto.UINT8, square)]
    constants = {"axes": np.array([1, 2, 3]), "most": np.float32(255), "one": np.float32(1)}
    nodes = [
        node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        node("ReduceMean", ["numbers", "axes"], ["mean"], keepdims=0),
        node("Div", ["mean", "most"], ["light"]),
        node("Sub", ["one", "light"], ["dark"]),
    ]
    if task == "classify":
        constants["last"] = np.array([1])
        nodes += [node("Unsqueeze", [name, "last"], [f"{name}_column"]) for name in ("light", "dark")]
        nodes.append(node("Concat", ["light_column", "dark_column"], ["scores"], axis=1))
        outputs = [value("scores", TensorProto.FLOAT, ["batch", 2])]
    elif task == "segment":  # the scores of a pixel are its red and its green
        constants["red_green"] = np.array([0, 1])
        nodes += [
            node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
            node("Gather", ["planes", "red_green"], ["scores"], axis=1),
        ]
        outputs = [value("scores", TensorProto.FLOAT, ["batch", 2, square[1], square[2]])]
    else:
        inputs += [value("score", TensorProto.FLOAT, [1]), value("iou", TensorProto.FLOAT, [1])]
        inputs += [value("max_det", TensorProto.INT64, [1])]
        constants |= {"all_boxes": np.array(BOXES, np.float32), "all_masks": np.array(MASKS, np.float32)}
        nodes += [
            node("Concat", ["light", "dark"], ["both"], axis=0),
            node("Shape", ["both"], ["count"]),
            node("TopK", ["both", "count"], ["sorted", "order"]),
            node("Greater", ["sorted", "score"], ["enough"]),
            node("Compress", ["sorted", "enough"], ["scores"], axis=0),
            node("Compress", ["order", "enough"], ["kept"], axis=0),
            node("Shape", ["light"], ["images_here"]),
            node("Div", ["kept", "images_here"], ["labels"]),
            node("Mod", ["kept", "images_here"], ["image"]),
            node("Gather", ["all_boxes", "labels"], ["boxes"]),
            node("Gather", ["all_masks", "labels"], ["masks"]),
        ]
        outputs = [
            value("boxes", TensorProto.FLOAT, ["n", 4]),
            value("scores", TensorProto.FLOAT, ["n"]),
            value("labels", TensorProto.INT64, ["n"]),
            value("image", TensorProto.INT64, ["n"]),
            *([value("masks", TensorProto.FLOAT, ["n", 2, 2])] if masks else []),
        ]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "brightness", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    text = card(task=task) if text is None else text
    if text:
        helper.set_model_props(model, {"visionkit": text})
    onnx.save(model, path)
    return path


def grey(*levels: int, side: int = 64) -> np.ndarray:
    """u8 [B, side, side, 3]: an image of each level."""
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])
