"""The contract of the command line: exit codes, streams, one-line errors, names that hands know."""

import ast
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from command_line import CommandLine, Finished
from reference_data import reference_data
from tiny import TinyRun, tiny_flags

import visionkit
from visionkit.backbones.names import BACKBONE_CHOICES
from visionkit.build import load_model
from visionkit.cli.layers import amount
from visionkit.config import ModelName
from visionkit.engine.broken_batch import load_batch
from visionkit.engine.checkpoint import load_state
from visionkit.imaging.reader import read_image

COMMANDS = ("finetune", "evaluate", "detect", "layers", "augment-preview", "propose", "models", "info")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")


def refused(finished: Finished) -> str:
    """The one line of a command that was refused: exit code 2, nothing on stdout."""
    assert finished.code == 2, finished.stderr
    assert finished.stdout == ""
    return finished.error


# Help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_in_its_help(command: str, command_line: CommandLine) -> None:
    finished = command_line(command, "--help")
    assert finished.code == 0
    assert f"Example: visionkit {command} " in finished.stdout
    for option in ("--json", "--debug", "--offline"):
        assert option in finished.stdout


def test_help_lists_the_commands_and_version_is_the_packages(command_line: CommandLine) -> None:
    finished = command_line("--help")
    assert finished.code == 0
    assert all(command in finished.stdout for command in COMMANDS)
    assert command_line("--version").stdout == f"{visionkit.__version__}\n"


HELP_WITHOUT_TORCH = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "albumentations", "cv2", "numpy", "matplotlib"}:
            raise ImportError(f"{name} is not for --help")


sys.meta_path.insert(0, Absent())
from visionkit.cli import main

main()
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["finetune", "--help"], ["detect", "--help"], ["info", "--help"]]
)
def test_help_needs_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "visionkit", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{visionkit.__version__}\n")


def test_commands_import_the_api_only_when_they_run() -> None:
    """Law 11 of the house: heavy imports happen inside commands."""
    import visionkit.cli as room

    folder = Path(inspect.getfile(room)).parent
    for file in folder.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                allowed = ("visionkit.cli", "visionkit.counted", "visionkit.errors", "visionkit.backbones.names")
                assert not name.startswith("visionkit") or name.startswith(allowed), f"{file.name} imports {name}"


# Finetune -------------------------------------------------------------------------------------------------------------


def test_finetune_prints_words_on_stderr_and_its_result_on_stdout(
    command_line: CommandLine, tiny_data: Path, tmp_path: Path
) -> None:
    finished = command_line("finetune", "--data", tiny_data, *tiny_flags(epochs=1, imgsz=32), folder=tmp_path)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0].startswith("Best epoch 1 of 1: AP ")
    assert lines[1:] == [
        "Weights: runs/finetune/data-1/best.safetensors",
        "Try it: visionkit detect IMAGE --weights runs/finetune/data-1/best.safetensors",
    ]
    assert "Data: COCO layout" in finished.stderr
    assert "epoch   1/1  " in finished.stderr
    assert "Traceback" not in finished.stderr


