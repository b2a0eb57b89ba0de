"""What a model in PyTorch, or an exported graph, says of a split, in the form that its task is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.api.judged import LoadedGraph
from visionkit.api.tiled_evaluation import results_on, tiled_maps, tiled_results, tiled_rows
from visionkit.build import LoadedModel
from visionkit.data.loader import BatchLoader
from visionkit.data.views import Samples
from visionkit.engine.evaluate import classify_batches, detect_batches, segment_batches
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.made_ahead import made_ahead
from visionkit.predict.tiling import Tiling
from visionkit.result import Result


class Answers(Protocol):
    """One of the three is asked for, once; all by the model's classes."""

    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Of a classifier: the pictures' true labels i64 [N], and its probabilities f32 [N, K]."""

    def maps(self) -> Iterator[NDArray[np.uint8]]:
        """Of a segmenter: a map u8 [H, W] an image, in original pixels."""

    def rows(self, *, masks: bool) -> list[dict[str, Any]]:
        """Of a detector: COCO results rows, with masks where they are asked for."""


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """Of a model in PyTorch.

    Args:
        model: its network, on the device.
        loader: gives the split letterboxed to `image_size`, for what is not seen in tiles.
        tiling: how larger images are cut; None sees each whole.
        batch: tiles of an image that are run at once.
        iou: NMS threshold; the model's own where None.
        on_images: told how many images are through since it was last told.
    """

    loaded: LoadedModel
    model: nn.Module
    truth: AnnotatedImages
    loader: BatchLoader
    tiling: Tiling | None
    image_size: int
    batch: int
    iou: float | None
    device: torch.device
    amp: bool
    on_images: Callable[[int], None]

    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return classify_batches(self.model, self.loader, self.loaded.classes, **self._how())

    def maps(self) -> Iterator[NDArray[np.uint8]]:
        if self.tiling is not None:
            return tiled_maps(self._tiled(self.tiling))
        return segment_batches(self.model, self.loader, **self._how())

    def rows(self, *, masks: bool) -> list[dict[str, Any]]:
        if self.tiling is not None:
            return tiled_rows(self._tiled(self.tiling))
        classes = self.loaded.classes
        rows = detect_batches(self.model, self.loader, classes, masks=masks, iou=self.iou, **self._how())
        place = {record.id: number for number, record in enumerate(self.truth.images)}
        return sorted(rows, key=lambda row: place[row["image_id"]])  # the loader gives images of one shape together

    def _how(self) -> dict[str, Any]:
        return {"device": self.device, "amp": self.amp, "on_images": self.on_images}

    def _tiled(self, tiling: Tiling) -> Iterator[tuple[ImageRecord, Result]]:
        return tiled_results(
            self.loaded,
            self.truth,
            tiling,
            image_size=self.image_size,
            batch=self.batch,
            iou=self.iou,
            **self._how(),
        )


@dataclass(frozen=True, slots=True)
class GraphAnswers:
    """Of an exported graph: what `detect` says with it, image by image. Each is read while the one before it is looked
    at. Of several at once ONNX Runtime works as long on each, on a CPU.

    Args:
        samples: of the split, which of objects of boxes are the pictures that a classifier is asked about.
        others: as for `ModelAnswers`.
    """

    loaded: LoadedGraph
    truth: AnnotatedImages
    samples: Samples
    tiling: Tiling | None
    batch: int
    iou: float | None
    on_images: Callable[[int], None]

    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        truth, found = [], []
        every = len(self.loaded.classes)
        for sample in made_ahead(map(self.samples.read, range(len(self.samples)))):
            pairs = detect_loaded(self.loaded.backend, [LoadedImage("", sample.image)], score=0.0, max_det=every)
            ((_, result),) = pairs
            truth.append(int(sample.labels[0]))
            by_label = np.zeros(every, np.float32)
            by_label[result.labels] = result.scores
            found.append(by_label)
            self.on_images(1)
        return np.array(truth, np.int64), np.stack(found)

    def maps(self) -> Iterator[NDArray[np.uint8]]:
        return tiled_maps(self._results())

    def rows(self, *, masks: bool) -> list[dict[str, Any]]:
        return tiled_rows(self._results())

    def _results(self) -> Iterator[tuple[ImageRecord, Result]]:
        return results_on(
            self.loaded.backend,
            self.truth,
            self.tiling,
            batch=self.batch,
            iou=self.iou,
            on_images=self.on_images,
        )
