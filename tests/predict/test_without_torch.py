"""The whole room works where torch cannot be imported: what a machine that only detects needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from visionkit.api.benchmark import draw_picture
from visionkit.bundled.files import bundled_onnx

PROGRAM = """
import sys
sys.modules["torch"] = None  # any import of it now raises
import io
from pathlib import Path
import numpy as np
from visionkit.classes import ClassTable
from visionkit.predict.backend import RawDetections
from visionkit.predict.detect import detect_loaded, read_images
from visionkit.predict.drawing import draw, draw_comparison
from visionkit.predict.sources import find_images
from visionkit.predict.coco_writer import coco_writer
from visionkit.predict.json_writer import write_json_line
from visionkit.predict.writers import OutputNames, save_picture

class Constant:
    name, sha256, classes, image_size = "constant", "", ClassTable((1,), ("cat",)), 64
    def run(self, images, **thresholds):
        found = RawDetections(np.array([[8, 8, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
        return [found] * len(images)

folder = Path(sys.argv[1])
save_picture(folder / "in" / "a.png", np.full((50, 80, 3), 128, np.uint8))
(folder / "in" / "b.png").write_bytes(b"broken")
skipped, lines, names = [], io.StringIO(), OutputNames(folder / "out")
images = read_images(find_images([str(folder / "in")]), on_skip=lambda path, error: skipped.append(path.name))
with coco_writer(folder / "out") as add:
    for image, result in detect_loaded(Constant(), images):
        add(result, number=image.number, name="a", pixels=image.pixels)
        write_json_line(lines, result)
        save_picture(names.take(result.path), draw(image.pixels, result))
        draw_comparison(image.pixels, result.boxes, ["cat"], result)
print(len(lines.getvalue().splitlines()), skipped, sorted(path.name for path in (folder / "out").iterdir()))
"""


def test_the_room_needs_no_torch(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "1 ['b.png'] ['a.png', 'results.json']\n"


WITHOUT = ("torch", "torchvision", "albumentations", "pydantic", "matplotlib", "pycocotools", "safetensors", "yaml")

COMMAND = """
import sys
for package in sys.argv.pop(1).split(","):
    sys.modules[package] = None  # any import of it now raises
from visionkit.cli import main
main()
"""


def without(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command line where none of `WITHOUT` can be imported."""
    program = [sys.executable, "-c", COMMAND, ",".join(WITHOUT)]
    return subprocess.run([*program, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return draw_picture(tmp_path / "picture.jpg")


def test_the_command_detects_with_the_bundled_model(picture: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    if bundled_onnx() is None:
        pytest.skip("this version bundles no model")
    options = ["--conf", "0.02", "--max-det", "5", "--threads", "1", "--format", "coco", "--format", "csv"]
    done = without(["detect", "picture.jpg", *options, "--out", "out", "--json"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "Pictures, results.json and detections.csv: out\n")
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert said["task"] == "detect"
    assert 0 < len(said["items"]) <= 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"picture.jpg", "results.json", "detections.csv"}
    # In words, and the same in the other room that a model is started from.
    done = without(["detect", "picture.jpg", "--no-save"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("picture.jpg  ")


def test_what_needs_pytorch_says_so_in_a_line(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    for arguments, line in (
        (["detect", "picture.jpg", "--weights", "best.safetensors"], "weights best.safetensors are run by PyTorch,"),
        (["detect", "picture.jpg", "--exact"], "exact needs PyTorch, which is not installed here; leave it out, or"),
        (["detect", "picture.jpg", "--why"], "why needs PyTorch, which is not installed here; leave it out, or"),
        (["layers", "yolo"], "this needs torch, which is not installed here; pip install it"),
    ):
        done = without(arguments, tmp_path)
        assert done.returncode in (1, 2)
        assert done.stdout == ""
        assert done.stderr.startswith(f"error: {line}"), done.stderr
        assert len(done.stderr.splitlines()) == 1
