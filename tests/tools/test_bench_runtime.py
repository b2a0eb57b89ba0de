"""`tools/bench coldstart` and `latency`: a tiny run of each, where a model is in the box."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from visionkit.bundled.files import bundled_onnx

pytest.importorskip("onnxruntime")

BENCH = Path(__file__).parents[2] / "tools" / "bench"

pytestmark = pytest.mark.skipif(bundled_onnx(checked=False) is None, reason="this version bundles no model")


def bench(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_tiny_cold_start() -> None:
    done = bench("coldstart", "--steps", 1, "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    names = ["visionkit detect", "without a picture", "cv2 + onnxruntime", "import torch"]
    assert [turn["name"] for turn in said["turns"]] == names
    seconds = [turn["seconds"] for turn in said["turns"]]
    assert min(seconds) > 0
    ratios = [row["ratio"] for row in said["rows"]["seconds"]]
    assert ratios == [None, *(pytest.approx(seconds[0] / it) for it in seconds[1:])]
    assert all(row["median"] > 0 for row in said["rows"]["cpu_seconds"])


def test_a_tiny_latency() -> None:
    done = bench("latency", "--steps", 2, "--rounds", 1, "--threads", 1, "--runtimes", "graph")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "From a file to boxes, one picture at a time, 1 rounds of 2 pictures"
    assert lines[3].startswith("visionkit, graph        1 ")


def test_what_goes_wrong_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a graph")
    done = bench("coldstart", "--weights", tmp_path / "text.onnx", "--steps", 1, "--rounds", 1)
    assert done.returncode == 1
    assert "cannot be read as an ONNX graph" in done.stderr
