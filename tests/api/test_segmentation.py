"""A segmenter from masks to overlays: trained, resumed, judged, frozen; and told from detectors and their data."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from masks import NAMES, write_masks
from safetensors.numpy import load_file
from tiny import tiny_settings, write_blocks

import visionkit
from visionkit.api.layers import layers
from visionkit.api.task_data import task_layout
from visionkit.api.training_run import FinetuneResult
from visionkit.cli.augment_preview import augment_preview
from visionkit.cli.finetune import _print
from visionkit.engine.events import StepDone
from visionkit.errors import CheckpointError, ConfigError, DataError, UsageError
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.imaging.mask import read_mask

SCORES = ("mIoU", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")


def settings(epochs: int = 2, **others: Any) -> dict[str, Any]:
    return tiny_settings(epochs, **{"model": "fcn8s", "augment": "none", "set": ["grow_from=1"], **others})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masks(tmp_path_factory.mktemp("masks") / "data", {"train": 12, "val": 4})


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    result = visionkit.finetune(data, out=tmp_path_factory.mktemp("run") / "run", **settings(epochs=20))
    assert result is not None
    return result


def test_it_learns(run: FinetuneResult) -> None:
    assert tuple(run.scores) == SCORES
    assert run.scores["mIoU"] is not None
    assert run.scores["mIoU"] > 0.6
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss/cross-entropy"] < 0.5 * rows[0]["loss/cross-entropy"]
    assert rows[-1]["mIoU"] > rows[0]["mIoU"]
    assert (run.folder / "first_batch.png").exists()
    assert (run.folder / "curves.png").exists()


def test_evaluating_gives_the_number_that_training_printed(run: FinetuneResult, data: Path) -> None:
    scores = visionkit.evaluate(run.best, data)
    content = scores.to_json()
    assert content["mIoU"] == run.scores["mIoU"]
    assert content["pixel_accuracy"] == run.scores["pixel_accuracy"]
    assert content["boundary_iou"] is not None
    assert list(content["per_class"]) == list(NAMES)
    judged = 4 * 46 * 64
    assert sum(row["pixels"] for row in content["per_class"].values()) == judged


def test_the_report_of_a_segmenter(run: FinetuneResult, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    scores = visionkit.evaluate(run.best, data, report=report)
    inside = re.search(r'id="data">(.*?)</script>', report.read_text(), re.DOTALL)
    assert inside is not None
    content = json.loads(inside.group(1))
    assert content["kind"] == "maps"
    assert content["scores"]["mIoU"] == scores.to_json()["mIoU"]
    assert content["confusion"] == [list(row) for row in scores.to_json()["confusion"]]
    assert len(content["images"]) == 4
    # The images' cells add up to the matrix.
    total = np.zeros_like(content["confusion"])
    for image in content["images"]:
        for row, column, pixels in image["cells"]:
            total[row, column] += pixels
    assert total.tolist() == content["confusion"]
    worst = [image["badness"] for image in content["images"]]
    assert worst == sorted(worst, reverse=True)


def test_what_only_detections_have_is_refused(run: FinetuneResult, data: Path, tmp_path: Path) -> None:
    for options, flag in (
        ({"referee": True}, "--referee"),
        ({"voc": True}, "--voc"),
        ({"slices": True}, "--slices"),
        ({"errors": True}, "--errors"),
        ({"thresholds": True}, "--thresholds"),
        ({"calibrate": tmp_path / "new.safetensors"}, "--calibrate"),
    ):
        with pytest.raises(UsageError, match=f"is no detector, and {flag} is of detections; leave it out"):
            visionkit.evaluate(run.best, data, **options)
    with pytest.raises(UsageError, match=r"is no detector, a fcn8s.*, and compare judges detections; run evaluate on"):
        visionkit.compare(run.best, run.best, data=data)


def test_pictures_show_truth_prediction_and_errors(run: FinetuneResult, data: Path, tmp_path: Path) -> None:
    scores = visionkit.evaluate(run.best, data, pictures=tmp_path / "pictures")
    assert scores == visionkit.evaluate(run.best, data)
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"{i}.png" for i in range(4)]
    height, width = cv2.imread(str(pictures[0])).shape[:2]
    assert width > 3 * 320  # 64 px enlarged five times, three beside one another
    assert height > 240


def test_a_class_that_the_data_lacks_is_wrong_and_one_that_the_model_lacks_is_refused(
    run: FinetuneResult, tmp_path: Path
) -> None:
    two = write_masks(tmp_path / "two", {"val": 2}, names=("ground", "blue block", "red block"))
    # The same masks with two names exchanged: blocks are taken for the other.
    scores = visionkit.evaluate(run.best, two)
    assert scores.per_class["red block"].IoU < 0.2  # type: ignore[union-attr, operator]
    other = write_masks(tmp_path / "other", {"val": 2}, names=("ground", "crate", "box"))
    with pytest.raises(DataError, match=r"2 are not among its 3 \(crate, box\)"):
        visionkit.evaluate(run.best, other)


def test_a_killed_run_ends_in_the_same_bytes(data: Path, tmp_path: Path) -> None:
    options = settings(augment="heavy", set=["train.save_minutes=0", "class_weights=median-frequency"])
    whole = visionkit.finetune(data, out=tmp_path / "whole", **options)
    assert whole is not None

    class KilledError(Exception):
        pass

    steps = 0

    def kill(event: object) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 5:
            raise KilledError

    with pytest.raises(KilledError):
        visionkit.finetune(data, out=tmp_path / "killed", listen=kill, **options)
    resumed = visionkit.finetune(resume=tmp_path / "killed")
    assert resumed is not None
    assert resumed.last.read_bytes() == whole.last.read_bytes()


def test_a_frozen_backbone_stays_and_the_head_learns(run: FinetuneResult, data: Path, tmp_path: Path) -> None:
    result = visionkit.finetune(
        data, out=tmp_path / "frozen", freeze="backbone", **settings(weights=str(run.best), epochs=1)
    )
    assert result is not None
    assert result.frozen_sha256
    before, after = load_file(run.best), load_file(result.last)
    for name, tensor in after.items():
        if name.startswith("backbone."):
            assert np.array_equal(tensor, before[name]), name
    assert not np.array_equal(after["head.coarse.4.weight"], before["head.coarse.4.weight"])


def test_weights_bring_the_parts_of_their_head(data: Path, tmp_path: Path) -> None:
    parts = ["auxiliary=true", "fine_skip=true", "skip_width=16", "learnt_upsampling=all", "grow_from=1"]
    first = visionkit.finetune(data, out=tmp_path / "first", **settings(epochs=1, set=parts))
    assert first is not None
    said: list[str] = []
    visionkit.finetune(data, dry_run=True, say=said.append, **settings(weights=str(first.last)))
    assert any("tensors loaded, the classes are the same" in line for line in said)
    with pytest.raises(CheckpointError, match="trained with skip_width=16, not skip_width=own: leave skip_width out"):
        visionkit.finetune(data, dry_run=True, **settings(weights=str(first.last), set=["skip_width=own"]))


def test_other_classes_start_fresh_and_known_ones_are_carried_over(run: FinetuneResult, tmp_path: Path) -> None:
    other = write_masks(tmp_path / "data", {"train": 4, "val": 2}, names=("ground", "crate", "blue block"))
    said: list[str] = []
    visionkit.finetune(other, say=said.append, dry_run=True, **settings(weights=str(run.best)))
    assert any("2 of 3 carried over (ground, blue block); 1 fresh, not in the weights (crate)" in line for line in said)


@pytest.mark.parametrize("option", [{"model": "fcn32s"}, {"model": "fcn16s"}, {"backbone": "resnet18"}])
def test_every_kind_trains(data: Path, tmp_path: Path, option: dict[str, str]) -> None:
    extra = ["auxiliary=true", "semantic_loss=cross-entropy + 0.5*lovasz", "grow_from=1"]
    result = visionkit.finetune(data, out=tmp_path / "run", **settings(epochs=1, set=extra, **option))
    assert result is not None
    header = (result.folder / "metrics.csv").read_text().splitlines()[0]
    assert "loss/cross-entropy,loss/lovasz,loss/auxiliary,mIoU" in header


def test_polygons_are_learnt_too(tmp_path: Path) -> None:
    root = write_blocks(tmp_path / "data", {"train": 6, "val": 3})
    for split in ("train", "val"):
        file = root / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        file.write_text(json.dumps(content))
    result = visionkit.finetune(root, out=tmp_path / "run", **settings(epochs=1))
    assert result is not None
    sheet = tmp_path / "sheet.png"
    visionkit.augment_preview(root, model="fcn8s", augment="none", imgsz=64, count=4, out=sheet)
    assert sheet.read_bytes() == (result.folder / "first_batch.png").read_bytes()
    assert list(visionkit.evaluate(result.last, root).per_class) == ["red block", "blue block", "background"]


def test_the_preview_shows_maps(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    augment_preview(str(data), augment="heavy", imgsz=64, count=4, out=tmp_path / "sheet.png")
    words = f"4 samples at 64 px with maps: {tmp_path / 'sheet.png'}"
    assert capsys.readouterr().out.splitlines()[-1] == words
    height, width, _ = cv2.imread(str(tmp_path / "sheet.png")).shape
    assert width == 4 * 64
    assert height > 64  # a legend below each


def test_the_preview_leaves_out_what_training_on_maps_does(data: Path, tmp_path: Path) -> None:
    # Of two pictures that show through each other a pixel has no one label.
    sheets = []
    for name, augment in (("plain", {"base": "none"}), ("mixed", {"base": "none", "mixup": 1.0, "copy_paste": 1.0})):
        preview = visionkit.augment_preview(data, augment=augment, imgsz=64, count=2, out=tmp_path / f"{name}.png")
        assert (preview.settings.mixup, preview.settings.copy_paste) == (0, 0)
        sheets.append((tmp_path / f"{name}.png").read_bytes())
    assert sheets[0] == sheets[1]


def test_a_segmenter_reads_the_masks_of_a_folder_that_has_boxes_too(tmp_path: Path) -> None:
    boxes, masks = (DatasetLayout(tmp_path, tmp_path, words, {"test": None}) for words in ("boxes", "masks"))  # type: ignore[dict-item]
    both = replace(boxes, masks=masks)
    assert task_layout("segment", both, seed=0).words == "masks"
    assert task_layout("detect", both, seed=0).words == task_layout("segment", boxes, seed=0).words == "boxes"


# what does not go together --------------------------------------------------------------------------------------------


def test_a_detector_refuses_masks_and_a_segmenter_boxes(data: Path, tiny_data: Path) -> None:
    with pytest.raises(DataError, match="has masks and no boxes, which model yolo learns; use --model fcn8s"):
        visionkit.finetune(data, dry_run=True, **tiny_settings())
    whole = "has masks of whole pictures and none of objects, which model yolo-masks learns; use --model fcn8s, or"
    with pytest.raises(DataError, match=whole):
        visionkit.finetune(data, dry_run=True, **tiny_settings(model="yolo-masks"))
    with pytest.raises(DataError, match="has masks and no boxes, which model yolo learns; use --model fcn8s, or"):
        visionkit.advise(data, imgsz=64, threads=1, workers=0)
    with pytest.raises(DataError, match="has boxes alone, a segmenter learns from masks, polygons or RLEs; add them"):
        visionkit.finetune(tiny_data, dry_run=True, **settings())


def test_where_all_is_ignored_nothing_is_learnt(tmp_path: Path) -> None:
    ignored = write_masks(tmp_path / "data", {"train": 1, "val": 1})
    cv2.imwrite(str(ignored / "masks/train/0.png"), np.full((48, 64), 255, np.uint8))
    with pytest.raises(DataError, match="has a pixel of a class, all is ignored, and learning needs some; correct"):
        visionkit.finetune(ignored, out=tmp_path / "run", **settings())
    assert not (tmp_path / "run").exists()


def test_where_val_has_nothing_to_judge_no_epoch_is_the_best(
    run: FinetuneResult, capsys: pytest.CaptureFixture[str]
) -> None:
    _print(replace(run, best_epoch=0, scores=dict.fromkeys(SCORES)))
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "No epoch is the best: val has nothing to judge, and mIoU is not defined"


def test_a_wrong_loss_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="semantic_loss must be a sum of cross-entropy, focal, dice, lovasz"):
        visionkit.finetune(data, out=tmp_path / "run", **settings(set=["semantic_loss=iou"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["semantic_loss=dice", "auxiliary=true"])
def test_a_detector_has_no_options_of_segmenters(tiny_data: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"model yolo has no option {key.partition('=')[0]}"):
        visionkit.finetune(tiny_data, dry_run=True, **tiny_settings(set=[key]))


def test_predictions_of_a_segmenter_are_not_detections(run: FinetuneResult, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a segmenter, predictions are of detections; leave out --save-predictions"):
        visionkit.evaluate(run.best, data, save_predictions=tmp_path / "predictions.json")


# the command line -----------------------------------------------------------------------------------------------------


def test_layers_know_segmenters() -> None:
    found = layers("fcn8s", backbone="resnet18", freeze_specs=["backbone"], classes=11, imgsz=64)
    assert [row.name for row in found.rows[-3:]] == ["head.coarse", "head.skips", "head.upsample"]
    assert found.rows[10].output == "11x2x2"
    assert found.sentence.startswith("Frozen 10 of 13 units")


def test_segment_writes_overlays_masks_and_areas(
    command_line: CommandLine, run: FinetuneResult, data: Path, tmp_path: Path
) -> None:
    done = command_line(
        "segment", data / "images/val/0.png", "--weights", run.best, "--out", tmp_path / "out", "--device", "cpu"
    )
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "64x48  3 classes" in lines[0]
    assert lines[1].split()[0] == "ground"
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        "0.png", "areas.csv", "masks/0.png", "masks/classes.json",
    ]  # fmt: skip
    labels = read_mask(tmp_path / "out/masks/0.png")
    truth = read_mask(data / "masks/val/0.png")
    assert (labels == truth)[truth != 255].mean() > 0.8


def test_segment_in_tiles_writes_regions(
    command_line: CommandLine, run: FinetuneResult, data: Path, tmp_path: Path
) -> None:
    picture = data / "images/val/0.png"
    flags = ("--weights", run.best, "--device", "cpu", "--no-save", "--out", tmp_path / "out")
    done = command_line("segment", picture, *flags, "--tile", 32, "--overlap", 0.5, "--format", "coco", "--json")
    assert done.code == 0, done.stderr
    assert len(done.json["items"]) == 3
    rows = json.loads((tmp_path / "out/results.json").read_text())
    assert sum(row["area"] for row in rows) == 64 * 48
    assert all(row["file_name"] == str(picture) for row in rows)


@pytest.mark.parametrize("command", [["segment", "a.png"], ["evaluate", "--data", "data"]])
def test_wrong_tiles_are_refused(command_line: CommandLine, run: FinetuneResult, command: list[str]) -> None:
    done = command_line(*command, "--weights", run.best, "--overlap", 0.5)
    assert done.code == 2
    assert done.error == "overlap is a share of a tile, and no tile is given; give --tile too, or leave it out"


def test_evaluate_prints_tables_and_json(command_line: CommandLine, run: FinetuneResult, data: Path) -> None:
    options = ("--weights", run.best, "--data", data, "--device", "cpu")
    content = command_line("evaluate", *options, "--json").json
    assert content["task"] == "segment"
    assert {"mIoU", "pixel_accuracy", "per_class"} <= set(content)
    printed = command_line("evaluate", *options).stdout
    assert f"mIoU {content['mIoU']:.4f}" in printed
    assert "red block" in printed


def test_a_detector_does_not_weigh_classes(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError) as error:
        visionkit.finetune(tiny_data, out=out, **tiny_settings(epochs=1, set=["class_weights=median-frequency"]))
    assert str(error.value) == "model yolo does not weigh classes; leave class_weights at none"
    assert not out.exists()
