"""A graph in eight bits: convolutions of backbone and neck, with ranges measured on images; heads stay as they are.

Source: Jacob et al. 2017, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference;
by ONNX Runtime's post-training quantisation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import VisionkitError
from visionkit.predict.graph import METADATA_KEY

QUANTISED = ("backbone.", "neck.")
"""Nodes whose names begin so. Heads stay in fp32: their last layers say a score and a place to three digits, and take a
small part of the time."""


def write_int8(source: Path, target: Path, batches: Iterable[NDArray[np.uint8]]) -> None:
    """Write the graph `source`, which `write_onnx` wrote, in eight bits.

    Args:
        batches: letterboxed images u8 [B, H, W, 3] to measure on; tens to hundreds of them, as the model will see.

    Raises:
        VisionkitError: the graph has nothing that is quantised.
    """
    import onnx  # noqa: PLC0415 - an extra
    from onnxruntime.quantization import (  # noqa: PLC0415
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    model = onnx.load(str(source))
    nodes = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name.startswith(QUANTISED)]
    if not nodes:
        raise VisionkitError(f"{source} has no convolution of a backbone, which INT8 is for; export without --int8")
    thresholds = {
        value.name: np.array([1], np.int64) if value.name == "max_det" else np.array([0.5], np.float32)
        for value in model.graph.input
        if value.name != "images"
    }

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The images one batch after another, then None."""

        def __init__(self) -> None:
            self.remaining = iter(batches)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            images = next(self.remaining, None)
            return None if images is None else {"images": images, **thresholds}

    logging.disable(logging.WARNING)  # it advises to prepare the graph, by what would change its sizes to fixed ones
    try:
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=nodes,
            per_channel=True,
            # Seven bits of each weight: without VNNI, x86 adds two products in 16 bits, and more would overflow there.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    _keep_metadata(model, target)


def _keep_metadata(source: Any, target: Path) -> None:
    """Let a graph say of itself what the one it was made from says, and nothing else."""
    import onnx  # noqa: PLC0415 - an extra

    graph = onnx.load(str(target))
    del graph.metadata_props[:]
    graph.metadata_props.extend(one for one in source.metadata_props if one.key == METADATA_KEY)
    onnx.save(graph, str(target))
