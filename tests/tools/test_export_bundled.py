"""The maker of the bundled files: half precision, model card; the whole where ONNX is."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tiny import TinyRun

import visionkit
from visionkit.build import load_model
from visionkit.bundled import files
from visionkit.bundled.files import checksum_line
from visionkit.config import Recipe
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.engine.settings import TrainSettings
from visionkit.errors import VisionkitError
from visionkit.exporting.certificate import Certificate
from visionkit.exporting.parity import FP32

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "export_bundled"))

from half_precision import write_half
from model_card import Facts, model_card, training_command

TOOL = Path(__file__).parents[2] / "tools" / "export_bundled"

# Half precision -------------------------------------------------------------------------------------------------------


def test_convolutions_are_halved_and_the_small_tensors_stay(tiny_run: TinyRun, tmp_path: Path) -> None:
    write_half(tiny_run.result.best, tmp_path / "half.safetensors")
    (before, card), (after, same) = (load_weights(p) for p in (tiny_run.result.best, tmp_path / "half.safetensors"))
    assert same == card
    for name, tensor in after.items():
        if tensor.ndim == 4:
            assert torch.equal(tensor, before[name].half())
        else:
            assert torch.equal(tensor, before[name])
    # Almost all of a model is in its convolutions.
    sizes = [path.stat().st_size for path in (tmp_path / "half.safetensors", tiny_run.result.best)]
    assert sizes[0] < 0.56 * sizes[1]


def test_numbers_beyond_half_precision_are_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    tensors, card = load_weights(tiny_run.result.best)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    tensors[name].view(-1)[0] = 70_000  # the largest half is 65504
    save_weights(tmp_path / "large.safetensors", tensors, card)
    with pytest.raises(VisionkitError, match=r"large\.safetensors holds numbers beyond 65504"):
        write_half(tmp_path / "large.safetensors", tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()


# The card -------------------------------------------------------------------------------------------------------------


def test_the_command_names_what_is_not_the_default() -> None:
    recipe = Recipe(imgsz=64, augment="light", train=TrainSettings(epochs=7))
    assert training_command(Recipe()) == "visionkit finetune --data general-photos --weights scratch"
    assert training_command(recipe) == (
        "visionkit finetune --data general-photos --weights scratch --set imgsz=64 --set augment=light "
        "--set train.epochs=7"
    )


def test_the_card_says_what_was_measured(tiny_run: TinyRun, tiny_data: Path) -> None:
    scores = visionkit.evaluate(tiny_run.result.best, tiny_data, threads=1, workers=0)
    certificate = Certificate(
        model="yolo/csp-light",
        weights_sha256="",
        export_sha256="",
        runtime="ONNX Runtime",
        precision="fp32",
        on="the val split",
        real=True,
        images=4,
        facts={
            "detections_of_model": 9,
            "unmatched": 0,
            "smallest_iou": 0.99987,
            "largest_score_difference": 3e-7,
        },
        metrics={"AP": (0.25, 0.25)},
        calibration=None,
        tolerance=FP32,
        complaints=(),
    )
    loaded = load_model(tiny_run.result.best)
    facts = Facts.of(loaded, scores, scores, certificate, tiny_data, ("visionkit finetune --data here",))
    facts.contents["val"]["licenses"] = [{"id": 4, "name": "Attribution License"}]
    facts.contents["val"]["images"][0]["license"] = 4
    card = model_card(facts)
    lines = card.splitlines()
    assert f"| {scores.AP:.3f} | {scores.AP50:.3f} |" in card
    ordered = sorted(scores.per_class, key=lambda name: -(scores.per_class[name].AP or 0))
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.endswith(" |") and "block" in line]
    assert rows == ordered
    assert f"- The weakest classes, by AP: {ordered[-1]} ({scores.per_class[ordered[-1]].AP:.3f}), " in card
    assert "Of the 14 images, 1 have their licence recorded: 1 Attribution License." in card
    assert "    visionkit finetune --data here" in lines
    assert (
        "The graph says what the model says: 9 detections in 4 images, 0 of both sides without a counterpart; boxes "
        "overlap by at least 0.9999, scores differ by at most 3e-07; AP 0.250 and 0.250."
    ) in card
    assert str(tiny_data) not in card
    assert "$" not in card


# The whole ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")), reason="ONNX is not installed"
)
def test_from_a_run_to_the_files_in_the_box(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(TOOL), str(tiny_run.result.best), "--data", str(tiny_data), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    names = {f"{files.NAME}.safetensors", f"{files.NAME}.onnx", "MODEL_CARD.md"}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "SHA256SUMS"}
    assert said["bytes"] == sum((tmp_path / name).stat().st_size for name in names)
    assert said["AP"] == pytest.approx(said["AP_in_full_precision"], abs=0.01)
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert sorted(lines) == sorted(checksum_line(tmp_path / name) for name in names)
    # Nothing of the machine it was made on.
    graph = (tmp_path / f"{files.NAME}.onnx").read_bytes()
    assert b".py" not in graph
    assert str(Path.cwd()).encode() not in graph
