"""Prediction by ONNX Runtime: no torch, which alone takes longer to import than all this takes to a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.backend import Raw
from visionkit.predict.graph import METADATA_KEY, GraphCard
from visionkit.predict.graph_file import GraphHash, require_file
from visionkit.result import Task
from visionkit.score_map import ScoreMap

ONLY_FATAL = 4
"""Log level of ONNX Runtime: what goes wrong is raised, and said once."""


class OnnxBackend:
    """A `visionkit.predict.backend.Backend` around an ONNX graph that visionkit exported.

    Args:
        path: of the .onnx file.
        image_size: side in pixels of the square images that `run` takes; as trained where None.
        threads: CPU threads; 0 leaves ONNX Runtime's choice, a core each.

    Raises:
        CheckpointError: missing, damaged or not visionkit's.
        UsageError: ONNX Runtime is not installed, or the graph does not take images of that size.
    """

    def __init__(self, path: Path, *, image_size: int | None = None, threads: int = 0) -> None:
        require_file(path)
        self._hash = GraphHash(path)  # found while the library is imported
        onnxruntime = _onnxruntime(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin between operators take the cores from whatever else runs, and then wait for it at the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = ONLY_FATAL
        try:
            # Its fallback would print to stdout and try the same once more.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # its exceptions have no common class
            words = " ".join(str(error).split())
            raise CheckpointError(
                f"{path} cannot be read as an ONNX graph ({words}); export the model again"
            ) from error
        self._card = GraphCard.read(self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), path)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.image_size = self._card.side(image_size, self._session.get_inputs()[0].shape, path)
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"

    @property
    def name(self) -> str:
        return self._card.model

    @property
    def sha256(self) -> str:
        """Of the graph, not of the weights that it was made from: in INT8 the same weights are another model."""
        return self._hash.hexdigest()

    @property
    def classes(self) -> ClassTable:
        return self._card.classes

    @property
    def task(self) -> Task:
        return self._card.task

    @property
    def score_map(self) -> ScoreMap | None:
        return self._card.score_map

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        """What u8 images [B, S, S, 3] show, RGB, letterboxed; one record an image, in network pixels."""
        inputs = self._card.inputs(images, score=score, iou=iou, max_det=max_det)
        found = dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))
        return self._card.outputs(found, len(images), score=score, max_det=max_det)


def _onnxruntime(path: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - a quarter of the time that a cold start takes
    except ImportError as error:
        raise UsageError(
            f"{path} is run by ONNX Runtime, which cannot be imported here ({error}); pip install onnxruntime"
        ) from error
    onnxruntime.disable_telemetry_events()  # on Windows it tells of each session
    return onnxruntime
