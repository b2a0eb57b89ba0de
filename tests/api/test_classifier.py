"""A classifier from end to end: learnt from folders or from the objects of a dataset, judged, asked, and its backbone
handed on to a detector."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from command_line import CommandLine
from reference_data import reference_data
from tiny import COLOURS, tiny_flags, tiny_settings

import visionkit
from visionkit.api.detect import detect
from visionkit.api.training_run import FinetuneResult
from visionkit.build import build_model, load_model, save_model
from visionkit.choices import Choices
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.engine.events import EpochDone, Event
from visionkit.errors import CheckpointError, ConfigError, DataError, UsageError
from visionkit.formats.layout import find_layout
from visionkit.predict.sources import find_images
from visionkit.result import Result
from visionkit.transfer import transfer_weights

NAMES = ("blue", "red")


def write_folders(root: Path, **counts: int) -> Path:
    """Pictures of 40 x 32 px in the folders `blue` and `red` of each split: noise with a block of that colour."""
    for seed, (split, count) in enumerate(counts.items()):
        random = np.random.default_rng(seed)
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(90, 150, (32, 40, 3), dtype=np.uint8)
                left, top = random.integers(0, 15, 2)
                pixels[top : top + 16, left : left + 20] = COLOURS[1 - label]
                cv2.imwrite(str(root / split / name / f"{i}.png"), pixels)
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("folders") / "colours", train=8, val=4)


def settings(epochs: int = 2, **others: Any) -> dict[str, Any]:
    return tiny_settings(epochs=epochs, imgsz=32, model="classifier", **others)


@pytest.fixture(scope="module")
def run(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    """Trained until it tells the colours apart; tests leave its folder as it is."""
    out = tmp_path_factory.mktemp("classifier") / "run"
    result = visionkit.finetune(folders, out=out, **settings(epochs=12, set=["train.evaluate_every=4"]))
    assert result is not None
    return result


def rows_of(result: FinetuneResult) -> list[dict[str, str]]:
    return list(csv.DictReader((result.folder / "metrics.csv").open()))


# Training -------------------------------------------------------------------------------------------------------------


def test_it_learns_and_its_history_is_a_classifier_s(run: FinetuneResult) -> None:
    names = ["epoch", "step", "lr", "loss/class", "accuracy", "f1", "precision", "recall", "roc_auc", "top5"]
    assert list(rows_of(run)[0]) == names
    assert run.scores["accuracy"] is not None
    assert run.scores["accuracy"] > 0.8
    best = max((row for row in rows_of(run) if row["accuracy"]), key=lambda row: float(row["accuracy"]))
    assert run.best_epoch == int(best["epoch"])
    assert "accuracy" in (run.folder / "log.txt").read_text()
    assert (run.folder / "curves.png").exists()
    assert load_model(run.best).scores["accuracy"] == run.scores["accuracy"]


def test_the_folders_are_named_and_counted(folders: Path, tmp_path: Path) -> None:
    said: list[str] = []
    visionkit.finetune(folders, out=tmp_path / "run", dry_run=True, say=said.append, **settings())
    assert said[:4] == [
        "Data: Folder-per-class layout: train/, val/",
        "train: 16 images",
        "val: 8 images",
        "Classes (category id): blue (1), red (2)",
    ]
    assert "2 epochs of 16 images in batches of 4" in said[-2]


def test_the_objects_of_a_dataset_are_its_pictures(tiny_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = visionkit.finetune(tiny_data, out=tmp_path / "run", say=said.append, **settings(epochs=1))
    assert result is not None
    # Ten images with two objects, but the second, and the last of all a crowd region.
    assert any("1 epoch of 17 crops in batches of 4" in line for line in said)
    scores = visionkit.evaluate(result.best, tiny_data)
    assert scores.images == 5  # pictures: four images, likewise
    assert scores.to_json()["task"] == "classify"


def test_killed_and_resumed_it_ends_in_the_same_bytes(folders: Path, tmp_path: Path) -> None:
    whole = visionkit.finetune(folders, out=tmp_path / "whole", **settings(epochs=3))
    assert whole is not None

    def stop(event: Event) -> None:
        if isinstance(event, EpochDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visionkit.finetune(folders, out=tmp_path / "cut", listen=stop, **settings(epochs=3))
    resumed = visionkit.finetune(resume=tmp_path / "cut")
    assert resumed is not None
    for name in ("last.safetensors", "best.safetensors", "metrics.csv"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name


def test_a_frozen_backbone_under_a_new_head(run: FinetuneResult, folders: Path, tmp_path: Path) -> None:
    result = visionkit.finetune(
        folders, out=tmp_path / "run", freeze="backbone", **{**settings(epochs=1), "weights": str(run.best)}
    )
    assert result is not None
    assert result.frozen_sha256
    before, after = load_model(run.best).model.state_dict(), load_model(result.last).model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("backbone."))
    assert not torch.equal(after["head.linear.weight"], before["head.linear.weight"])


def test_a_detector_cannot_learn_from_folders(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        visionkit.finetune(folders, out=tmp_path / "run", **tiny_settings(model="yolo"))
    assert str(error.value) == (
        f"{folders / 'train'} has a folder per class and no boxes, which model yolo learns; use --model classifier, or "
        "other data"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["dropout", "label_smoothing"])
def test_its_options_are_shares(key: str) -> None:
    table = ClassTable((1, 2), NAMES)
    model = build_model(Recipe.model_validate({"model": "classifier", key: "0.5"}), table)
    assert (model.head.dropout.p if key == "dropout" else model.label_smoothing) == 0.5
    with pytest.raises(ConfigError) as error:
        build_model(Recipe.model_validate({key: 0.5}), table)
    assert str(error.value) == f"model yolo has no option {key}; leave {key} at own"
    choices = Choices()
    choices.say({key: 1}, "set")
    with pytest.raises(ConfigError) as error:
        choices.config()
    assert str(error.value) == f"{key} = 1: input should be 'own', or a number from 0 to below 1"


# Judged and asked -----------------------------------------------------------------------------------------------------


def test_alone_it_scores_as_in_training(run: FinetuneResult, folders: Path) -> None:
    scores = visionkit.evaluate(run.best, folders)
    assert {name: getattr(scores, name) for name in run.scores} == run.scores
    other_batch = visionkit.evaluate(run.best, folders, batch=3)
    assert other_batch.confusion == scores.confusion


def test_f_beta_is_printed_where_it_is_asked_for(
    run: FinetuneResult, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.cli.score_tables import print_scores

    scores = visionkit.evaluate(run.best, folders, beta=0.5)
    print_scores(scores)
    lines = capsys.readouterr().out.splitlines()
    assert f"F0.5 {scores.f_beta:.4f}" in [" ".join(line.split()) for line in lines]
    heads = next(line for line in lines if line.startswith("class "))
    assert heads.split() == ["class", "precision", "recall", "f1", "roc_auc", "pictures", "F0.5"]
    rows = [line for line in lines if line.split()[:1] in (["blue"], ["red"])]
    assert [len(row) for row in rows] == [len(heads)] * 2
    assert [row.split()[-1] for row in rows] == [f"{row.f_beta:.4f}" for row in scores.per_class.values()]


def test_a_beta_that_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        visionkit.evaluate(tmp_path / "any.safetensors", tmp_path, beta=0)
    assert str(error.value) == "beta must be above 0, got 0; 2 counts recall twice as much as precision"
    path, recipe, table = tmp_path / "detector.safetensors", Recipe(imgsz=64), ClassTable((1, 2), NAMES)
    save_model(path, build_model(recipe, table), table, recipe, {})
    with pytest.raises(UsageError, match="is no classifier, and --beta is of the classes of pictures; leave it out"):
        visionkit.evaluate(path, tmp_path, beta=2)


def test_classes_meet_by_name_whatever_their_order(run: FinetuneResult, folders: Path, tmp_path: Path) -> None:
    source = load_model(run.best)
    model = source.model
    with torch.no_grad():
        for name in ("weight", "bias"):
            parameter = getattr(model.head.linear, name)
            parameter.copy_(torch.cat((parameter[1:], parameter[:1])))
    path = tmp_path / "turned.safetensors"
    save_model(path, model, ClassTable((5, 4), NAMES[::-1]), source.recipe, {})
    assert visionkit.evaluate(path, folders) == visionkit.evaluate(run.best, folders)


@pytest.mark.parametrize("option", ["save_predictions", "pictures"])
def test_it_has_no_detections_to_show(option: str, run: FinetuneResult, folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"best\.safetensors is a classifier, and predictions and pictures are of"):
        visionkit.evaluate(run.best, folders, **{option: tmp_path / "new"})


def test_a_result_is_a_class_with_its_score(run: FinetuneResult, folders: Path) -> None:
    model = visionkit.load(run.best)
    assert model.task == "classify"
    (result,) = model.detect(folders / "val" / "red" / "0.png", conf=0.0)
    assert (result.task, result.width, result.height) == ("classify", 40, 32)
    assert sorted(result.labels.tolist()) == [0, 1]
    assert result.scores.sum() == pytest.approx(1, abs=1e-5)
    item = result.to_json()["items"][0]
    assert list(item) == ["score", "label", "category_id", "name"]
    assert item["name"] == NAMES[item["label"]]
    (certain,) = model.detect(folders / "val" / "red" / "0.png", conf=1.0)
    assert len(certain) == 1  # the best class, whatever its score
    (of_blue,) = model.detect(folders / "val" / "red" / "0.png", conf=0.0, classes=["blue"])
    assert of_blue.labels.tolist() == [0]


def test_tiles_are_refused_before_anything_is_looked_at(
    run: FinetuneResult, folders: Path, command_line: CommandLine
) -> None:
    """Also where no picture is larger than a tile."""
    model, image = visionkit.load(run.best), folders / "val" / "red" / "0.png"
    seen: list[Result] = []
    for look in (
        lambda: model.detect(image, tile=32),
        lambda: model.stream(image, tile=640),
        lambda: detect(model, [image], tile=32, save=False, formats=[], on_result=seen.append),
    ):
        with pytest.raises(
            UsageError, match="is a classifier, tiles are for detectors and segmenters; leave out --tile"
        ):
            look()
    assert len(model.detect(image, tile=0)) == 1
    done = command_line("classify", image, "--weights", run.best, "--tile", 640)
    assert (done.code, done.stdout, seen) == (2, "", [])


def test_what_it_says_is_written_as_csv_and_drawn(run: FinetuneResult, folders: Path, tmp_path: Path) -> None:
    model = visionkit.load(run.best)
    paths = list(find_images([str(folders / "val" / "red")]))
    assert detect(model, paths, conf=1.0, out=tmp_path / "out") == 4
    rows = list(csv.DictReader((tmp_path / "out" / "detections.csv").open()))
    assert [row["file_name"] for row in rows] == [str(path) for path in paths]
    assert {row["x1"] for row in rows} == {""}
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    with pytest.raises(UsageError) as error:
        detect(model, paths, formats=["coco"], out=tmp_path / "other")
    assert "format coco cannot hold what this model finds (task classify), these formats can: json, csv" in str(
        error.value
    )


def test_on_the_command_line(run: FinetuneResult, folders: Path, command_line: CommandLine, tmp_path: Path) -> None:
    image = folders / "val" / "blue" / "0.png"
    done = command_line("classify", image, "--weights", run.best, "--out", tmp_path / "out")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"{image}  40x32  ")
    assert "Pictures and detections.csv" in done.stderr
    said = command_line("detect", image, "--weights", run.best, "--no-save", "--json").json
    assert said["task"] == "classify"
    refused = command_line("classify", image, "--weights", run.best, "--format", "yolo")
    assert refused.code == 2
    assert refused.error.startswith("format yolo cannot hold what this model finds")

    done = command_line("evaluate", "--weights", run.best, "--data", folders)
    lines = done.stdout.splitlines()
    assert lines[0] == "8 pictures, classified"
    assert lines[1].startswith("accuracy ")
    assert lines[1].endswith("top5    n/a")
    found = command_line("evaluate", "--weights", run.best, "--data", folders, "--beta", 2, "--json").json
    assert [line.split()[2:] for line in lines[-2:]] == [[str(count) for count in row] for row in found["confusion"]]
    assert (found["beta"], set(found["per_class"]["red"])) == (
        2, {"precision", "recall", "f1", "f_beta", "roc_auc", "images", "predicted"}
    )  # fmt: skip
    layers = command_line("layers", run.best)
    assert layers.code == 0
    assert "head.linear" in layers.stdout


# Its backbone in a detector -------------------------------------------------------------------------------------------


def test_a_detector_takes_over_the_backbone(run: FinetuneResult, tmp_path: Path) -> None:
    source, table = load_model(run.best), ClassTable((1, 2), ("car", "cat"))
    model = build_model(Recipe(model="yolo"), table)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    transfer = transfer_weights(model, table, source)
    given = source.model.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, given[name] if name.startswith("backbone.") else fresh[name]), name
    assert transfer.reinitialised == tuple(name for name in fresh if not name.startswith("backbone."))
    assert transfer.unused == ("head.linear.weight", "head.linear.bias")
    parts = [sum(name.startswith(part) for name in fresh) for part in ("backbone.", "neck.", "head.")]
    assert transfer.lines() == [
        f"Weights from {run.best}, of another model, classifier/csp-light:",
        f"  backbone    {parts[0]} tensors loaded",
        f"  neck        {parts[1]} tensors fresh, the weights are of another model",
        f"  head        {parts[2]} tensors fresh, the weights are of another model",
        "  unused      2 tensors of its head",
    ]
    assert transfer.to_json()["model"] == "classifier/csp-light"
    assert len(transfer.to_json()["fresh"]) == parts[1] + parts[2]


def test_another_backbone_takes_nothing_over(run: FinetuneResult) -> None:
    table = ClassTable((1,), ("car",))
    model = build_model(Recipe(model="yolo", backbone="resnet18"), table)
    with pytest.raises(CheckpointError) as error:
        transfer_weights(model, table, load_model(run.best))
    assert "does not fit this model's backbone: " in str(error.value)
    assert str(error.value).endswith("use the backbone it was trained with, csp-light")


def test_a_detector_is_finetuned_on_it(
    run: FinetuneResult, tiny_data: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    flags = tiny_flags(epochs=1, model="yolo", weights=run.best, freeze="backbone")
    done = command_line("finetune", f"--data={tiny_data}", *flags, "--out", tmp_path / "run")
    assert done.code == 0, done.stderr
    assert "of another model, classifier/csp-light:" in done.stderr
    assert "Frozen 10 of 17 units" in done.stderr
    assert load_model(tmp_path / "run" / "best.safetensors").name == "yolo/csp-light"
    assert json.loads((tmp_path / "run" / "transfer.json").read_text())["model"] == "classifier/csp-light"


def test_the_size_of_another_model_s_images_is_not_taken_over(
    run: FinetuneResult, tiny_data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    asked = {"weights": str(run.best), "threads": 1, "workers": 0, "dry_run": True, "say": said.append}
    visionkit.finetune(tiny_data, model="yolo", **asked)
    assert any("Training yolo/csp-light at 320 px" in line for line in said)
    visionkit.finetune(tiny_data, **asked)
    assert any("Training classifier/csp-light at 32 px" in line for line in said)


# Reference data -------------------------------------------------------------------------------------------------------


def test_the_cells_of_the_blood_cells_data_are_its_pictures() -> None:
    from visionkit.data.crops import CropDataset

    val = find_layout(reference_data("blood-cells")).splits["val"].read()
    crops = CropDataset(val, margin=0.1)
    assert len(crops) == val.object_count
    assert np.bincount(crops.labels).tolist() == [967, 87, 83]
