"""`--weights coco` and `torchvision:NAME`, from a server on this machine that has a randomly initialised torchvision
model."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from command_line import CommandLine
from published_server import NAME as FILE_NAME
from published_server import FileServer, serving
from tiny import tiny_settings, write_blocks
from torch import Tensor

import visionkit
from visionkit.api.weights import published_name
from visionkit.build import load_model, load_published
from visionkit.engine.events import DownloadProgress, Event
from visionkit.errors import CheckpointError, ConfigError, UsageError, VisionkitError
from visionkit.published.models import PUBLISHED_MODELS

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"  # the smallest
WEIGHTS = f"torchvision:{NAME}"
TOOTHBRUSH = 90  # torchvision's label and COCO's id of the last of the 80 classes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """torchvision's tensors, as published without the counters of batches; every region is a toothbrush."""
    torch.manual_seed(1)
    network = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=91
    )
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias[TOOTHBRUSH] = 20
    return {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def body(state: dict[str, Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.fixture
def server(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """It stands for torchvision's."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISIONKIT_OFFLINE", raising=False)
    with serving(body) as server:
        monkeypatch.setitem(PUBLISHED_MODELS, NAME, replace(PUBLISHED_MODELS[NAME], file=server.published(), imgsz=64))
        yield server


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of its two classes COCO knows one, under another id."""
    root = tmp_path_factory.mktemp("brushes") / "data"
    return write_blocks(root, {"train": 3, "val": 3}, {5: "toothbrush", 7: "crate"})


# What it knows --------------------------------------------------------------------------------------------------------


def test_detections_carry_cocos_names_and_official_ids(server: FileServer, tiny_data: Path) -> None:
    said: list[str] = []
    events: list[Event] = []
    model = visionkit.load(WEIGHTS, device="cpu", threads=1, say=said.append, listen=events.append)
    assert said[0] == f"Downloading {server.url}"
    assert said[3] == "  licence: made for this test, CC0"
    assert events[-1] == DownloadProgress(len(server.body), len(server.body))
    assert (len(model.classes), model.classes.label(TOOTHBRUSH), model.classes.names[79]) == (80, 79, "toothbrush")
    assert model.task == "detect"
    (result,) = model.detect(tiny_data / "images" / "val_0.png", conf=0.9)
    row = json.loads(json.dumps(result.to_json()))
    assert row["model"]["name"] == NAME
    assert row["items"]
    assert {(item["category_id"], item["name"]) for item in row["items"]} == {(TOOTHBRUSH, "toothbrush")}

    visionkit.load(WEIGHTS, device="cpu", threads=1, offline=True)  # now it is in the cache
    assert len(server.asked) == 1


def test_the_rows_of_ids_that_coco_has_not_are_left_out(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save(state, path)
    loaded = load_published(NAME, path)
    ours = loaded.model.state_dict()
    scores, boxes = (state[f"roi_heads.box_predictor.{name}.weight"] for name in ("cls_score", "bbox_pred"))
    assert ours["head.class_predictor.weight"].shape == (81, 1024)
    # Of the 80 classes the 12th is the stop sign, id 13: there is no 12.
    for label, category_id, name in ((0, 1, "person"), (11, 13, "stop sign"), (79, 90, "toothbrush")):
        assert (loaded.classes.category_ids[label], loaded.classes.names[label]) == (category_id, name)
        assert torch.equal(ours["head.class_predictor.weight"][label], scores[category_id])
        corners = ours["head.box_predictor.weight"][4 * label : 4 * label + 4]
        assert torch.equal(corners, boxes[4 * category_id : 4 * category_id + 4])
    assert torch.equal(ours["head.class_predictor.weight"][80], scores[0])  # background, which is last here
    assert torch.equal(ours["backbone.features.0.0.weight"], state["backbone.body.0.0.weight"])
    assert loaded.recipe.form == NAME
    assert not loaded.model.training


def test_coco_is_the_one_that_fits_what_is_asked_for() -> None:
    expected = {
        ("faster-rcnn", None): "fasterrcnn_resnet50_fpn",
        ("faster-rcnn", "mobilenetv3-large"): "fasterrcnn_mobilenet_v3_large_fpn",
        ("retinanet", "resnet50"): "retinanet_resnet50_fpn",
        ("mask-rcnn", None): "maskrcnn_resnet50_fpn",
        ("fcn8s", None): "fcn_resnet50",
        (None, None): "fasterrcnn_resnet50_fpn",
    }
    assert {asked: published_name("coco", *asked) for asked in expected} == expected
    assert published_name("torchvision:retinanet_resnet50_fpn_v2", "yolo") == "retinanet_resnet50_fpn_v2"


# Training and judging -------------------------------------------------------------------------------------------------


def test_a_run_carries_the_head_over_by_class_name_and_its_file_loads_alone(
    server: FileServer, state: dict[str, Tensor], data: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=1, weights=WEIGHTS)
    del settings["imgsz"]  # that of the weights then
    said: list[str] = []
    result = visionkit.finetune(data, freeze="backbone", out=tmp_path / "run", say=said.append, **settings)
    assert result is not None
    assert any(line.startswith(f"Training {NAME} at 64 px") for line in said)
    transfer = json.loads((result.folder / "transfer.json").read_text())
    assert transfer["classes"]["carried"] == [{"name": "toothbrush", "from": "toothbrush"}]
    assert transfer["classes"]["fresh"] == ["crate"]
    config = (result.folder / "config.yaml").read_text()
    assert f"weights: {WEIGHTS}" in config
    assert f"form: {NAME}" in config

    loaded = load_model(result.last)
    assert (loaded.recipe.model, loaded.recipe.backbone, loaded.name) == ("faster-rcnn", "mobilenetv3-large", NAME)
    assert loaded.classes.names == ("toothbrush", "crate")
    ours = loaded.model.state_dict()
    # Frozen: still the published bytes, statistics of norms too.
    for name, tensor in state.items():
        if name.startswith("backbone.body."):
            assert torch.equal(ours[name.replace("backbone.body.", "backbone.features.")], tensor), name
    # A step or two away from what was carried over, its bias far from a fresh row's 0.
    assert ours["head.class_predictor.bias"][0] == pytest.approx(20, abs=0.5)
    assert ours["head.class_predictor.bias"][1:].abs().max() < 0.5
    visionkit.load(result.last, device="cpu", threads=1).detect(data / "images" / "val_0.png")


def test_evaluation_gives_the_ids_of_the_data(server: FileServer, tmp_path: Path) -> None:
    brushes = write_blocks(tmp_path / "data", {"val": 2}, {5: "Tooth Brush", 7: "person"})
    said: list[str] = []
    saved = tmp_path / "found.json"
    scores = visionkit.evaluate(
        WEIGHTS, brushes, batch=1, amp=False, threads=1, workers=0, say=said.append, save_predictions=saved
    )
    assert "Classes: Tooth Brush in the data is toothbrush in the model" in said
    assert scores.images == 2
    rows = json.loads(saved.read_text())
    assert {row["category_id"] for row in rows if row["score"] > 0.9} == {5}


# What is refused ------------------------------------------------------------------------------------------------------


def test_another_file_than_was_published(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(server.published(), sha256="0" * 64)
    monkeypatch.setitem(PUBLISHED_MODELS, NAME, replace(PUBLISHED_MODELS[NAME], file=other))
    with pytest.raises(VisionkitError, match="is not what was published: the file that came has SHA-256"):
        visionkit.load(WEIGHTS, device="cpu", threads=1)
    assert list((tmp_path / "cache" / "weights").iterdir()) == []
    (tmp_path / "cache" / "weights" / FILE_NAME).write_bytes(b"x" * len(server.body))
    with pytest.raises(CheckpointError, match=f"{FILE_NAME} is damaged: it has SHA-256"):
        visionkit.load(WEIGHTS, device="cpu", threads=1)


def test_a_published_file_with_something_else_in_it(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    for content, words in (
        ({"fc.weight": torch.zeros(1)}, "the weights have a tensor 'fc.weight', which no known detector"),
        (
            {"backbone.body.0.0.weight": torch.zeros(1)},
            f"{path} does not hold the weights of torchvision's {NAME}; give",
        ),
        ({**state, "backbone.body.0.0.weight": torch.zeros(1)}, f"{path} does not hold the weights of torchvision's "),
        ([1], f"{path} is not a state dict"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError) as error:
            load_published(NAME, path)
        assert str(error.value).startswith(words)


@pytest.mark.parametrize("command", ["detect", "evaluate", "finetune"])
def test_offline_on_the_command_line(command: str, command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    where = [tiny_data / "images" / "val_0.png", "--no-save"] if command == "detect" else ["--data", tiny_data]
    done = command_line(
        command, *where, "--weights", "coco", "--offline", folder=tmp_path, VISIONKIT_CACHE=str(tmp_path / "cache")
    )
    assert done.code == 2
    url = "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    assert done.error == (
        f"weights coco are not in the cache, and --offline forbids to download them; put {url} there by hand, as "
        f"{tmp_path}/cache/weights/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    )
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("weights", "model", "words"),
    [
        (
            "torchvision:resnet18",
            None,
            f"weights torchvision:resnet18 are not known; the names are {', '.join(PUBLISHED_MODELS)}",
        ),
        (
            "coco",
            ("yolo", None),
            "weights coco are not published for model yolo, they are for faster-rcnn, retinanet, mask-rcnn, fcn8s; "
            "name one of these by --model, or give other weights",
        ),
        (
            "coco",
            ("faster-rcnn", "resnet18"),
            "weights coco are not published for faster-rcnn/resnet18, they are for faster-rcnn on resnet50, "
            "mobilenetv3-large; name one of these by --backbone, or give other weights",
        ),
    ],
)
def test_names_that_mean_nothing(weights: str, model: tuple[str, str | None] | None, words: str) -> None:
    with pytest.raises(UsageError) as error:
        published_name(weights, *(model or ()))
    assert str(error.value) == words


def test_a_model_that_is_asked_for_by_name_is_what_coco_has_to_fit(tiny_data: Path) -> None:
    with pytest.raises(UsageError, match="weights coco are not published for model yolo, they are for "):
        visionkit.finetune(tiny_data, dry_run=True, **tiny_settings(weights="coco", model="yolo"))


def test_a_form_from_scratch_needs_norms_that_measure(tiny_data: Path) -> None:
    settings = tiny_settings(model="faster-rcnn", backbone="mobilenetv3-large", set=[f"form={NAME}"])
    with pytest.raises(ConfigError) as error:
        visionkit.finetune(tiny_data, dry_run=True, **settings)
    assert str(error.value) == (
        f"form {NAME} has frozen norms, as its published weights want them, and random weights cannot learn under "
        f"these; give --weights {WEIGHTS}, or norm batch by --set norm=batch"
    )
    settings["set"].append("norm=batch")
    visionkit.finetune(tiny_data, dry_run=True, **settings)


def test_exact_is_not_bf16() -> None:
    with pytest.raises(UsageError, match=r"^exact means fp32 and amp asks for bf16; leave one of them out$"):
        visionkit.load(exact=True, amp=True)


# Layers ---------------------------------------------------------------------------------------------------------------


def test_layers_shows_the_units_of_a_published_model_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("VISIONKIT_OFFLINE", "1")
    found: Any = visionkit.layers(WEIGHTS, imgsz=64, freeze_specs=["backbone"])
    assert found.name == NAME
    names = [row.name for row in found.rows]
    # Its strided convolution, 15 blocks and last 1x1; then the pyramid, proposals and the head.
    assert names[:2] == ["backbone.features.0", "backbone.features.1"]
    assert len([name for name in names if name.startswith("backbone.")]) == 17
    assert {name.split(".")[0] for name in names[17:]} == {"neck", "rpn", "head"}
    with torch.device("meta"):
        theirs = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=91
        )
    norms = sum(m.weight.numel() + m.bias.numel() for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d))
    # Frozen norms learn nothing. Of 1024 features and a bias, 10 rows of scores are of ids that COCO has not; so are
    # the 4 corners of these, and those of background go too.
    unlearnt = norms + 10 * 1025 + 11 * 4 * 1025
    assert found.parameters == sum(p.numel() for p in theirs.parameters()) - unlearnt
    assert not any(tmp_path.iterdir())
    assert np.isfinite(found.multiply_adds)
