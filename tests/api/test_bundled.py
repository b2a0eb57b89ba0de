"""`--weights default`: the model in the box, as every command meets it; here one of the tests' own is in the box."""

import json
from pathlib import Path

import pytest
import torch
from tiny import TinyRun, tiny_settings, write_blocks
from typer.testing import CliRunner

import visionkit
from visionkit.build import load_model
from visionkit.bundled import files
from visionkit.bundled.files import checksum_line
from visionkit.choices import Choices, read_config_file
from visionkit.cli import app
from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.errors import CheckpointError, UsageError

NONE_BUNDLED = "this version bundles no model; give one of yours by --weights FILE"


@pytest.fixture
def empty_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    box = tmp_path / "box"
    box.mkdir()
    monkeypatch.setattr(files, "FOLDER", box)
    return box


@pytest.fixture
def box(empty_box: Path, tiny_run: TinyRun) -> Path:
    """The tiny model, its convolutions in half precision as the real one's are."""
    tensors, card = load_weights(tiny_run.result.best)
    path = empty_box / f"{files.NAME}.safetensors"
    save_weights(path, {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in tensors.items()}, card)
    (empty_box / "SHA256SUMS").write_text(checksum_line(path) + "\n")
    return path


def dry_run(data: Path, **settings: object) -> list[str]:
    said: list[str] = []
    options = {**tiny_settings(), "weights": None, "imgsz": None, **settings}
    visionkit.finetune(data, dry_run=True, say=said.append, **options)
    return said


# In the box -----------------------------------------------------------------------------------------------------------


def test_half_precision_is_read_back_in_full(box: Path, tiny_run: TinyRun) -> None:
    own, bundled = (load_model(weights).model.state_dict() for weights in (tiny_run.result.best, "default"))
    for name, tensor in bundled.items():
        assert tensor.dtype == own[name].dtype
        expected = own[name].half().float() if tensor.ndim == 4 else own[name]
        assert torch.equal(tensor, expected), name
    assert load_model("default").path == box


def test_detect_and_evaluate_use_it_without_being_told(
    box: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = tiny_data / "images" / "train_0.png"
    (result,) = visionkit.load(device="cpu", threads=1).detect(image, conf=0.01)
    assert len(result.boxes) > 0
    assert result.model_sha256 == load_model(box).sha256
    found = CliRunner().invoke(app, ["detect", str(image), "--conf", "0.01", "--no-save", "--threads", "1"])
    assert found.exit_code == 0, found.output
    assert str(image) in found.stdout
    scores = visionkit.evaluate(data=tiny_data, threads=1, workers=0)
    assert scores == visionkit.evaluate(box, tiny_data, threads=1, workers=0)
    judged = CliRunner().invoke(app, ["evaluate", "--data", str(tiny_data), "--threads", "1", "--json"])
    assert json.loads(judged.stdout)["AP"] == scores.AP


def test_finetune_starts_from_it_class_by_class(box: Path, tmp_path: Path) -> None:
    data = write_blocks(tmp_path / "data", {"train": 4, "val": 2}, {1: "Blue block", 2: "box"})
    said = dry_run(data)
    assert f"Weights from {box}:" in said
    assert "  class rows  1 of 2 carried over (Blue block); 1 fresh, not in the weights (box); " \
           "1 unused, not in the data (red block)" in said  # fmt: skip
    assert any(line.startswith("Training yolo/csp-light at 64 px") for line in said)  # its own image size
    assert any(line.startswith("Frozen 10 of") for line in dry_run(data, freeze=10))


def test_another_backbone_starts_random_and_the_config_says_so(box: Path, tiny_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    settings = {**tiny_settings(epochs=1, imgsz=32), "weights": None, "backbone": "resnet18"}
    result = visionkit.finetune(tiny_data, out=tmp_path / "run", say=said.append, **settings)
    assert result is not None
    assert (
        "Weights: random, because the bundled model is yolo/csp-light, without resnet18; "
        "start from one of yours by --weights FILE"
    ) in said
    choices = Choices()
    choices.say(read_config_file(result.folder / "config.yaml"), "file")
    assert choices.config().weights == "scratch"
    assert not (result.folder / "transfer.json").exists()


def test_another_kind_of_model_starts_from_the_backbone_in_the_box(box: Path, tiny_data: Path) -> None:
    said = dry_run(tiny_data, model="classifier", freeze="backbone")
    assert any(line.startswith("Weights from") for line in said)
    assert any(line.startswith("Frozen 10 of 11 units") for line in said)


def test_the_default_asked_for_by_name_is_not_dropped_for_another_backbone(box: Path, tiny_data: Path) -> None:
    with pytest.raises(CheckpointError, match="use the model and backbone it was trained with, yolo/csp-light"):
        dry_run(tiny_data, weights="default", backbone="resnet18")


def test_a_damaged_box_is_an_error_and_never_a_random_start(box: Path, tiny_data: Path) -> None:
    content = bytearray(box.read_bytes())
    content[-1] ^= 1
    box.write_bytes(content)
    for use in (lambda: dry_run(tiny_data), visionkit.load, lambda: visionkit.evaluate(data=tiny_data)):
        with pytest.raises(CheckpointError, match="is damaged: its SHA-256 is not the one this version was published"):
            use()


# An empty box ---------------------------------------------------------------------------------------------------------


def test_without_a_model_in_the_box_training_starts_random_and_says_so(empty_box: Path, tiny_data: Path) -> None:
    said = dry_run(tiny_data)
    assert ("Weights: random, because this version bundles no model; start from one of yours by --weights FILE") in said
    with pytest.raises(UsageError, match="freezing randomly initialised weights would keep noise"):
        dry_run(tiny_data, freeze=10)


def test_without_a_model_in_the_box_nothing_can_be_detected(empty_box: Path, tiny_data: Path) -> None:
    for use in (visionkit.load, lambda: visionkit.evaluate(data=tiny_data)):
        with pytest.raises(UsageError) as error:
            use()
        assert str(error.value) == NONE_BUNDLED
    found = CliRunner().invoke(app, ["detect", str(tiny_data / "images")])
    assert str(found.exception) == NONE_BUNDLED
