"""The file of a graph -> the backend that runs it, chosen by the suffix."""

from __future__ import annotations

from pathlib import Path

from visionkit.predict.graph_backend import GraphBackend
from visionkit.predict.onnx_backend import open_onnx
from visionkit.predict.openvino_backend import open_openvino

ONNX = ".onnx"
OPENVINO = ".xml"
GRAPHS = (ONNX, OPENVINO)
"""Suffixes of graphs."""


def open_graph(path: Path, *, image_size: int | None = None, threads: int = 0, amp: bool | None = None) -> GraphBackend:
    """A graph that visionkit exported, ready to run: `.xml` by OpenVINO, all else by ONNX Runtime.

    Args:
        image_size: side in pixels of the square images that it will take; as trained where None.
        threads: CPU threads; 0 leaves the runtime's choice.
        amp: of OpenVINO, bf16 where the hardware has it, or fp32; its choice where None.

    Raises:
        CheckpointError, UsageError: as `open_onnx` and `open_openvino`.
    """
    if path.suffix.lower() == OPENVINO:
        return open_openvino(path, image_size=image_size, threads=threads, amp=amp)
    return open_onnx(path, image_size=image_size, threads=threads)
