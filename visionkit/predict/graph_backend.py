"""A graph that visionkit exported, as a backend, whatever runtime runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.predict.backend import Raw
from visionkit.predict.graph import GraphCard
from visionkit.predict.graph_file import GraphHash
from visionkit.result import Task
from visionkit.score_map import ScoreMap

RunGraph = Callable[[Mapping[str, NDArray[np.generic]]], Mapping[str, NDArray[np.generic]]]
"""Inputs by name -> outputs by name, which nothing writes over later."""


@dataclass(frozen=True, slots=True)
class GraphBackend:
    """A `visionkit.predict.backend.Backend` around a graph; `open_graph` makes one of a file.

    Args:
        card: what the graph says of itself.
        image_size: side in pixels of the square images that `run` takes.
        runtime: name and version of what runs it.
        file_hash: of the file that holds its numbers.
        run_graph: runs it.
        snug: whether it takes parts of the square, too.
    """

    card: GraphCard
    image_size: int
    runtime: str
    file_hash: GraphHash
    run_graph: RunGraph
    snug: bool = False

    @property
    def name(self) -> str:
        return self.card.model

    @property
    def sha256(self) -> str:
        """Of the graph, not of the weights that it was made from: in INT8 the same weights are another model."""
        return self.file_hash.hexdigest()

    @property
    def classes(self) -> ClassTable:
        return self.card.classes

    @property
    def task(self) -> Task:
        return self.card.task

    @property
    def frame_multiple(self) -> int | None:
        return self.card.stride if self.snug else None

    @property
    def score_map(self) -> ScoreMap | None:
        return self.card.score_map

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        """What u8 images [B, H, W, 3] show, RGB, letterboxed; one record an image, in network pixels."""
        found = self.run_graph(self.card.inputs(images, score=score, iou=iou, max_det=max_det))
        return self.card.outputs(found, len(images), score=score, max_det=max_det)
