"""`visionkit compare` as a user types it."""

import shutil
from pathlib import Path

import pytest
from command_line import CommandLine
from tiny import TinyRun, write_blocks

from visionkit.build import load_model, save_model


@pytest.fixture(scope="module")
def predictions(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the tiny model finds on val."""
    file = tmp_path_factory.mktemp("compare") / "found.json"
    flags = ("--data", tiny_data, "--threads", 1, "--save-predictions", file)
    assert command_line("evaluate", "--weights", tiny_run.result.best, *flags).code == 0
    return file


def test_a_model_and_its_own_predictions_do_not_differ(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, predictions: Path
) -> None:
    finished = command_line("compare", tiny_run.result.best, predictions, "--data", tiny_data, "--threads", 1, "--json")
    assert finished.code == 0, finished.stderr
    assert finished.json["AP"]["difference"] == 0
    assert finished.json["AP"]["a"] == pytest.approx(tiny_run.result.scores["AP"])
    assert finished.json["images"] == 4
    assert finished.json["verdict"] == "4 images are too few to tell; at least 20 are needed"


def test_two_results_files_against_annotations(command_line: CommandLine, tiny_data: Path, predictions: Path) -> None:
    nothing = predictions.with_name("nothing.json")
    nothing.write_text("[]")
    truth = tiny_data / "annotations/val.json"
    finished = command_line("compare", nothing, predictions, "--annotations", truth)
    assert finished.code == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0] == f"A  {nothing}"
    assert "4 images, boxes" in lines
    # A finds nothing: the difference is all of B's AP.
    _, a, b, difference, interval = next(line for line in lines if line.startswith("AP ")).split()
    assert (float(a), f"+{b}", interval) == (0.0, difference, "n/a")
    assert lines[-1] == "4 images are too few to tell; at least 20 are needed."


def test_run_folders_name_their_data(command_line: CommandLine, tiny_run: TinyRun) -> None:
    folder = tiny_run.result.folder
    finished = command_line("compare", folder, folder, "--threads", 1, "--json")
    assert finished.code == 0, finished.stderr
    assert finished.json["AP"]["difference"] == 0


def test_what_compare_refuses_in_one_line(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, predictions: Path, tmp_path: Path
) -> None:
    truth, best = tiny_data / "annotations/val.json", tiny_run.result.best
    for arguments, words in (
        ((best, best), "compare needs the ground truth; name the dataset by --data DIR"),
        ((predictions, predictions), "compare needs the ground truth; name two results files by --annotations FILE"),
        ((best, predictions, "--annotations", truth), "is a model and needs images; name the dataset by --data DIR"),
        ((predictions, predictions, "--annotations", truth, "--data", tiny_data), "leave one of them out"),
        ((tmp_path, best, "--data", tiny_data), "is a folder without best.safetensors"),
        ((best, best, "--data", tiny_data, "--task", "keypoints"), "task must be one of bbox, segm"),
        ((best, predictions, "--data", tiny_data, "--proposals", tmp_path), "neither of the two takes proposals, both"),
        ((predictions, predictions, "--annotations", truth, "--tile", 64), "--tile is for models, and both are"),
        ((best, predictions, "--data", tiny_data, "--overlap", 0.2), "no tile is given; give --tile too"),
    ):
        finished = command_line("compare", *arguments)
        assert (finished.code, finished.stdout) == (2, "")
        assert words in finished.error


def test_models_that_held_out_different_images_are_not_compared_on_them(
    command_line: CommandLine, tiny_run: TinyRun, tmp_path: Path
) -> None:
    data = write_blocks(tmp_path / "data", {"train": 12})
    loaded = load_model(tiny_run.result.best)
    train = loaded.recipe.train.model_copy(update={"seed": 7})
    other = tmp_path / "seed7.safetensors"
    save_model(other, loaded.model, loaded.classes, loaded.recipe.model_copy(update={"train": train}), {})
    finished = command_line("compare", tiny_run.result.best, other, "--data", data)
    assert finished.code == 2
    assert "held out different images of train by their seeds" in finished.error
    same = tmp_path / "same.safetensors"
    shutil.copy(tiny_run.result.best, same)
    finished = command_line("compare", tiny_run.result.best, same, "--data", data, "--threads", 1, "--json")
    assert finished.code == 0, finished.stderr
    assert finished.json["AP"]["difference"] == 0
