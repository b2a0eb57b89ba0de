"""`finetune` on a tiny dataset: what it writes, that its numbers are `evaluate`'s, and that frozen means frozen."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyRun, tiny_settings, write_blocks
from torch import Tensor

import visionkit
from visionkit.backbones.names import BACKBONE_CHOICES
from visionkit.build import build_model, load_model, save_model
from visionkit.choices import Choices, read_config_file
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.data.augment import PRESETS
from visionkit.engine.checkpoint import load_state, load_weights
from visionkit.engine.events import EpochDone, Event, StepDone
from visionkit.errors import CheckpointError, ConfigError, DataError, UsageError, VisionkitError

SCORES = ("AP", "AP50", "AP75", "AR100", "mean_iou_matched")


def metrics_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refusal(kind: type[VisionkitError], *arguments: Any, **options: Any) -> str:
    """The one line with which `finetune` refuses."""
    with pytest.raises(kind) as error:
        visionkit.finetune(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# What it writes -------------------------------------------------------------------------------------------------------


def test_a_run_folder_has_its_files_and_nothing_unfinished(tiny_run: TinyRun) -> None:
    assert {path.name for path in tiny_run.result.folder.iterdir()} == {
        *("best.safetensors", "last.safetensors", "state.pt", "state.previous.pt", "config.yaml"),
        *("metrics.csv", "metrics.jsonl", "log.txt", "curves.png", "first_batch.png"),
    }


def test_metrics_have_a_row_an_epoch_the_same_in_both_files(tiny_run: TinyRun) -> None:
    rows = metrics_of(tiny_run.result.folder)
    lines = (tiny_run.result.folder / "metrics.jsonl").read_text().splitlines()
    assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
    for row, line in zip(rows, map(json.loads, lines), strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in line.items()}
    assert [int(row["epoch"]) for row in rows if row["AP"]] == [4, 8, 12, 16, 20]
    assert float(rows[-1]["loss/class"]) < float(rows[0]["loss/class"])


def test_the_saved_weights_are_the_average_and_not_the_raw_ones(tiny_data: Path, tmp_path: Path) -> None:
    # With a rate that stays: as it falls, the average comes to meet the trained weights.
    settings = tiny_settings(epochs=4, set=["train.schedule=constant", "train.evaluate_every=4"])
    result = visionkit.finetune(tiny_data, out=tmp_path / "run", **settings)
    assert result is not None
    training = load_state(result.folder / "state.pt")["training"]
    last, card = load_weights(result.last)
    assert card["scores"]["epoch"] == 4
    assert last.keys() == training["average"].keys()
    assert all(torch.equal(tensor, training["average"][name]) for name, tensor in last.items())
    assert not all(torch.equal(tensor, training["model"][name]) for name, tensor in last.items())


def test_the_result_is_the_best_row(tiny_run: TinyRun) -> None:
    result = tiny_run.result
    evaluated = [row for row in metrics_of(result.folder) if row["AP"]]
    best = max(evaluated, key=lambda row: float(row["AP"]))
    assert (result.epochs, result.best_epoch) == (20, int(best["epoch"]))
    assert result.scores == {name: float(best[name]) for name in SCORES}
    assert load_model(result.best).scores == {"epoch": result.best_epoch, **result.scores}


def test_config_says_every_value_and_its_origin_and_can_be_read_again(tiny_run: TinyRun, tiny_data: Path) -> None:
    file = tiny_run.result.folder / "config.yaml"
    lines = dict(line.strip().split(": ", 1) for line in file.read_text().splitlines() if ": " in line)
    assert lines["imgsz"].split() == ["64", "#", "flag"]
    assert lines["epochs"].split() == ["20", "#", "flag"]
    assert lines["evaluate_every"].split() == ["4", "#", "set"]
    assert lines["weight_decay"].split()[-1] == "default"
    choices = Choices()
    choices.say(read_config_file(file), "file")
    config = choices.config()
    assert config.data == str(tiny_data.resolve())
    assert config.recipe() == load_model(tiny_run.result.best).recipe


def test_the_weights_file_names_no_path_and_no_time(tiny_run: TinyRun, tiny_data: Path) -> None:
    _, card = load_weights(tiny_run.result.best)
    assert card.keys() == {"format", "classes", "recipe", "scores", "versions"}
    assert card["classes"] == [{"id": 3, "name": "red block"}, {"id": 8, "name": "blue block"}]
    assert str(tiny_data) not in json.dumps(card)


def test_what_is_said_names_the_data_and_the_plan_and_is_in_the_log(tiny_run: TinyRun) -> None:
    said = "\n".join(tiny_run.said)
    # 10 pictures of which one is empty: 9 * 2 objects, one of them a crowd.
    assert "train: 10 images, 17 objects, 1 crowd region, 1 image without objects" in said
    assert "Classes (category id): red block (3), blue block (8)" in said
    assert "Training yolo/csp-light at 64 px on cpu" in said
    log = (tiny_run.result.folder / "log.txt").read_text()
    assert log.startswith(said)
    assert len([line for line in log.splitlines() if line.startswith("epoch ")]) == 20
    epochs = [line for line in tiny_run.said if line.startswith("epoch ")]
    assert len(epochs) == 20
    assert [" AP " in line for line in epochs] == [number % 4 == 0 for number in range(1, 21)]


def test_a_folder_is_made_under_runs_and_never_used_twice(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [visionkit.finetune(tiny_data, **tiny_settings(epochs=1, imgsz=32)) for _ in range(2)]
    assert [run and run.folder for run in folders] == [Path(f"runs/finetune/data-{n}") for n in (1, 2)]


def test_the_same_seed_ends_in_the_same_bytes_and_another_elsewhere(tiny_data: Path, tmp_path: Path) -> None:
    settings = tiny_settings(epochs=1, imgsz=32, augment="heavy")
    for name, seed, workers in (("one", 5, 0), ("two", 5, 2), ("other", 6, 0)):
        visionkit.finetune(tiny_data, out=tmp_path / name, **{**settings, "seed": seed, "workers": workers})
    one, two, other = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_events_come_from_every_batch_and_epoch(tiny_data: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    visionkit.finetune(tiny_data, out=tmp_path / "run", listen=events.append, **tiny_settings(epochs=1, imgsz=32))
    assert len([e for e in events if isinstance(e, StepDone)]) == 3  # 10 images, 4 a batch
    (done,) = [e for e in events if isinstance(e, EpochDone)]
    assert done.scores is not None


def test_a_val_split_without_objects_still_leaves_weights(tmp_path: Path) -> None:
    root = write_blocks(tmp_path / "data", {"train": 4, "val": 3})
    file = root / "annotations" / "val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    result = visionkit.finetune(root, out=tmp_path / "run", **tiny_settings(epochs=1, imgsz=32))
    assert result is not None
    assert result.scores["AP"] is None  # not defined where there is nothing to find
    assert result.best == result.last
    assert result.best.is_file()


# Its numbers are evaluate's -------------------------------------------------------------------------------------------


def test_the_ap_of_training_is_the_ap_of_evaluate_exactly(tiny_run: TinyRun, tiny_data: Path) -> None:
    found = visionkit.evaluate(tiny_run.result.best, tiny_data, device="cpu", threads=1)
    assert found.AP is not None
    assert 0.05 < found.AP < 1  # a number that could differ
    assert {name: getattr(found, name) for name in SCORES} == tiny_run.result.scores
    assert str(found.AP) in [row["AP"] for row in metrics_of(tiny_run.result.folder)]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_at_other_batch_sizes_it_is_the_same_within_1e_4(tiny_run: TinyRun, tiny_data: Path, batch: int) -> None:
    found = visionkit.evaluate(tiny_run.result.best, tiny_data, batch=batch, device="cpu", threads=1, workers=0)
    for name, value in tiny_run.result.scores.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-4), name


# Frozen means frozen --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet-18 detector; that they are random does not matter to freezing."""
    path = tmp_path_factory.mktemp("resnet") / "resnet.safetensors"
    recipe = Recipe(backbone="resnet18", imgsz=64)
    classes = ClassTable((3, 8), ("red block", "blue block"))
    save_model(path, build_model(recipe, classes), classes, recipe, {})
    return path


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if one[name].shape != other[name].shape or not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("backbone", ["csp-light", "resnet18"])
def test_freeze_10_freezes_exactly_the_backbone(
    backbone: str, tiny_run: TinyRun, resnet: Path, tiny_data: Path, tmp_path: Path
) -> None:
    source = tiny_run.result.best if backbone == "csp-light" else resnet
    said: list[str] = []
    settings = {**tiny_settings(epochs=2), "weights": source, "imgsz": None}
    result = visionkit.finetune(tiny_data, freeze=10, out=tmp_path / "run", say=said.append, **settings)
    assert result is not None

    before, _ = load_weights(source)
    model = load_model(result.last).model
    # On 64 px the coarsest grid has 2 x 2 points, and no block may be matched there: its sides may have learnt nothing.
    untaught = ("head.side_towers.2.", "head.side_predictors.2.")
    learning = {name for name, _ in model.named_parameters() if not name.startswith(("backbone.", *untaught))}
    state = load_state(result.folder / "state.pt")["training"]
    for after in (load_weights(result.last)[0], state["model"], state["average"]):
        moved = differing(before, after)
        assert not [name for name in moved if name.startswith("backbone.")]  # running statistics neither
        assert learning <= moved

    frozen = sum(p.numel() for name, p in model.named_parameters() if name.startswith("backbone."))
    every = sum(p.numel() for p in model.parameters())
    sentence = f"Frozen 10 of {len(model.units)} units, {frozen / 1e6:.2f} M of {every / 1e6:.2f} M parameters"
    assert [line.endswith("norm layers held") for line in said if line.startswith(sentence)] == [True]
    assert said[-1] == f"Frozen tensors unchanged: SHA-256 {result.frozen_sha256} before and after"
    assert len(result.frozen_sha256) == 64


