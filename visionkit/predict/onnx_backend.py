"""Prediction by ONNX Runtime: no torch, which alone takes longer to import than all this takes to a result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import CheckpointError, UsageError
from visionkit.predict.graph import METADATA_KEY, GraphCard
from visionkit.predict.graph_backend import GraphBackend
from visionkit.predict.graph_file import GraphHash, require_file

ONLY_FATAL = 4
"""Log level of ONNX Runtime: what goes wrong is raised, and said once."""


def open_onnx(path: Path, *, image_size: int | None = None, threads: int = 0) -> GraphBackend:
    """The backend of an ONNX graph that visionkit exported.

    Args:
        path: of the .onnx file.
        image_size: side in pixels of the square images that it will take; as trained where None.
        threads: CPU threads; 0 leaves ONNX Runtime's choice, a core each.

    Raises:
        CheckpointError: missing, damaged or not visionkit's.
        UsageError: ONNX Runtime is not installed, or the graph does not take images of that size.
    """
    require_file(path)
    file_hash = GraphHash(path)  # found while the library is imported
    onnxruntime = _onnxruntime(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin between operators take the cores from whatever else runs, and then wait for it at the next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ONLY_FATAL
    try:
        # Its fallback would print to stdout and try the same once more.
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # its exceptions have no common class
        words = " ".join(str(error).split())
        raise CheckpointError(f"{path} cannot be read as an ONNX graph ({words}); export the model again") from error
    card = GraphCard.read(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), path)
    outputs = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        return dict(zip(outputs, session.run(outputs, inputs), strict=True))

    shape = session.get_inputs()[0].shape
    side = card.side(image_size, shape, path)
    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return GraphBackend(card, side, runtime, file_hash, run, snug=card.takes_snug(shape))


def _onnxruntime(path: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - a quarter of the time that a cold start takes
    except ImportError as error:
        raise UsageError(
            f"{path} is run by ONNX Runtime, which cannot be imported here ({error}); pip install onnxruntime"
        ) from error
    onnxruntime.disable_telemetry_events()  # on Windows it tells of each session
    return onnxruntime
