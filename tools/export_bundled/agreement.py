"""Whether two backends of one model say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visionkit.build import LoadedModel
from visionkit.engine.torch_backend import TorchBackend
from visionkit.errors import VisionkitError
from visionkit.predict.backend import RawDetections

LEAST_SCORE = 0.05
PIXELS = 0.1
SCORE = 1e-3
"""What may differ: the order of float additions does."""


class Runs(Protocol):
    """What is compared of a backend."""

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float, max_det: int) -> list[RawDetections]: ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the decisions of a model and of its graph differ.

    Args:
        images: compared.
        decisions: of the model, of at least `LEAST_SCORE`.
        unmatched: of either side, without one of the other side that has its class, about its score and its box.
        pixels, score: the largest difference of a corner and of a score among the matched.
    """

    images: int
    decisions: int
    unmatched: int
    pixels: float
    score: float

    def sentence(self) -> str:
        return (
            f"{self.decisions} detections in {self.images} images: corners agree to {self.pixels:.1g} px, scores to "
            f"{self.score:.1g}, {self.unmatched} without a counterpart"
        )

    def require(self) -> None:
        """Raises VisionkitError where the graph is another model, or there was nothing to compare."""
        if self.unmatched or not self.decisions:
            raise VisionkitError(
                f"the ONNX graph must say what the model says, but: {self.sentence()}; nothing is written"
            )


def compare(loaded: LoadedModel, other: Runs, images: NDArray[np.uint8]) -> Agreement:
    """Run both on letterboxed images u8 [B, S, S, 3], in full precision."""
    own = TorchBackend(
        loaded.model,
        loaded.classes,
        image_size=images.shape[1],
        device=torch.device("cpu"),
        amp=False,
        name=loaded.name,
        sha256=loaded.sha256,
    )
    options = {"score": LEAST_SCORE, "iou": 0.7, "max_det": 300}
    pairs = list(zip(own.run(images, **options), other.run(images, **options), strict=True))  # type: ignore[arg-type]
    unmatched, pixels, scores = 0, 0.0, 0.0
    for ours, theirs in pairs:
        corners = np.abs(ours.boxes[:, None] - theirs.boxes[None]).max(-1, initial=0)
        certainty = np.abs(ours.scores[:, None] - theirs.scores[None])
        alike = (ours.labels[:, None] == theirs.labels[None]) & (corners <= PIXELS) & (certainty <= SCORE)
        for side, found in ((ours, alike.any(1)), (theirs, alike.any(0))):
            # A decision on the threshold may fall either way.
            unmatched += int((~found & (side.scores > LEAST_SCORE + SCORE)).sum())
        pixels = max(pixels, float(np.where(alike, corners, 0).max(initial=0)))
        scores = max(scores, float(np.where(alike, certainty, 0).max(initial=0)))
    return Agreement(len(images), sum(len(ours.boxes) for ours, _ in pairs), unmatched, pixels, scores)
