"""Prediction by a torch model: letterboxed NumPy images in, NumPy detections in network pixels out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.classes import ClassTable
from visionkit.engine.device import precision
from visionkit.predict.backend import RawDetections


class TorchBackend:
    """A `visionkit.predict.backend.Backend` around a torch detector.

    Args:
        model: in eval mode; moved to `device`.
        image_size: side in pixels of the square images that `run` takes.
        amp: bf16 autocast where the hardware has it.
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
    ) -> None:
        self.model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.classes = classes
        self.image_size = image_size
        self.device = device
        self.amp = amp
        self.name = name
        self.sha256 = sha256

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8], *, score: float, iou: float, max_det: int) -> list[RawDetections]:
        """Detections of u8 images [B, S, S, 3], RGB, letterboxed; one record an image, in network pixels."""
        # [B, S, S, 3] seen as [B, 3, S, S] is channels_last memory, which convolutions like, without a copy.
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)
        with precision(self.device, self.amp):
            outputs = self.model(batch)
        found = self.model.predict(outputs, score=score, iou=iou, max_det=max_det)
        return [RawDetections(d.boxes.cpu().numpy(), d.scores.cpu().numpy(), d.labels.cpu().numpy()) for d in found]
