"""`visionkit compare` as a user types it."""

import shutil
from pathlib import Path

import pytest
from command_line import CommandLine
from tiny import TinyRun, tiny_settings, write_blocks

import visionkit
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


def with_settings(run: Path, folder: Path, seed: int = 0, **settings: str) -> Path:
    """A copy of a run's folder that says other settings."""
    shutil.copytree(run, folder)
    (folder / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    loaded = load_model(run / "best.safetensors")
    train = loaded.recipe.train.model_copy(update={"seed": seed})
    recipe = loaded.recipe.model_copy(update={"train": train})
    save_model(folder / "best.safetensors", loaded.model, loaded.classes, recipe, {})
    return folder


def test_runs_of_a_fold_are_judged_on_its_val(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=1, weights=tiny_run.result.best, lr=1e-5, set=["fold=1/2"])
    result = visionkit.finetune(tiny_data, out=tmp_path / "fold-1", **settings)
    assert result is not None
    assert result.scores["AP"]
    finished = command_line("compare", result.folder, result.folder, "--threads", 1, "--json")
    assert finished.code == 0, finished.stderr
    assert "Fold 1/2: val is that part of train and val together, dealt out by seed 0\n" in finished.stderr
    assert finished.json["images"] == 7  # of 10 in train and 4 in val
    assert finished.json["AP"]["a"] == finished.json["AP"]["b"] == pytest.approx(result.scores["AP"])


def test_runs_of_different_folds_are_compared_on_test_alone(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, tmp_path: Path
) -> None:
    run, data = tiny_run.result.folder, tiny_data.resolve()
    first, second = (
        with_settings(run, tmp_path / str(number), data=str(data), fold=f"{number}/2") for number in (1, 2)
    )
    seed7 = with_settings(run, tmp_path / "seed7", seed=7, data=str(data), fold="1/2")
    for a, b, words in (
        (
            first,
            second,
            f"{first}/best.safetensors goes by fold 1/2 by seed 0 of {data} and {second}/best.safetensors ",
        ),
        (first, seed7, "by fold 1/2 by seed 7, so each may have learnt from images that judge the other; name folders"),
        (run, first, f"{run}/best.safetensors goes by no fold of {data} and "),
        (first, run / "best.safetensors", f"{run}/best.safetensors by no fold, so each may have learnt"),
    ):
        finished = command_line("compare", a, b, "--data", data, "--threads", 1)
        assert (finished.code, finished.stdout) == (2, "")
        assert words in finished.error
    finished = command_line("compare", first, second, "--split", "test", "--threads", 1, "--json")
    assert finished.code == 0, finished.stderr
    assert finished.json["images"] == 2


def test_a_fold_is_one_of_the_data_that_it_was_dealt_from(
    command_line: CommandLine, tiny_run: TinyRun, tiny_data: Path, predictions: Path, tmp_path: Path
) -> None:
    run, other = tiny_run.result.folder, write_blocks(tmp_path / "other", {"train": 3, "val": 5})
    here = with_settings(run, tmp_path / "here", data=str(tiny_data.resolve()), fold="1/2")
    moved = with_settings(run, tmp_path / "moved", data=str(tmp_path / "gone"), fold="1/2")
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")
    # Of other data all of val counts, which is said; and who learnt from other data is judged on the fold of the other.
    finished = command_line("compare", here, here.parent / "here", "--data", other, "--threads", 1, "--json")
    assert finished.json["images"] == 5, finished.stderr
    assert f"fold 1/2 of {tiny_data.resolve()}, other data than {other}: it has no fold here\n" in finished.stderr
    stranger = with_settings(run, tmp_path / "stranger", data=str(other))
    for a, b in ((here, stranger), (stranger, here), (moved, here), (nothing, here)):
        finished = command_line("compare", a, b, "--data", tiny_data, "--threads", 1, "--json")
        assert finished.code == 0, finished.stderr
        assert finished.json["images"] == 7
    # What was found on val is of other images than the fold's.
    finished = command_line("compare", here, predictions, "--data", tiny_data, "--threads", 1)
    assert finished.code == 2
    assert "image ids must be among those of" in finished.error


def test_predictions_are_judged_on_what_the_model_held_out(
    command_line: CommandLine, tiny_run: TinyRun, tmp_path: Path
) -> None:
    data = write_blocks(tmp_path / "data", {"train": 12})
    best = with_settings(tiny_run.result.folder, tmp_path / "seed7", seed=7) / "best.safetensors"
    flags = ("--data", data, "--threads", 1)
    found = tmp_path / "found.json"
    assert command_line("evaluate", "--weights", best, *flags, "--save-predictions", found).code == 0
    for pair in ((best, found), (found, best)):
        finished = command_line("compare", *pair, *flags, "--json")
        assert finished.code == 0, finished.stderr
        assert finished.json["AP"]["difference"] == 0
