"""From a run's weights to the files of `visionkit/bundled`: weights, ONNX graph, model card, checksums.

    .venv/bin/python tools/export_bundled RUN/best.safetensors --data general-photos

Needs visionkit's extra `export`. Nothing is written unless the graph agrees with the model on all of the val split.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from half_precision import write_half
from model_card import Facts, model_card

import visionkit
from visionkit.build import load_model
from visionkit.bundled import files
from visionkit.bundled.files import checksum_line
from visionkit.errors import VisionkitError
from visionkit.exporting.certificate import Certificate

LARGEST = 16_000_000  # bytes of weights, graph and card together


def exported(weights: Path, data: Path, graph: Path) -> Certificate:
    """Write the graph, and say how it agrees with the model.

    Raises:
        VisionkitError: it does not.
    """
    try:
        return visionkit.export(weights, data=data, out=graph).certificate
    except VisionkitError as error:
        raise VisionkitError(f"{str(error).rpartition('; ')[0] or error}; nothing is written") from error


def main(arguments: Sequence[str] | None = None) -> None:
    top = argparse.ArgumentParser(
        prog="tools/export_bundled", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("weights", type=Path, help="best.safetensors of a run")
    top.add_argument("--data", type=Path, required=True, help="the folder it was trained on, general-photos")
    top.add_argument("--command", action="append", default=[], help="that trained it, in order; else from its recipe")
    top.add_argument("--out", type=Path, default=files.FOLDER, help="(%(default)s)")
    given = top.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out, prefix=".export-") as folder:
        weights, graph, card = (
            Path(folder) / name for name in (f"{files.NAME}.safetensors", f"{files.NAME}.onnx", "MODEL_CARD.md")
        )
        write_half(given.weights, weights)
        loaded = load_model(weights)
        certificate = exported(weights, given.data, graph)
        print(certificate.table())
        scores, full = (visionkit.evaluate(path, given.data) for path in (weights, given.weights))
        facts = Facts.of(loaded, scores, full, certificate, given.data, tuple(given.command))
        card.write_text(model_card(facts), encoding="utf-8")
        written = (weights, graph, card)
        size = sum(path.stat().st_size for path in written)
        if size > LARGEST:
            raise VisionkitError(
                f"the files take {size:,} bytes, at most {LARGEST:,} fit in the package; shrink the model"
            )
        sums = Path(folder) / files.CHECKSUMS
        sums.write_text("".join(f"{checksum_line(path)}\n" for path in written), encoding="utf-8")
        for path in (*written, sums):
            os.replace(path, given.out / path.name)
    print(json.dumps({"folder": str(given.out), "bytes": size, "AP": scores.AP, "AP_in_full_precision": full.AP}))


if __name__ == "__main__":
    try:
        main()
    except VisionkitError as error:
        sys.exit(f"error: {error}")
