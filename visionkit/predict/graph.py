"""The graphs that an export writes: what they say of themselves, take and give, whatever runtime runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.imaging.image_size import require_divisible
from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.predict.tiling import DEFAULT_OVERLAP, Tiling
from visionkit.result import Task
from visionkit.score_map import ScoreMap, score_map_of

SCHEMA = "visionkit.onnx/1"
METADATA_KEY = "visionkit"
"""Of the graph's metadata: one JSON object of this schema."""

UNSAID = {"task": "detect", "stride": 32, "iou": 0.7, "snug": False}
"""What the first graphs did not say of themselves; their metadata name no schema."""


@dataclass(frozen=True, slots=True)
class GraphCard:
    """What a graph says of itself.

    Args:
        model: its name, as results quote it.
        imgsz: side in pixels of the images that it was trained on.
        stride: divides the side of the images that it takes.
        iou: the model's own NMS threshold; None where it suppresses nothing.
        score_map: what its scores are worth; None where it was never calibrated.
        recipe: how its model was trained, as weights files store it; empty where it does not say.
        snug: whether its model looks at no more of the square than an image needs.
    """

    model: str
    task: Task
    classes: ClassTable
    imgsz: int
    stride: int
    iou: float | None
    score_map: ScoreMap | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    snug: bool = False

    @property
    def tiling(self) -> Tiling | None:
        """How it learnt to see larger images, as its recipe says; None: whole."""
        tile = int(self.recipe.get("tile", 0))
        return Tiling(tile, float(self.recipe.get("overlap", DEFAULT_OVERLAP))) if tile else None

    @classmethod
    def read(cls, text: str | None, path: Path) -> GraphCard:
        """The card in a graph's metadata.

        Args:
            text: what lies under `METADATA_KEY`; None where nothing does.
            path: what error messages call the graph.

        Raises:
            CheckpointError: there is none, or it is of another version or damaged.
        """
        if not text:
            raise CheckpointError(f"{path} does not say its classes, visionkit's exports do; export the model again")
        try:
            said = {**UNSAID, **json.loads(text)}
            if said.get("schema", SCHEMA) != SCHEMA:
                raise CheckpointError(
                    f"{path} has schema {said['schema']!r}, this version reads {SCHEMA!r}; update visionkit"
                )
            card = cls(
                model=str(said["model"]),
                task=said["task"],
                classes=ClassTable.from_json(said["classes"]),
                imgsz=int(said["imgsz"]),
                stride=int(said["stride"]),
                iou=None if said["iou"] is None else float(said["iou"]),
                score_map=score_map_of(said),
                recipe=said.get("recipe") or {},
                snug=bool(said["snug"]),
            )
            _ = card.tiling  # what of it cannot be read is said here
        except (AttributeError, KeyError, TypeError, ValueError, DataError, UsageError) as error:
            raise CheckpointError(
                f"{path} says of itself what cannot be read ({type(error).__name__}: {error}); export the model again"
            ) from None
        if card.task not in get_args(Task) or min(card.imgsz, card.stride) < 1:
            raise CheckpointError(
                f"{path} says task {card.task!r}, image size {card.imgsz} and stride {card.stride}; "
                "export the model again"
            )
        return card

    def side(self, asked: int | None, shape: Sequence[Any], path: Path) -> int:
        """The side in pixels of the square images to hand to the graph: the one asked for, or as trained.

        Args:
            shape: of the graph's input [B, H, W, 3]; whole numbers where it is fixed.
            path: what error messages call the graph.

        Raises:
            UsageError: the graph does not take such images.
        """
        fixed = shape[1] if isinstance(shape[1], int) and shape[1] > 0 else None
        if fixed is None:
            return self.imgsz if asked is None else require_divisible(asked, self.stride)
        if asked not in (None, fixed):
            raise UsageError(f"image size must be {fixed}, {path} takes no other, got {asked}; leave it out")
        return fixed

    def takes_snug(self, shape: Sequence[Any]) -> bool:
        """Whether images need not be squares: the model's are not, and the input [B, H, W, 3] is free."""
        return self.snug and not any(isinstance(side, int) for side in shape[1:3])

    def inputs(
        self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int
    ) -> dict[str, NDArray[Any]]:
        """What the graph takes, by name; as `Backend.run` is asked."""
        if self.task != "detect":
            return {"images": images}
        own = 1.0 if self.iou is None else self.iou
        return {
            "images": images,
            "score": np.array([score], np.float32),
            "iou": np.array([own if iou is None else iou], np.float32),
            "max_det": np.array([max_det], np.int64),
        }

    def outputs(self, found: Mapping[str, NDArray[Any]], count: int, *, score: float, max_det: int) -> list[Raw]:
        """A record an image, as `Backend.run` gives them.

        Args:
            found: what the graph gave, by name. Of a detector boxes f32 [N, 4], scores f32 [N], labels i64 [N], and i64
                [N] which image each is of; of one with masks also f32 [N, M, M]; of a segmenter scores f32 [B, K, H, W]
                before the softmax; of a classifier scores f32 [B, K] in [0, 1].
            count: images B.
        """
        if self.task == "classify":
            return [_best_classes(scores, score, max_det) for scores in found["scores"]]
        if self.task == "segment":
            return [RawMap(scores) for scores in found["scores"]]
        masks = found.get("masks")
        return [
            RawDetections(
                found["boxes"][of], found["scores"][of], found["labels"][of], None if masks is None else masks[of]
            )
            for of in (found["image"] == number for number in range(count))
        ]


def _best_classes(scores: NDArray[np.float32], score: float, max_det: int) -> RawClasses:
    """f32 [K] -> the best class always, and the others that score enough; of equal ones the lower label first."""
    order = np.argsort(-scores, kind="stable").astype(np.int64)
    kept = order[: max(1, min(max_det, int((scores >= score).sum())))]
    return RawClasses(scores[kept], kept)
