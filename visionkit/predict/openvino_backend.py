"""Prediction by OpenVINO, where it is installed: the fastest on Intel's and AMD's CPUs that calculate in bf16."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.graph import METADATA_KEY, GraphCard
from visionkit.predict.graph_backend import GraphBackend
from visionkit.predict.graph_file import GraphHash, require_file


def open_openvino(
    path: Path, *, image_size: int | None = None, threads: int = 0, amp: bool | None = None
) -> GraphBackend:
    """The backend of an OpenVINO graph that visionkit exported.

    Args:
        path: of the .xml file; its numbers lie beside it, in the .bin file of the same name, whose SHA-256 is quoted.
        image_size: side in pixels of the square images that it will take; as trained where None.
        threads: CPU threads; 0 leaves OpenVINO's choice.
        amp: bf16 where the hardware has it, or fp32; OpenVINO's choice where None.

    Raises:
        CheckpointError: missing, damaged or not visionkit's.
        UsageError: OpenVINO is not installed, or the graph does not take images of that size.
    """
    require_file(path)
    require_file(path.with_suffix(".bin"))
    file_hash = GraphHash(path.with_suffix(".bin"))
    openvino = _openvino(path)
    core = openvino.Core()
    try:
        model = core.read_model(path)
        card = GraphCard.read(_metadata(model), path)
        shape = [axis.get_length() if axis.is_static else None for axis in model.input("images").partial_shape]
        side = card.side(image_size, shape, path)
        snug = card.takes_snug(shape)
        free = (card.stride, side) if snug else side
        model.reshape({"images": [-1, free, free, 3], **_thresholds(model)})
        compiled = core.compile_model(model, "CPU", _settings(threads, amp))
    except (CheckpointError, UsageError):
        raise
    except Exception as error:  # its exceptions have no common class
        words = " ".join(str(error).split())
        raise CheckpointError(f"{path} cannot be read as an OpenVINO graph ({words}); export it again") from error
    outputs = [output.any_name for output in compiled.outputs]
    running = Lock()

    def run(inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        # The graph has one set of arrays. Without the lock threads get one another's answers; the next run writes over
        # what is not copied.
        with running:
            return {name: np.array(values) for name, values in zip(outputs, compiled(inputs).values(), strict=True)}

    return GraphBackend(card, side, f"OpenVINO {openvino.__version__.partition('-')[0]}", file_hash, run, snug=snug)


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
