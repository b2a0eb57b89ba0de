"""Prediction by OpenVINO, where it is installed: the fastest on Intel's and AMD's CPUs that calculate in bf16."""

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


class OpenVinoBackend:
    """A `visionkit.predict.backend.Backend` around an OpenVINO graph that visionkit exported.

    Args:
        path: of the .xml file; its numbers lie beside it, in the .bin file of the same name.
        image_size: side in pixels of the square images that `run` takes; as trained where None.
        threads: CPU threads; 0 leaves OpenVINO's choice.
        amp: bf16 where the hardware has it, or fp32; OpenVINO's choice where None.

    Raises:
        CheckpointError: missing, damaged or not visionkit's.
        UsageError: OpenVINO is not installed, or the graph does not take images of that size.
    """

    def __init__(self, path: Path, *, image_size: int | None = None, threads: int = 0, amp: bool | None = None) -> None:
        require_file(path)
        require_file(path.with_suffix(".bin"))
        self._hash = GraphHash(path.with_suffix(".bin"))
        openvino = _openvino(path)
        core = openvino.Core()
        try:
            model = core.read_model(path)
            self._card = GraphCard.read(_metadata(model), path)
            images = model.input("images")
            shape = [axis.get_length() if axis.is_static else None for axis in images.partial_shape]
            self.image_size = self._card.side(image_size, shape, path)
            model.reshape({"images": [-1, self.image_size, self.image_size, 3], **_thresholds(model)})
            self._model = core.compile_model(model, "CPU", _settings(threads, amp))
        except (CheckpointError, UsageError):
            raise
        except Exception as error:  # its exceptions have no common class
            words = " ".join(str(error).split())
            raise CheckpointError(f"{path} cannot be read as an OpenVINO graph ({words}); export it again") from error
        self._outputs = [output.any_name for output in self._model.outputs]
        self.runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}"

    @property
    def name(self) -> str:
        return self._card.model

    @property
    def sha256(self) -> str:
        """Of the .bin file."""
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
        # Copied: its own arrays are written over by the next run.
        found = {
            name: np.array(values) for name, values in zip(self._outputs, self._model(inputs).values(), strict=True)
        }
        return self._card.outputs(found, len(images), score=score, max_det=max_det)


def _metadata(model: Any) -> str | None:
    return str(model.get_rt_info([METADATA_KEY]).value) if model.has_rt_info([METADATA_KEY]) else None


def _thresholds(model: Any) -> dict[str, list[int]]:
    return {one.any_name: [1] for one in model.inputs if one.any_name != "images"}


def _settings(threads: int, amp: bool | None) -> dict[str, Any]:
    """One image soon, rather than many at a time."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    if amp is not None:
        settings["INFERENCE_PRECISION_HINT"] = "bf16" if amp else "f32"
    return settings


def _openvino(path: Path) -> Any:
    try:
        import openvino  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"{path} is run by OpenVINO, which cannot be imported here ({error}); pip install openvino"
        ) from error
    return openvino
