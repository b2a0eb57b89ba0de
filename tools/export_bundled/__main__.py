"""From a run's weights to the files of `visionkit/bundled`: weights, ONNX graph, model card, checksums.

    .venv/bin/python tools/export_bundled RUN/best.safetensors --data general-photos

Needs onnx, onnxscript and onnxruntime beside visionkit. Nothing is written unless the graph agrees with the model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from agreement import Agreement, compare
from half_precision import write_half
from model_card import Facts, model_card
from onnx_graph import OnnxBackend, write_onnx

import visionkit
from visionkit.build import LoadedModel, load_model
from visionkit.bundled import files
from visionkit.bundled.files import checksum_line
from visionkit.errors import VisionkitError
from visionkit.formats.layout import find_layout, read_split
from visionkit.imaging.letterbox import letterbox
from visionkit.imaging.reader import read_image

LARGEST = 16_000_000  # bytes of weights, graph and card together


def agreement_on(loaded: LoadedModel, graph: Path, data: Path, count: int) -> Agreement:
    """How well the graph's decisions agree with the model's on the first images of the val split."""
    records = read_split(find_layout(data), "val").images[:count]
    side = loaded.recipe.imgsz
    squares = [letterbox(read_image(record.path), side)[0] for record in records if record.path is not None]
    return compare(loaded, OnnxBackend(graph), np.stack(squares))


def main(arguments: Sequence[str] | None = None) -> None:
    top = argparse.ArgumentParser(
        prog="tools/export_bundled", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("weights", type=Path, help="best.safetensors of a run")
    top.add_argument("--data", type=Path, required=True, help="the folder it was trained on, general-photos")
    top.add_argument(
        "--images", type=int, default=16, help="of its val split, on which the graph must agree (%(default)s)"
    )
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
        write_onnx(loaded, graph)
        agreement = agreement_on(loaded, graph, given.data, given.images)
        print(agreement.sentence())
        agreement.require()
        scores, full = (visionkit.evaluate(path, given.data) for path in (weights, given.weights))
        facts = Facts.of(loaded, scores, full, agreement, given.data, tuple(given.command))
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
