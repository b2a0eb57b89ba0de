"""visionkit's contestant for `detectors`: what `detect` runs beside torchvision's eager model, in turns image by image.

Both have the same weights: random ones under which the network finds as much as a trained one. torchvision's has its
frozen norms, as its published weights have. Ours is timed as `detect` runs it (folded, channels_last, bf16 where the
hardware has it), the same in fp32, and exactly, layer by layer. How many of its boxes ours finds is told of fp32 alone:
random features differ so little from place to place that bf16 rounds the differences away, which trained ones do not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from task import Task

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d, box_iou

from visionkit.api.datasets import find_dataset
from visionkit.api.evaluate import split_loader
from visionkit.api.task_data import task_dataset
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.torch_backend import TorchBackend
from visionkit.formats.layout import read_split
from visionkit.models.torchvision_models import TORCHVISION_MODELS, TRAINED_NORMS, TorchvisionName
from visionkit.models.torchvision_names import from_torchvision

PEER: TorchvisionName = "fasterrcnn_resnet50_fpn"
LABELS = 91
WARM_UP = 1
IMAGES = 4
LEAST_SCORE = 0.3
MATCHED_IOU = 0.95
PRECISIONS: dict[str, dict[str, bool]] = {
    "default": {"amp": True, "exact": False},
    "fp32": {"amp": False, "exact": False},
    "exact": {"amp": False, "exact": True},
}
DEVIATIONS = {
    "rpn.head.cls_logits": 1.5,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 3.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
}
"""Of what a layer says, over places and classes. In this order: regions follow from proposals."""


@torch.no_grad()
def with_something_to_say(network: Any, images: list[Tensor]) -> Any:
    """Random weights under which places and classes differ: norms measured on images, each prediction with mean 0 and
    the deviation of `DEVIATIONS`; the norms frozen then."""
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for _, norm in norms:
        norm.momentum = None
        norm.train()
    network.backbone(network.transform(images)[0].tensors)
    network.eval()
    for name, wanted in DEVIATIONS.items():
        layer = network.get_submodule(name)
        said: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, output, said=said: said.append(output))
        network(images)
        hook.remove()
        everywhere = torch.cat([output.movedim(1, -1).flatten(0, -2) for output in said])
        deviation, mean = torch.std_mean(everywhere, 0)
        layer.bias.sub_(mean).mul_(wanted / deviation)
        layer.weight *= (wanted / deviation).view(-1, *[1] * (layer.weight.ndim - 1))
    for name, norm in norms:
        frozen = FrozenBatchNorm2d(norm.num_features, eps=0.0)
        frozen.load_state_dict(norm.state_dict())
        network.set_submodule(name, frozen)
    return network


def matched(found: tuple[Tensor, Tensor, Tensor], wanted: tuple[Tensor, Tensor, Tensor]) -> tuple[int, int]:
    """How many of the wanted (boxes, scores, labels) of at least `LEAST_SCORE` were found too, with their label and at
    `MATCHED_IOU`, and how many there are."""
    boxes, scores, labels = wanted
    sure = scores >= LEAST_SCORE
    overlap = box_iou(boxes[sure], found[0]) * (labels[sure][:, None] == found[2])
    if not overlap.numel():
        return 0, int(sure.sum())
    return int((overlap.amax(1) >= MATCHED_IOU).sum()), int(sure.sum())


def measure(task: Task) -> dict[str, float]:
    """Milliseconds an image of each, how many times as fast as torchvision ours is, and the share of its boxes that
    ours finds: medians over the images."""
    if task.threads:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    truth = read_split(find_dataset(task.data, lambda line: None), "train")
    samples = task_dataset(Recipe(), truth)
    batch = next(iter(split_loader(samples, task.imgsz, IMAGES, 0, torch.device("cpu"))))
    pictures = batch.images.permute(0, 2, 3, 1).contiguous().numpy()
    inputs = [image / 255 for image in batch.images.contiguous()]
    theirs = getattr(torchvision.models.detection, PEER)(
        weights=None, weights_backbone=None, num_classes=LABELS, min_size=task.imgsz, max_size=task.imgsz
    )
    theirs = with_something_to_say(theirs, inputs[:1])
    labels = range(1, LABELS)
    model = TORCHVISION_MODELS[PEER](len(labels), norm=TRAINED_NORMS[PEER]).eval()
    model.load_state_dict(from_torchvision(theirs.state_dict(), labels))
    classes = ClassTable(tuple(labels), tuple(map(str, labels)))
    contestants: dict[str, Callable[[int], tuple[Tensor, Tensor, Tensor]]] = {
        "torchvision": lambda number: _theirs(theirs, inputs[number])
    }
    for name, how in PRECISIONS.items():
        backend = TorchBackend(
            model, classes, image_size=task.imgsz, device=torch.device("cpu"), name=name, sha256="", **how
        )
        contestants[name] = partial(_ours, backend, pictures)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    counts = {name: [0, 0] for name, how in PRECISIONS.items() if not how["amp"]}
    for step in range(WARM_UP + task.steps):
        said = {}
        for name, run in contestants.items():
            began = time.perf_counter()
            said[name] = run(step % IMAGES)
            seconds[name].append(time.perf_counter() - began)
        for name, count in counts.items():
            found, wanted = matched(said[name], said["torchvision"])
            count[0] += found
            count[1] += wanted
    report = {"torchvision_milliseconds": 1000 * median(seconds["torchvision"][WARM_UP:])}
    for name in PRECISIONS:
        ratios = [peer / mine for peer, mine in zip(seconds["torchvision"], seconds[name], strict=True)]
        report[f"{name}_milliseconds"] = 1000 * median(seconds[name][WARM_UP:])
        report[f"{name}_times_as_fast"] = median(ratios[WARM_UP:])
    for name, (found, wanted) in counts.items():
        report[f"{name}_matched"] = found / max(1, wanted)
    return {**report, "boxes": counts["fp32"][1]}


@torch.inference_mode()
def _theirs(network: Any, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (said,) = network([image])
    return said["boxes"], said["scores"], said["labels"] - 1


def _ours(backend: TorchBackend, pictures: NDArray[np.uint8], number: int) -> tuple[Tensor, Tensor, Tensor]:
    (said,) = backend.run(pictures[number : number + 1], score=0.05, iou=0.5, max_det=100)
    return torch.from_numpy(said.boxes), torch.from_numpy(said.scores), torch.from_numpy(said.labels)  # type: ignore[union-attr]


if __name__ == "__main__":
    print(json.dumps(measure(Task.from_environment())))
