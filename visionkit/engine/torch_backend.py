"""Prediction by a torch model: letterboxed NumPy images in, what its task gives out, in NumPy and network pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.classes import ClassTable
from visionkit.engine.device import precision
from visionkit.models.assembly import frame_multiple_of, model_task
from visionkit.nn.fold import folded
from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.score_map import ScoreMap
from visionkit.types import ClassScores, Detections, SegmentationMap, Task


class TorchBackend:
    """A `visionkit.predict.backend.Backend` around a torch model.

    Args:
        model: in eval mode. What runs is a copy of it on `device` whose batch norms are folded into the convolutions;
            where it has none, or `exact`, it itself is moved there.
        image_size: side in pixels of the square images that `run` takes, or parts of, where the model is snug.
        amp: bf16 autocast where the hardware has it.
        exact: run layer by layer, as training and evaluation do.
        score_map: what its scores are worth, where it was calibrated.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: ClassTable,
        *,
        image_size: int,
        device: torch.device,
        amp: bool,
        name: str,
        sha256: str,
        exact: bool = False,
        score_map: ScoreMap | None = None,
    ) -> None:
        model = model if exact else folded(model)
        self.model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.classes = classes
        self.image_size = image_size
        self.frame_multiple = frame_multiple_of(self.model)
        self.device = device
        self.amp = amp
        self.name = name
        self.sha256 = sha256
        self.score_map = score_map

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> list[Raw]:
        """What u8 images [B, H, W, 3] show, RGB, letterboxed; one record an image, in network pixels."""
        # [B, H, W, 3] seen as [B, 3, H, W] is channels_last memory, which convolutions like, without a copy.
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)
        with precision(self.device, self.amp):
            outputs = self.model(batch)
        own = {} if iou is None else {"iou": iou}
        found = self.model.predict(outputs, score=score, max_det=max_det, **own)
        return [RAW[model_task(self.model)](said) for said in found]


def _raw_detections(said: Detections) -> Raw:
    masks = None if said.masks is None else said.masks.cpu().numpy()
    return RawDetections(said.boxes.cpu().numpy(), said.scores.cpu().numpy(), said.labels.cpu().numpy(), masks)


def _raw_classes(said: ClassScores) -> Raw:
    return RawClasses(said.scores.cpu().numpy(), said.labels.cpu().numpy())


def _raw_map(said: SegmentationMap) -> Raw:
    return RawMap(said.scores.float().cpu().numpy())


RAW: dict[Task, Callable[[Any], Raw]] = {"detect": _raw_detections, "classify": _raw_classes, "segment": _raw_map}