def test_frozen_weights_that_move_fail_the_run(
    tiny_run: TinyRun, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionkit.api import prepare

    def meddle(event: Event) -> None:
        if isinstance(event, StepDone):
            with torch.no_grad():
                next(trained[0].backbone.parameters()).add_(1e-3)

    def build(*arguments: Any) -> Any:
        trained.append(build_model(*arguments))
        return trained[0]

    trained: list[Any] = []
    monkeypatch.setattr(prepare, "build_model", build)
    settings = {**tiny_settings(epochs=1), "weights": tiny_run.result.best}
    with pytest.raises(VisionkitError, match="frozen units must keep their bytes, but they changed"):
        visionkit.finetune(tiny_data, freeze="backbone", out=tmp_path / "run", listen=meddle, **settings)


def test_freezing_random_weights_is_refused_unless_forced(tiny_data: Path, tmp_path: Path) -> None:
    settings = tiny_settings(epochs=1, imgsz=32)
    message = refusal(UsageError, tiny_data, freeze=10, out=tmp_path / "run", **settings)
    assert message == (
        "freezing randomly initialised weights would keep noise in the network; "
        "give trained weights by --weights FILE, or --force"
    )
    assert not (tmp_path / "run").exists()
    said: list[str] = []
    visionkit.finetune(tiny_data, freeze=10, force=True, dry_run=True, say=said.append, **settings)
    assert any(line.startswith("Frozen 10 of") for line in said)


def test_other_classes_start_their_predictors_fresh_and_keep_the_rest(
    tiny_run: TinyRun, other_data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = {"epochs": 1, "batch": 3, "threads": 1, "workers": 0, "device": "cpu", "weights": tiny_run.result.best}
    result = visionkit.finetune(
        other_data, freeze="all-but-head", out=tmp_path / "run", say=said.append, **settings
    )  # fmt: skip
    assert result is not None
    rows = "class rows  0 of 2 carried over; 2 fresh, not in the weights (crate, box); 2 unused, not in the data"
    assert any(rows in line for line in said)
    assert rows in (result.folder / "log.txt").read_text()
    assert json.loads((result.folder / "transfer.json").read_text())["classes"]["fresh"] == ["crate", "box"]
    loaded = load_model(result.last)
    assert loaded.classes == ClassTable((1, 2), ("crate", "box"))
    assert loaded.recipe.imgsz == 64  # the weights' own, not the default of 320
    before, after = load_weights(tiny_run.result.best)[0], load_weights(result.last)[0]
    assert all(name.startswith("head.") for name in differing(before, after))


def test_weights_of_another_backbone_are_refused(resnet: Path, tiny_data: Path, tmp_path: Path) -> None:
    settings = {**tiny_settings(), "weights": resnet, "backbone": "csp-light"}
    message = refusal(CheckpointError, tiny_data, out=tmp_path / "run", **settings)
    assert message.endswith("use the model and backbone it was trained with, yolo/resnet18")
    assert not (tmp_path / "run").exists()


# Augmentation and cache -----------------------------------------------------------------------------------------------


def test_settings_of_an_augment_file_are_stored_whole_and_resumed(tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("base: light\nmixup: 0.5\ncopy_paste: 0.5\n")
    said: list[str] = []
    run = tmp_path / "run"
    settings = tiny_settings(epochs=1, imgsz=32, augment=file, cache="ram", set=["augment.blur=0.25"])
    result = visionkit.finetune(tiny_data, out=run, say=said.append, **settings)
    assert result is not None
    # 10 pictures of 64x48 or 64x64.
    assert any(line.startswith("Training data: 10 images cached in RAM, 0.00 GB") for line in said)
    assert any("augment light with mixup 0.5, copy_paste 0.5, blur 0.25, seed 0" in line for line in said)
    recipe = load_model(result.last).recipe
    assert recipe.augment == replace(PRESETS["light"], mixup=0.5, copy_paste=0.5, blur=0.25)
    assert "my.yaml" not in (run / "config.yaml").read_text()
    file.unlink()
    again = visionkit.finetune(resume=run)
    assert again is not None
    assert load_model(again.last).recipe == recipe
    # The config file of the run says the same, alone.
    copy = visionkit.finetune(config=run / "config.yaml", out=tmp_path / "copy")
    assert copy is not None
    assert copy.last.read_bytes() == result.last.read_bytes()


def test_a_cache_changes_no_byte(tiny_data: Path, tmp_path: Path) -> None:
    settings = tiny_settings(epochs=2, imgsz=32, augment="heavy")
    weights = []
    for cache in ("off", "ram"):
        result = visionkit.finetune(tiny_data, cache=cache, out=tmp_path / cache, **settings)
        assert result is not None
        weights.append(result.last.read_bytes())
    assert weights[0] == weights[1]


# What it refuses ------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_everything_and_writes_nothing(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    for out in (None, "run"):
        assert visionkit.finetune(tiny_data, out=out, dry_run=True, say=said.append, **tiny_settings()) is None
    assert said[-1] == "Dry run: nothing was trained, no run folder was made"
    assert any(line.startswith("Training yolo/csp-light") for line in said)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_lists_the_options(tiny_data: Path) -> None:
    message = refusal(UsageError, tiny_data, epoch=3)
    assert message.startswith("finetune has no option 'epoch'; the options are amp, augment, backbone, batch, ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augment": "strong"}, "augment = 'strong': input should be 'none', 'light' or 'heavy'"),
        ({"backbone": "vgg"}, f"backbone = 'vgg': input should be one of {BACKBONE_CHOICES}"),
        ({"optimizer": "lion"}, "train.optimizer = 'lion': input should be 'muon', 'adamw', 'adam', 'sgd', "),
        ({"imgsz": 100}, "imgsz = 100: input should be a multiple of 32"),
        ({"set": ["train.learning_rate=1"]}, "train.learning_rate is not a setting; the settings are "),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str, tiny_data: Path) -> None:
    assert words in refusal(ConfigError, tiny_data, **options)


def test_data_without_a_train_split_is_refused(tmp_path: Path) -> None:
    root = write_blocks(tmp_path / "data", {"val": 3, "test": 1})
    message = refusal(DataError, root, out=tmp_path / "run", **tiny_settings())
    assert message == f"{root} has no train split, training needs one, it has val, test; add it or name another"
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tiny_run: TinyRun, tiny_data: Path) -> None:
    folder = tiny_run.result.folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    message = refusal(UsageError, tiny_data, out=folder, **tiny_settings())
    assert message == f"{folder} already holds a run; use --resume {folder} to go on, or another --out"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
