"""An evaluation shared by several processes: each says what it sees on its part of the images, the first judges all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.data.views import Samples, Sized
from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.evaluate import classify_batches, detect_batches, segment_batches
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import semantic_map
from visionkit.metrics.classification import classification_scores
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.mean_iou import MapCounts
from visionkit.metrics.task_scores import TaskScores
from visionkit.ops.global_count import Processes
from visionkit.types import Batch, Sample, Task


def own_part(length: int, processes: Processes) -> range:
    """This process's items out of `length`: all parts together are all items in their order, and as long as each other
    or one longer.

    >>> from types import SimpleNamespace
    >>> [list(own_part(5, SimpleNamespace(rank=rank, world_size=3))) for rank in range(3)]
    [[0], [1, 2], [3, 4]]
    """
    first, end = (length * rank // processes.world_size for rank in (processes.rank, processes.rank + 1))
    return range(first, end)


@dataclass(frozen=True, slots=True)
class Part:
    """Some samples of a dataset, in its order."""

    dataset: Samples
    items: range

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> Sample:
        return self.dataset.read(self.items[index])

    @property
    def sizes(self) -> NDArray[np.int32]:
        """[N, 2] width and height in pixels, of a dataset that knows them."""
        return cast(Sized, self.dataset).sizes[self.items.start : self.items.stop]

    def path(self, index: int) -> Path | None:
        """Where an item lies; None where the dataset does not say."""
        path: Path | None = self.dataset.path(self.items[index]) if hasattr(self.dataset, "path") else None
        return path


def evaluate_together(
    task: Task,
    model: nn.Module,
    batches: Iterable[Batch],
    truth: AnnotatedImages,
    items: range,
    *,
    device: torch.device,
    amp: bool,
    on_images: Callable[[int], None],
    processes: TorchProcesses,
) -> TaskScores:
    """The scores of a model in eval mode on a split, the same in all processes.

    Args:
        batches: of this process's part of the split.
        truth: the whole split.
        items: which of its items they are.
    """
    settings: dict[str, Any] = {"device": device, "amp": amp, "on_images": on_images}
    judge = _JUDGES[task](model, batches if len(items) else (), truth, items, settings, processes)
    return processes.from_first(judge)


Judge = Callable[[], TaskScores]


def _detector(
    model: nn.Module,
    batches: Iterable[Batch],
    truth: AnnotatedImages,
    items: range,
    settings: dict[str, Any],
    processes: TorchProcesses,
) -> Judge:
    return judge_of_rows(detect_batches(model, batches, truth.classes, **settings), truth, processes)


def judge_of_rows(rows: Sequence[Mapping[str, Any]], truth: AnnotatedImages, processes: TorchProcesses) -> Judge:
    """The judge of what each process detected on its part of a split, as COCO results rows."""
    parts = processes.gathered(rows)
    return lambda: coco_scores(truth, [row for rows in parts or () for row in rows])


def _classifier(
    model: nn.Module,
    batches: Iterable[Batch],
    truth: AnnotatedImages,
    items: range,
    settings: dict[str, Any],
    processes: TorchProcesses,
) -> Judge:
    parts = processes.gathered(classify_batches(model, batches, truth.classes, **settings) if len(items) else None)

    def judge() -> TaskScores:
        there = [part for part in parts or () if part is not None]
        labels, probabilities = (np.concatenate(arrays) for arrays in zip(*there, strict=True))
        return classification_scores(labels, probabilities, truth.classes)

    return judge


def _segmenter(
    model: nn.Module,
    batches: Iterable[Batch],
    truth: AnnotatedImages,
    items: range,
    settings: dict[str, Any],
    processes: TorchProcesses,
) -> Judge:
    return judge_of_maps(segment_batches(model, batches, **settings), truth, items, processes)


def judge_of_maps(
    maps: Iterable[NDArray[np.uint8]], truth: AnnotatedImages, items: range, processes: TorchProcesses
) -> Judge:
    """The judge of the semantic maps that each process has of its items of a split."""
    counts = MapCounts(truth.classes)
    for record, predicted in zip(truth.images[items.start : items.stop], maps, strict=True):
        counts.add(semantic_map(record, truth.classes), predicted)
    parts = processes.gathered((counts.images, counts.confusion))

    def judge() -> TaskScores:
        whole = MapCounts(truth.classes)
        for images, confusion in parts or ():
            whole.images += images
            whole.confusion += confusion
        return whole.scores()

    return judge


_JUDGES: dict[Task, Callable[..., Judge]] = {
    "detect": _detector,
    "classify": _classifier,
    "segment": _segmenter,
}
