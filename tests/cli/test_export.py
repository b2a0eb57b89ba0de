"""`visionkit export` as a user types it."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import CommandLine
from tiny import TinyRun

from visionkit.build import build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")), reason="ONNX is not installed"
    ),
]


def test_it_writes_the_graph_and_prints_the_certificate(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "mine.safetensors"
    shutil.copy(tiny_run.result.best, weights)
    done = command_line("export", weights, "--data", tiny_data, "--threads", 1)
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/mine.onnx, ")
    assert lines[0].endswith(" MB")
    rows = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines[1:]}
    assert rows["compared on"] == "4 images: the val split of data"
    assert rows["unmatched"] == "0"
    assert rows["verdict"] == "within tolerance"
    assert "Exporting yolo/csp-light to onnx" in done.stderr
    # PyTorch's exporter has nothing to say to users.
    assert "torch" not in done.stderr.lower()

    again = command_line("export", weights, "--data", tiny_data)
    assert again.code == 2
    assert again.error == f"{tmp_path}/mine.onnx exists and nothing is overwritten; give another --out"

    found = command_line(
        "detect", tiny_data / "images" / "val_0.png", "--weights", tmp_path / "mine.onnx", "--no-save", "--json"
    )
    assert found.code == 0, found.stderr
    assert found.json["model"]["name"] == "yolo/csp-light"


def test_for_machines_it_is_one_object(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.onnx"
    done = command_line(
        "export", tiny_run.result.best, "--images", tiny_data / "images", "--out", out, "--threads", 1, "--json"
    )
    assert done.code == 0, done.stderr
    assert set(done.json) == {"file", "bytes", "certificate_file", "certificate"}
    assert (done.json["file"], done.json["bytes"]) == (str(out), out.stat().st_size)
    assert done.json["certificate"]["schema"] == "visionkit.certificate/1"


def test_a_model_that_cannot_be_a_graph_is_refused_in_a_line(command_line: CommandLine, tmp_path: Path) -> None:
    recipe, classes = Recipe(model="fast-rcnn", backbone="lenet5"), ClassTable((1,), ("car",))
    weights = tmp_path / "mine.safetensors"
    save_model(weights, build_model(recipe, classes), classes, recipe, {})
    done = command_line("export", weights)
    assert done.code == 2
    assert done.error == (
        f"{weights}, a fast-rcnn, is fed by proposals of each image from a file, a graph takes images alone; export a "
        "faster-rcnn, which makes its own"
    )
    assert list(tmp_path.iterdir()) == [weights]
