"""What prediction asks of a model, whoever runs it: PyTorch, ONNX Runtime, a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.score_map import ScoreMap


@dataclass(frozen=True, slots=True)
class RawDetections:
    """What a backend finds in one letterboxed image, highest score first.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2 in network pixels; they may reach into the padding and beyond.
        scores: f32 [N] in [0, 1].
        labels: i64 [N] in 0..K-1.
        masks: f32 [N, M, M] in [0, 1], on M x M cells that divide each box evenly; None where there are none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class RawClasses:
    """What a backend that classifies says of one image, highest score first.

    Args:
        scores: f32 [N] in [0, 1].
        labels: i64 [N] in 0..K-1, each once.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RawMap:
    """What a backend that segments says of one image.

    Args:
        scores: f32 [K, S, S], of each class at each network pixel, padding too, before the softmax. They are decided in
            the pixels of the image, and where tiles overlap, together.
    """

    scores: NDArray[np.float32]


Raw = RawDetections | RawClasses | RawMap


class Backend(Protocol):
    """A model ready to run. Letterboxing stays outside of it; normalisation and NMS happen inside."""

    @property
    def name(self) -> str:
        """The model's name, as results quote it."""

    @property
    def sha256(self) -> str:
        """Of the weights file, as results quote it; empty where there is no file."""

    @property
    def classes(self) -> ClassTable:
        """What the labels mean."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square the images are letterboxed to, or to as much of it as they need: see `Snug`."""

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        """Detect in a batch, or classify it.

        Args:
            images: u8 [B, S, S, 3] RGB, letterboxed, S = `image_size`; of a `Snug` one u8 [B, H, W, 3], neither
                side more than S.
            score: the least score a detection may have, or any class but the best.
            iou: NMS threshold: of two boxes of one class that overlap more, the lower score goes;
                None leaves it to the model.
            max_det: the most detections, or classes, an image may have; the best are kept.

        Returns:
            One record an image, of the kind that the model's task gives.
        """
        ...


@runtime_checkable
class Snug(Protocol):
    """A backend whose images need not be squares."""

    @property
    def frame_multiple(self) -> int | None:
        """What divides both sides of an image; None where it takes squares alone after all."""
        ...


def frame_multiple(backend: Backend) -> int | None:
    """What `letterbox` is to be told for a backend."""
    return backend.frame_multiple if isinstance(backend, Snug) else None


@runtime_checkable
class Calibrated(Protocol):
    """A backend that may know what its model's scores are worth."""

    @property
    def score_map(self) -> ScoreMap | None:
        """None where the model was never calibrated."""
        ...
