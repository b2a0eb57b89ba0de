"""A trained model as an ONNX graph: normalisation and suppression inside, thresholds as inputs, any number of images a
batch, of any size that the model's stride divides."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from visionkit.classes import ClassTable
from visionkit.errors import UsageError
from visionkit.exporting.decisions import suppression_node
from visionkit.exporting.one_stage import RetinaNetGraph, YoloGraph, YoloMasksGraph, YoloV1Graph
from visionkit.exporting.two_stage import RegionGraph
from visionkit.exporting.whole_image import ClassifierGraph, SegmenterGraph
from visionkit.models.classifier import Classifier
from visionkit.models.fast_rcnn import FastRcnn
from visionkit.models.faster_rcnn import FasterRcnn
from visionkit.models.fcn import Fcn
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.models.rcnn import Rcnn
from visionkit.models.retinanet import RetinaNet
from visionkit.models.yolo import Yolo
from visionkit.models.yolo_masks import YoloMasks
from visionkit.models.yolov1 import YoloV1
from visionkit.nn.fold import folded
from visionkit.predict.graph import METADATA_KEY, SCHEMA

if TYPE_CHECKING:
    import onnx_ir

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")

THRESHOLDS = ("score", "iou", "max_det")
DETECTIONS = ("boxes", "scores", "labels", "image")

# The first that fits: a yolo with masks is a yolo.
GRAPHS: tuple[tuple[type[nn.Module], Callable[[Any], nn.Module]], ...] = (
    (YoloMasks, YoloMasksGraph),
    (Yolo, YoloGraph),
    (YoloV1, YoloV1Graph),
    (RetinaNet, RetinaNetGraph),
    (FasterRcnn, RegionGraph),
    (MaskRcnn, RegionGraph),
    (Fcn, SegmenterGraph),
    (Classifier, ClassifierGraph),
)

TRACED_CELLS = (10, 11)
"""Height and width of the traced images in strides. They differ, or they would be taken for the same number."""

LEAST_CELLS = 2
"""Of an image's sides. The most that a backbone asks for is 63 px, at a stride of 32."""

LARGEST = 2**63 - 1
"""Of i64."""


def check_packages(*, needed: Sequence[str] = PACKAGES, extra: str = "export") -> None:
    """Raises UsageError where a package that exporting needs is not installed."""
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        are = "package" if len(missing) == 1 else "packages"
        raise UsageError(
            f"this export needs the {are} {', '.join(missing)}, not installed here; "
            f"install by: pip install 'visionkit[{extra}]'"
        )


def check_exportable(model: nn.Module, name: str) -> None:
    """Raises UsageError where a model cannot be a graph; `name` is how users know it."""
    if isinstance(model, FastRcnn):
        raise UsageError(
            f"{name} is fed by proposals of each image from a file, a graph takes images alone; "
            "export a faster-rcnn, which makes its own"
        )
    if isinstance(model, Rcnn):
        raise UsageError(
            f"{name} searches for regions outside of its network, a graph takes images alone; "
            "export a faster-rcnn, whose search is a network"
        )
    graph_of(model)


def graph_of(model: nn.Module) -> nn.Module:
    """What is traced of a model."""
    return next(make(model) for kind, make in GRAPHS if isinstance(model, kind))