def test_finetune_json_is_one_object_and_aliases_are_known(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    finished = command_line(
        "finetune", "--data", tiny_data, "--weights", tiny_run.result.best, "--freeze", 10, "--img", 32,
        "--batch-size", 5, "--epochs", 1, "--threads", 1, "--workers", 0, "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    result = finished.json
    assert result.keys() == {
        *("folder", "best", "last", "epochs", "best_epoch", "frozen_sha256", "left_out", "thawed", "skipped"),
        *("AP", "AP50", "AP75", "AR100", "mean_iou_matched"),
    }
    assert result["best"] == str(tmp_path / "run" / "best.safetensors")
    recipe = load_model(tmp_path / "run" / "best.safetensors").recipe
    assert (recipe.imgsz, recipe.train.batch) == (32, 5)
    assert "Frozen 10 of" in finished.stderr
    assert f"Frozen tensors unchanged: SHA-256 {result['frozen_sha256']} before and after" in finished.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--augment", "strong"], "augment = 'strong': input should be 'none', 'light' or 'heavy'"),
        (["--augment", "no.yaml"], "augment file no.yaml cannot be read"),
        (["--cache", "disk"], "cache = 'disk': input should be 'auto', 'ram' or 'off'"),
        (["--backbone", "vgg"], f"backbone = 'vgg': input should be one of {BACKBONE_CHOICES}"),
        (["--optimizer", "lion"], "train.optimizer = 'lion': input should be 'muon', 'adamw', 'adam', 'sgd',"),
        (["--device", "gpu"], "device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        (["--set", "train.learning_rate=1"], "train.learning_rate is not a setting; the settings are model, backbone"),
        (["--set", "train.lr"], "--set takes KEY=VALUE, got 'train.lr'"),
        (["--minutes", "3", "--epochs", "5"], "minutes and epochs both say how long to train; give --minutes or"),
        (["--minutes", "0"], "minutes = 0.0: input should be greater than 0"),
        (["--config", "no.yaml"], "config file no.yaml cannot be read"),
        (["--weights", "no.safetensors"], "weights file no.safetensors does not exist"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (
            ["--freeze", "10", "--weights", "scratch"],
            "freezing randomly initialised weights would keep noise in the network",
        ),
        (["--freeze", "99", "--force"], "--freeze 99 must be below the number of units"),
        (["--freeze", "bakcbone", "--force"], "did you mean backbone?"),
        (["--resume", "nowhere"], "--resume goes on with the run's own settings and takes no other; leave them out"),
    ],
)
def test_what_finetune_refuses_in_one_line(
    flags: list[str], words: str, command_line: CommandLine, tiny_data: Path, tmp_path: Path
) -> None:
    assert words in refused(command_line("finetune", "--data", tiny_data, *flags, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_units_comes_with_their_table(command_line: CommandLine, tiny_data: Path) -> None:
    finished = command_line("finetune", "--data", tiny_data, "--freeze", "99", "--force")
    assert refused(finished)
    assert "\n  9  backbone." in finished.stderr


def test_debug_shows_the_traceback(command_line: CommandLine) -> None:
    finished = command_line("finetune", "--data", "nowhere", "--debug")
    assert finished.code != 0
    assert "Traceback (most recent call last)" in finished.stderr
    assert "DataError: nowhere does not exist" in finished.stderr


def test_an_out_that_holds_a_run_names_resume(command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path) -> None:
    folder = tiny_run.result.folder
    message = refused(command_line("finetune", "--data", tiny_data, "--out", folder))
    assert message == f"{folder} already holds a run; use --resume {folder} to go on, or another --out"


def test_a_resume_of_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    message = refused(command_line("finetune", "--resume", tmp_path))
    assert message == (
        f"no whole training state at {tmp_path / 'state.pt'}; only a run folder with a state.pt can be resumed"
    )


def test_a_dry_run_writes_nothing(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    finished = command_line("finetune", "--data", tiny_data, "--dry-run", *tiny_flags(), folder=tmp_path)
    assert (finished.code, finished.stdout) == (0, "")
    assert finished.stderr.splitlines()[-1] == "Dry run: nothing was trained, no run folder was made"
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_breaks_is_one_line_and_exit_code_1(
    command_line: CommandLine, tiny_data: Path, tmp_path: Path
) -> None:
    flags = tiny_flags(epochs=9, imgsz=32, lr=1e30, optimizer="sgd")
    run = tmp_path / "run"
    finished = command_line("finetune", "--data", tiny_data, *flags, "--out", run)
    assert finished.code == 1
    assert finished.error.startswith("the loss is no longer finite at epoch ")
    assert finished.error.endswith(f"; the last batch is in {run / 'broken_batch.safetensors'}")
    assert finished.stderr.count("Skipped the step at epoch ") == 1
    assert load_batch(run / "broken_batch.safetensors").images.shape == (4, 3, 32, 32)
    weights = load_state(run / "state.pt")["training"]["model"]
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())


def test_without_data_the_dataset_in_the_current_folder_is_used(command_line: CommandLine, tiny_data: Path) -> None:
    finished = command_line("finetune", "--dry-run", *tiny_flags(), folder=tiny_data)
    assert finished.code == 0, finished.stderr
    assert "train: 10 images" in finished.stderr


def test_without_data_in_an_empty_folder_the_sample_is_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_data: Path
) -> None:
    from visionkit.api import datasets

    rendered: list[tuple[Path, str]] = []

    def render(root: Path, variant: str) -> Path:
        rendered.append((root, variant))
        return tiny_data

    monkeypatch.setattr(datasets, "render_sample", render)
    monkeypatch.setenv("VISIONKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    visionkit.finetune(dry_run=True, say=said.append, weights="scratch", workers=0)
    assert said[0] == (
        "No --data given, and no visionkit.yaml and no dataset in the current folder: using the built-in sample dataset"
    )
    visionkit.finetune("sample-b", dry_run=True, weights="scratch", workers=0)
    assert rendered == [(tmp_path / "cache" / "sample-a", "a"), (tmp_path / "cache" / "sample-b", "b")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_can_be_resumed(
    number: signal.Signals, code: int, command_line: CommandLine, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    flags = tiny_flags(epochs=4, imgsz=32, workers=1)
    pid = command_line.start("finetune", "--data", tiny_data, *flags, "--out", run)
    deadline = time.monotonic() + 60
    while not (run / "metrics.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(pid, number)  # as Ctrl-C in a terminal does: to the workers too
    finished = command_line.wait()
    assert finished.code == code
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    words = f"Interrupted; the state is saved, go on by: visionkit finetune --resume {run}"
    assert finished.stderr.splitlines()[-1] == words
    assert finished.stderr.count(words) == 1
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(pid, 0)
    resumed = command_line("finetune", "--resume", run, "--json")
    assert resumed.code == 0, resumed.stderr
    assert resumed.json["epochs"] == 4


# Evaluate -------------------------------------------------------------------------------------------------------------


def test_evaluate_json_is_the_contract(command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path) -> None:
    finished = command_line(
        "evaluate", "--weights", tiny_run.result.best, "--data", tiny_data, "--threads", 1, "--json"
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    scores = finished.json
    assert list(scores) == [
        *("task", "images", "AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "mean_iou_matched", "per_class", "interval95"),
    ]
    assert {name: scores[name] for name in tiny_run.result.scores} == tiny_run.result.scores
    assert scores["APl"] is None  # no block is that large: null, not -1
    assert scores["interval95"] == {"AP": None, "AP50": None}  # of 4 images
    assert list(scores["per_class"]) == ["red block", "blue block"]


def test_evaluate_prints_a_table(command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path) -> None:
    finished = command_line("evaluate", "--weights", tiny_run.result.best, "--data", tiny_data, "--batch-size", 2)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0] == "4 images, boxes"
    assert lines[1].startswith("AP    0.")
    assert "APl      n/a" in lines[1]
    assert "95 % intervals need at least 20 images, these are 4" in lines
    assert [line.split("  ")[0] for line in lines[-2:]] == ["red block", "blue block"]


@pytest.mark.parametrize(
    ("run", "predictions"),
    [
        ("fakebbox100 bbox", "instances_val2014_fakebbox100_results.json"),
        ("fakesegm100 segm", "instances_val2014_fakesegm100_results.json"),
        ("fakesegm100 evaluated as bbox", "instances_val2014_fakesegm100_results.json"),
        ("sampled bbox", "sampled_bbox_results.json"),
        ("small bbox", "small_dt_dataset.json"),
        ("small segm", "small_dt_dataset.json"),
    ],
)
def test_reference_results_to_the_last_digit(run: str, predictions: str, command_line: CommandLine) -> None:
    folder = reference_data("coco-eval-reference")
    expected = json.loads((folder / "expected.json").read_text())["results"][run]
    finished = command_line(
        "evaluate", "--predictions", folder / predictions, "--annotations", folder / expected["ground_truth"],
        "--task", expected["iou_type"], "--json",
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    scores = finished.json
    sizes = {"small": "s", "medium": "m", "large": "l"}
    for kind in ("AP", "AR"):
        for name in [name for name in expected if name.startswith(kind)]:
            ours = kind + sizes.get(name.removeprefix(kind), name.removeprefix(kind))
            assert (-1 if scores[ours] is None else round(scores[ours], 6)) == expected[name], name
    assert scores["images"] == expected["images"]
    low, high = scores["interval95"]["AP"] or (0, 1)
    assert low < scores["AP"] < high
    per_class = {name: row["AP"] for name, row in scores["per_class"].items()}
    for name, value in expected["per_class_AP"].items():
        assert (per_class[name] is None) if value in (None, -1) else (round(per_class[name], 6) == value), name


def test_what_evaluate_refuses_in_one_line(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, other_data: Path
) -> None:
    best, annotations = tiny_run.result.best, tiny_data / "annotations" / "val.json"
    of_model, state = ["--weights", best, "--data", tiny_data], tiny_run.result.folder / "state.pt"
    cases: list[tuple[list[Any], str]] = [
        ([], "evaluate takes either --weights FILE with --data DIR, or --predictions FILE with --annotations FILE"),
        (["--predictions", annotations], "evaluate takes either"),
        (["--weights", best, "--predictions", annotations, "--annotations", annotations], "evaluate takes either"),
        (["--weights", best, "--data", other_data], "but 2 are not among its 2 (crate, box); rename classes"),
        ([*of_model, "--split", "dev"], "has no split 'dev'; choose one of train, val, test"),
        ([*of_model, "--imgsz", 100], "image size must be divisible by 32, got 100; use 128"),
        ([*of_model, "--batch", 0], "batch must be at least 1, got 0"),
        (["--weights", annotations, "--data", tiny_data], "is not a whole safetensors file"),
        (["--weights", "model.onnx", "--data", tiny_data], "model.onnx is not a file, "),
        (["--weights", "model.onnx", "--data", tiny_data, "--why", "a"], "model.onnx is an exported graph, this is"),
        (["--weights", state, "--data", tiny_data], "state.pt may be pickled, and what reads such a file can be"),
        (["--predictions", annotations, "--annotations", annotations], "is not a list, COCO results are a list"),
    ]  # fmt: skip
    for arguments, words in cases:
        assert words in refused(command_line("evaluate", *arguments))


def test_the_table_has_intervals_from_20_images_on(command_line: CommandLine, tmp_path: Path) -> None:
    box, ids = [0, 0, 40, 40], range(1, 21)
    rows = [{"image_id": i, "category_id": 1, "bbox": box} for i in ids]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in ids]
    annotations = [{"id": row["image_id"], "area": 1600, "iscrowd": 0, **row} for row in rows]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([{**row, "score": 0.9} for row in rows]))
    files = ["--predictions", tmp_path / "found.json", "--annotations", tmp_path / "truth.json"]
    lines = command_line("evaluate", *files).stdout.splitlines()
    assert "95 % intervals, over images: AP 1.0000 to 1.0000, AP50 1.0000 to 1.0000" in lines


def test_an_unknown_task_lists_the_tasks(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    annotations = tiny_data / "annotations" / "val.json"
    arguments = ["--predictions", tmp_path / "none.json", "--annotations", annotations, "--task", "boxes"]
    message = refused(command_line("evaluate", *arguments))
    assert "boxes" in message
    assert "bbox" in message
    assert "segm" in message


# Detect ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tiny_data: Path, tmp_path: Path) -> Path:
    """A good picture, a broken one, another good one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(tiny_data / "images" / "train_0.png", folder / "a.png")
    (folder / "b.png").write_bytes(b"not a picture")
    shutil.copy(tiny_data / "images" / "train_2.png", folder / "c.png")
    return folder


def test_detect_prints_a_line_an_image_and_writes_pictures_and_results(
    command_line: CommandLine, tiny_run: TinyRun, photos: Path, tmp_path: Path
) -> None:
    finished = command_line(
        "detect", photos / "a.png", photos / "c.png", "--weights", tiny_run.result.best, "--conf-thres", 0.05,
        "--iou-thres", 0.5, folder=tmp_path,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    # A line an image, and under it a row a detection.
    assert [line.split("  ")[0] for line in finished.stdout.splitlines() if not line.startswith("  ")] == [
        str(photos / "a.png"),
        str(photos / "c.png"),
    ]
    assert " block" in finished.stdout
    out = tmp_path / "runs" / "detect" / "detect-1"
    assert finished.stderr == "Pictures and results.json: runs/detect/detect-1\n"
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png", "results.json"]
    rows = json.loads((out / "results.json").read_text())
    assert {row["image_id"] for row in rows} <= {1, 2}
    assert {row["category_id"] for row in rows} <= {3, 8}


def test_detect_json_is_one_result_a_line_and_nothing_else(
    command_line: CommandLine, tiny_run: TinyRun, photos: Path
) -> None:
    finished = command_line(
        "detect", "--source", photos / "a.png", "--weights", tiny_run.result.best, "--conf", 0.05, "--no-save",
        "--json", "--img", 64, folder=photos,
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    (result,) = map(json.loads, finished.stdout.splitlines())
    assert result["schema"] == "visionkit.result/1"
    assert result["image"]["path"] == str(photos / "a.png")
    assert result["items"]
    assert {item["name"] for item in result["items"]} <= {"red block", "blue block"}
    assert finished.stderr == ""
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png", "c.png"]


def test_a_broken_image_among_good_ones_is_named_and_exit_code_3(
    command_line: CommandLine, tiny_run: TinyRun, photos: Path
) -> None:
    finished = command_line("detect", photos, "--weights", tiny_run.result.best, "--no-save", "--json")
    assert finished.code == 3
    paths = [json.loads(line)["image"]["path"] for line in finished.stdout.splitlines()]
    assert paths == [str(photos / "a.png"), str(photos / "c.png")]
    first, last = finished.stderr.splitlines()
    assert first.startswith("skipped: ")
    assert str(photos / "b.png") in first
    assert last == "2 images done, 1 skipped"


def test_only_broken_images_are_exit_code_2(command_line: CommandLine, tiny_run: TinyRun, photos: Path) -> None:
    finished = command_line("detect", photos / "b.png", "--weights", tiny_run.result.best, "--out", photos / "out")
    assert finished.code == 2
    assert not (photos / "out").exists()
    assert finished.stdout == ""
    assert str(photos / "b.png") in finished.stderr
    assert finished.stderr.splitlines()[-1] == "0 images done, 1 skipped"


def test_what_detect_refuses_in_one_line_and_leaves_nothing(
    command_line: CommandLine, tiny_run: TinyRun, photos: Path, tmp_path: Path
) -> None:
    best, here = tiny_run.result.best, tmp_path / "here"
    here.mkdir()
    cases: list[tuple[list[Any], str]] = [
        ([], "detect needs at least one image, folder, glob or list; for example: visionkit detect image.jpg"),
        ([photos, "--weights", "no.safetensors"], "weights file no.safetensors does not exist"),
        (["no.jpg", "--weights", best], "no.jpg does not exist"),
        ([photos, "--weights", best, "--conf", 2], "must be between 0 and 1, got 2.0"),
        ([photos, "--weights", best, "--max-det", 0], "max_det must be at least 1, got 0"),
        ([photos, "--weights", best, "--max-det", 10**20], f"max_det must be at most 1,000,000, got {10**20}"),
        ([photos, "--weights", best, "--classes", "a\nb"], "the model knows no class 'a\\nb'"),
        ([photos, "--weights", best, "--classes", "cat"], "choose from red block, blue block"),
        ([photos, "--weights", best, "--imgsz", 100], "image size must be divisible by 32, got 100; use 128"),
        ([photos, "--weights", best, "--device", "gpu"], "device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        ([photos, "--weights", best, "--out", photos], f"{photos} is not empty and nothing is overwritten"),
        ([photos, "--weights", best, "--out", photos / "a.png"], "a.png is a file and nothing is overwritten"),
    ]  # fmt: skip
    for arguments, words in cases:
        assert words in refused(command_line("detect", *arguments, folder=here))
        assert list(here.iterdir()) == [], arguments


# Layers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["csp-light", "resnet18"])
def test_layers_shows_what_freeze_10_means(backbone: str, command_line: CommandLine) -> None:
    finished = command_line("layers", "yolo", "--backbone", backbone, "--freeze", 10, "--img", 64)
    assert finished.code == 0, finished.stderr
    rows = [line for line in finished.stdout.splitlines() if line[:3].strip().isdecimal()]
    assert [line.endswith("frozen") for line in rows] == [True] * 10 + [False] * (len(rows) - 10)
    assert all(" backbone." in line for line in rows[:10])
    assert not any(" backbone." in line for line in rows[10:])
    assert finished.stdout.splitlines()[-1].startswith(f"Frozen 10 of {len(rows)} units, ")
    as_json = command_line("layers", "yolo", "--backbone", backbone, "--freeze", 10, "--img", 64, "--json").json
    assert [unit["frozen"] for unit in as_json["units"]] == [True] * 10 + [False] * (len(rows) - 10)
    assert as_json["freeze"] == finished.stdout.splitlines()[-1]


def test_layers_shows_what_units_are_cost_and_see(command_line: CommandLine) -> None:
    options = ("layers", "faster-rcnn", "--backbone", "se-resnet18", "--img", 64)
    for wide in (("yolo", "--backbone", "csp-light", "--img", 640), ("faster-rcnn", "--backbone", "googlenet")):
        table = command_line("layers", *wide, "--freeze", 10).stdout.splitlines()
        assert max(map(len, table)) <= 100
    finished = command_line(*options)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "faster-rcnn/se-resnet18 at 64 px; field and stride in px"
    headings = ["unit", "type", "output", "params", "so", "far", "MACs", "field", "stride"]
    assert lines[1].split() == headings
    # 3 * 64 * 7 * 7 + 2 * 64 parameters, 32 * 32 * 64 * 3 * 7 * 7 = 9,633,792 multiply-adds.
    assert lines[2].split() == (["0", "backbone.stem", "Conv2d", "+2", "64x32x32", "9.54k", "0.1%", "9.63M", "7", "2"])
    # Behind the first gate everything is seen.
    assert lines[4].split()[-2:] == ["global", "4"]
    # The second map of a unit has a line of its own.
    assert lines[13].split() == ["96x4x4", "global", "16"]
    assert any(
        line.startswith("MACs: multiply-adds of convolutions and fully connected layers; not biases, ")
        for line in lines
    )
    as_json = command_line(*options, "--json").json
    keys = ("model", "imgsz", "parameters", "multiply_adds", "regions", "region", "fitted", "freeze", "units")
    assert tuple(as_json) == keys
    assert f"count the {as_json['regions']} of a black image" in " ".join(finished.stdout.split())
    stem = as_json["units"][0]
    assert stem == {
        "number": 0, "name": "backbone.stem", "type": "Conv2d +2", "types": ["Conv2d", "BatchNorm2d", "ReLU"],
        "shapes": [[64, 32, 32]], "parameters": 9536, "share": 9536 / as_json["parameters"], "multiply_adds": 9633792,
        "maps": [{"shape": [64, 32, 32], "count": 1, "receptive_field": 7, "stride": 2}], "frozen": False,
    }  # fmt: skip
    assert sum(unit["multiply_adds"] for unit in as_json["units"]) == as_json["multiply_adds"]


def test_amounts_have_three_digits_and_a_prefix() -> None:
    numbers = (0, 464, 999, 1000, 9_994, 9_996, 99_960, 999_400, 999_600, 1_180_672, 64_600_000_000)
    assert [amount(number) for number in numbers] == [
        "0", "464", "999", "1.00k", "9.99k", "10.0k", "100k", "999k", "1.00M", "1.18M", "64.6G",
    ]  # fmt: skip


def test_layers_of_a_weights_file(command_line: CommandLine, tiny_run: TinyRun) -> None:
    assert command_line("layers", tiny_run.result.best, "--json").json["model"] == "yolo/csp-light"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet18"], "name a model and give it as --backbone, such as classifier --backbone resnet18"),
        (["frcnn"], f"unknown model 'frcnn'; choose one of {', '.join(get_args(ModelName))}, or give a weights file"),
        (
            ["yolo", "--backbone", "vgg"],
            "unknown backbone 'vgg'; choose one of csp-light, lenet5, alexnet, vgg11, ",
        ),
        (["yolo", "--freeze", "99"], "--freeze 99 must be below the number of units"),
        (["yolo", "--imgsz", "100"], "image size must be divisible by 32, got 100"),
        (["no.safetensors"], "weights file no.safetensors does not exist"),
    ],
)
def test_what_layers_refuses_in_one_line(arguments: list[str], words: str, command_line: CommandLine) -> None:
    assert words in refused(command_line("layers", *arguments))


# Augment-preview ------------------------------------------------------------------------------------------------------


def test_augment_preview_writes_a_picture_and_says_the_settings(
    command_line: CommandLine, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text("base: none\nmixup: 1\n")
    arguments = [tiny_data, "--augment", "my.yaml", "--img", "32", "--count", "2"]
    finished = command_line("augment-preview", *arguments, folder=tmp_path)
    assert finished.code == 0, finished.stderr
    settings, picture = finished.stdout.splitlines()
    assert settings == "Augmentation none with mixup 1: mixup 1"
    assert re.fullmatch(r"2 samples at 32 px with \d+ objects: runs/augment-preview/data-1\.png", picture)
    assert "Data: COCO layout" in finished.stderr

    result = command_line("augment-preview", "--data", *arguments, "--json", folder=tmp_path).json
    assert result.keys() == {"picture", "samples", "objects", "split", "imgsz", "epoch", "seed", "augment", "left_out"}
    assert (result["picture"], result["augment"]["mixup"]) == ("runs/augment-preview/data-2.png", 1.0)
    pictures = [read_image(tmp_path / "runs" / "augment-preview" / f"data-{i}.png") for i in (1, 2)]
    assert (pictures[0] == pictures[1]).all()
    assert pictures[0].shape == (32, 4 * 32, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["one", "--data", "two"], "augment-preview shows one dataset, got one and --data two; leave one out"),
        (["--augment", "strong"], "augment = 'strong': input should be 'none', 'light' or 'heavy'"),
        (["--count", "0"], "count must be at least 1, got 0; use 1"),
    ],
)
def test_what_augment_preview_refuses_in_one_line(
    arguments: list[str], words: str, command_line: CommandLine, tmp_path: Path
) -> None:
    assert words in refused(command_line("augment-preview", *arguments, folder=tmp_path))
    assert list(tmp_path.iterdir()) == []


# Whatever happens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["finetune", "--epochs", "many"], ["finetune", "--bacth", "4"], ["fintune"], ["detect", "--threads", "0"]],
)
def test_words_the_parser_does_not_know_are_exit_code_2(arguments: list[str], command_line: CommandLine) -> None:
    finished = command_line(*arguments)
    assert finished.code == 2
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr


def test_an_error_nobody_foresaw_is_one_line_too(command_line: CommandLine, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finished = command_line("finetune", "--data", tiny_data, *tiny_flags(), "--out", tmp_path / "file" / "run")
    assert finished.code == 1
    assert finished.error
    debug = command_line("finetune", "--data", tiny_data, *tiny_flags(), "--out", tmp_path / "file" / "run", "--debug")
    assert "Traceback" in debug.stderr
