"""A graph for OpenVINO: the ONNX graph, converted."""

from __future__ import annotations

from pathlib import Path

from visionkit.exporting.onnx_file import check_packages
from visionkit.predict.graph import METADATA_KEY


def check_openvino() -> None:
    """Raises UsageError where OpenVINO is not installed."""
    check_packages(needed=("openvino",), extra="openvino")


def write_openvino(source: Path, target: Path) -> None:
    """Write the graph `source`, of `write_onnx` or `write_int8`, as OpenVINO's .xml, and its numbers as the .bin beside
    that; what it says of itself is in the .xml, under the same key.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    check_openvino()
    import onnx  # noqa: PLC0415 - extras
    import openvino  # noqa: PLC0415

    # Not `convert_model`: that belongs to the tool that comes with openvino-telemetry.
    model = openvino.Core().read_model(str(source))
    said = {one.key: one.value for one in onnx.load(str(source), load_external_data=False).metadata_props}
    model.set_rt_info(said[METADATA_KEY], [METADATA_KEY])
    openvino.save_model(model, str(target), compress_to_fp16=False)