def about(
    model: nn.Module, *, name: str, classes: ClassTable, image_size: int, sha256: str, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """What a graph says of itself in its metadata.

    Args:
        name: of the model, as results quote it.
        image_size: side in pixels that it was trained at.
        sha256: of its weights.
        recipe: that it was trained by, as weights files store it.
    """
    iou = inspect.signature(model.predict).parameters["iou"].default if model.task == "detect" else None  # type: ignore[arg-type]
    return {
        "schema": SCHEMA,
        "task": model.task,
        "model": name,
        "classes": classes.to_json(),
        "imgsz": image_size,
        "stride": model.stride,
        "iou": iou,
        "snug": model.snug,
        "sha256": sha256,
        "recipe": dict(recipe),
    }


def write_onnx(model: nn.Module, card: Mapping[str, Any], path: Path) -> None:
    """Write a model in eval mode as a graph: the same bytes for the same model and versions.

    Inputs: `images` u8 [B, H, W, 3] RGB, letterboxed; of a detector also `score` f32 [1], `iou` f32 [1], `max_det` i64
    [1]. Outputs of a detector: `boxes` f32 [N, 4] in network pixels, `scores` f32 [N], `labels` i64 [N] and `image` i64
    [N], which of the batch; best first; `masks` f32 [N, M, M] where it says masks. Of a segmenter `scores` f32 [B, K,
    H, W] before the softmax; of a classifier `scores` f32 [B, K].

    Args:
        card: as `about` gives it.

    Raises:
        UsageError: the model cannot be a graph.
    """
    check_exportable(model, str(card["model"]))
    detects = model.task == "detect"
    graph = graph_of(_traceable(folded(model))).eval()
    inputs = ("images", *(THRESHOLDS if detects else ()))
    outputs = (*DETECTIONS, *(("masks",) if model.says_masks else ())) if detects else ("scores",)
    program = torch.onnx.export(
        _traced(graph, int(card["stride"]), detects),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=inputs,
        output_names=outputs,
        custom_translation_table={
            torch.ops.visionkit.suppressed.default: suppression_node,
            operator.le: _at_most_node,
        },
        verbose=False,
    )
    assert program is not None
    _name_nodes(program.model)
    _name_sizes(program.model)
    _forget_origins(program.model)
    program.model.metadata_props[METADATA_KEY] = json.dumps(card, sort_keys=True, ensure_ascii=False)
    program.save(str(path))


def _traceable(model: nn.Module) -> nn.Module:
    """A copy that says the same in layers that the exporter knows well.

    Activations leave their input as it is: the others take half of the time that tracing takes, as the exporter takes
    each apart. What is drawn in training is its mean: ONNX has no randomised leaky ReLU.
    """
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.RReLU):
                setattr(parent, name, nn.LeakyReLU((child.lower + child.upper) / 2))
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model


def _at_most_node(size: Any, most: Any) -> Any:
    """`size <= most` of a size, which no one reads: tracing leaves such checks, some with a limit beyond any i64."""
    import onnxscript  # noqa: PLC0415 - an extra

    return onnxscript.opset18.LessOrEqual(size, min(most, LARGEST) if isinstance(most, int) else most)


def _traced(graph: nn.Module, stride: int, detects: bool) -> torch.export.ExportedProgram:
    """The graph as a program for batches and images of any size that the stride divides."""
    height, width = (stride * cells for cells in TRACED_CELLS)
    # Two images: a batch of one would be taken for a constant.
    arguments: tuple[Tensor, ...] = (torch.zeros((2, height, width, 3), dtype=torch.uint8),)
    rows, columns = (torch.export.Dim(name, min=LEAST_CELLS) for name in ("rows", "columns"))
    shapes: tuple[Any, ...] = ({0: torch.export.Dim("batch"), 1: stride * rows, 2: stride * columns},)
    if detects:
        arguments += (torch.tensor([0.25]), torch.tensor([0.7]), torch.tensor([300]))
        shapes += (None, None, None)
    with torch.no_grad():
        return torch.export.export(
            graph,
            arguments,
            dynamic_shapes=shapes,
            strict=False,
            # What a network would refuse is checked where images are letterboxed: checks are no part of a graph.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _name_nodes(model: onnx_ir.Model) -> None:
    """Name each node by the module it is of and its operator, such as `backbone.stem.conv/Conv`; those of one name are
    numbered."""
    seen: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        # Names of modules, the innermost last, and then of the operation itself; of what the exporter added, its own.
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        modules = [scope for scope in scopes[:-1] if scope.startswith("model")]
        name = f"{modules[-1].removeprefix('model').removeprefix('.') if modules else ''}/{node.op_type}"
        name = name if name[0] != "/" else f"graph{name}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def _name_sizes(model: onnx_ir.Model) -> None:
    """Name the sizes of inputs and outputs that are free."""
    import onnx_ir  # noqa: PLC0415 - an extra

    names: dict[str, tuple[str | None, ...]] = {"images": ("batch", "height", "width")}
    if "boxes" in {value.name for value in model.graph.outputs}:
        names |= dict.fromkeys((*DETECTIONS, "masks"), ("found",))
    else:
        names["scores"] = ("batch", None, "height", "width")
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in names and value.shape is not None:
            said = (*names[value.name], *(None,) * len(value.shape))
            value.shape = onnx_ir.Shape(
                [dim if isinstance(dim, int) else own for dim, own in zip(value.shape, said, strict=False)]
            )


def _forget_origins(model: onnx_ir.Model) -> None:
    """Take out what the exporter noted of where nodes and values come from: lines of Python, with paths."""
    noted: list[Any] = [model, *model.graph.initializers.values()]
    graphs: list[Any] = [model.graph, *model.functions.values()]
    for graph in graphs:
        nodes = list(graph.all_nodes())
        noted += [graph, *graph.inputs, *nodes, *(value for node in nodes for value in node.outputs)]
    for one in noted:
        one.metadata_props.clear()
        one.doc_string = None
