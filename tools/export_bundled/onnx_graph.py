"""A detector as an ONNX graph, from letterboxed pixels to decisions; its thresholds are inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxscript
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visionkit.build import LoadedModel
from visionkit.models.yolo import Yolo
from visionkit.ops.nms import nms_per_class
from visionkit.predict.backend import RawDetections

OPSET = 18
INPUTS = ("images", "score", "iou", "max_det")
OUTPUTS = ("boxes", "scores", "labels", "image")


@torch.library.custom_op("visionkit::nms_of_batch", mutates_args=())
def nms_of_batch(boxes: Tensor, scores: Tensor, max_det: Tensor, iou: Tensor, score: Tensor) -> Tensor:
    """What ONNX's operator NonMaxSuppression says: i64 [N, 3], the image, class and box of each decision.

    Args:
        boxes: f32 [B, A, 4].
        scores: f32 [B, K, A].
        max_det: i64 [1], most decisions an image and class.
        iou, score: f32 [1], thresholds.
    """
    rows = []
    for image in range(len(boxes)):
        label, box = (scores[image] > score).nonzero().unbind(1)
        keep = nms_per_class(boxes[image, box], scores[image, label, box], label, float(iou))
        rows.append(torch.stack((torch.full_like(keep, image), label[keep], box[keep]), 1))
    return torch.cat(rows)


@nms_of_batch.register_fake
def _(boxes: Tensor, scores: Tensor, max_det: Tensor, iou: Tensor, score: Tensor) -> Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((count, 3), dtype=torch.int64)


def _nms_node(boxes, scores, max_det, iou, score):  # type: ignore[no-untyped-def]
    return onnxscript.opset18.NonMaxSuppression(boxes, scores, max_det, iou, score)


class Decisions(nn.Module):
    """Images in, decisions of the whole batch out, best first."""

    def __init__(self, model: Yolo) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Tensor, score: Tensor, iou: Tensor, max_det: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """boxes f32 [N, 4] in network pixels, scores f32 [N], labels i64 [N], and which image each is of, i64 [N].

        Args:
            images: u8 [B, S, S, 3] RGB, letterboxed.
            score: f32 [1], lowest score shown.
            iou: f32 [1], overlap above which the worse box of a class goes.
            max_det: i64 [1], most decisions an image.
        """
        outputs = self.model(images.permute(0, 3, 1, 2))
        boxes, scores = outputs.boxes(), outputs.class_logits.sigmoid()
        kept = nms_of_batch(boxes, scores.transpose(1, 2).contiguous(), max_det, iou, score)
        image, label, box = kept.unbind(1)
        confidence, order = scores[image, box, label].sort(descending=True)
        image, label, box = image[order], label[order], box[order]
        # The place of each decision among those of its own image, 1 for the best.
        own = image[:, None] == torch.arange(images.shape[0])
        place = (own.to(torch.int64).cumsum(0) * own).sum(1)
        first = (place <= max_det).nonzero().squeeze(1)
        return boxes[image[first], box[first]], confidence[first], label[first], image[first]


def write_onnx(loaded: LoadedModel, path: Path) -> None:
    """Write the graph, for any number of images a batch at the size the model was trained with.

    Its metadata key `visionkit` holds class table, image size and the model's name as JSON.
    """
    side = loaded.recipe.imgsz
    # Two images: a batch of one would be taken for a constant.
    arguments = _arguments(np.zeros((2, side, side, 3), np.uint8), score=0.25, iou=0.7, max_det=300)
    program = torch.onnx.export(
        Decisions(loaded.model).eval(),
        tuple(map(torch.from_numpy, arguments.values())),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=INPUTS,
        output_names=OUTPUTS,
        dynamic_shapes=({0: torch.export.Dim("batch")}, None, None, None),
        custom_translation_table={torch.ops.visionkit.nms_of_batch.default: _nms_node},
        verbose=False,
    )
    assert program is not None
    _forget_origins(program.model)
    about = {"classes": loaded.classes.to_json(), "imgsz": side, "model": loaded.name}
    program.model.metadata_props["visionkit"] = json.dumps(about, sort_keys=True, ensure_ascii=False)
    program.save(str(path))


def _forget_origins(model: onnxscript.ir.Model) -> None:
    """Take out what the exporter noted of where nodes and values come from: lines of Python, with paths."""
    noted = [model, *model.graph.initializers.values()]
    for graph in (model.graph, *model.functions.values()):
        nodes = list(graph.all_nodes())
        noted += [graph, *graph.inputs, *nodes, *(value for node in nodes for value in node.outputs)]
    for one in noted:
        one.metadata_props.clear()
        one.doc_string = None


def _arguments(images: NDArray[np.uint8], *, score: float, iou: float, max_det: int) -> dict[str, NDArray[np.generic]]:
    thresholds = (np.array([score], np.float32), np.array([iou], np.float32), np.array([max_det], np.int64))
    return dict(zip(INPUTS, (images, *thresholds), strict=True))


class OnnxBackend:
    """Runs a graph that `write_onnx` wrote, as `visionkit.predict.backend.Backend` asks."""

    def __init__(self, path: Path) -> None:
        import onnxruntime  # noqa: PLC0415

        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float, max_det: int) -> list[RawDetections]:
        found = self.session.run(OUTPUTS, _arguments(images, score=score, iou=iou, max_det=max_det))
        boxes, scores, labels, image = found
        return [RawDetections(boxes[of], scores[of], labels[of]) for of in (image == i for i in range(len(images)))]
