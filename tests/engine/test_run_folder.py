"""The run folder: nothing is overwritten, metrics are whole."""

import csv
import json
from pathlib import Path

import pytest

from visionkit.engine.numbered_folder import numbered_folder
from visionkit.engine.run_folder import RunFolder, resume_flags
from visionkit.errors import UsageError, VisionkitError


def test_an_empty_folder_is_free_and_so_is_none(tmp_path: Path) -> None:
    RunFolder.check_free(tmp_path)
    RunFolder.check_free(tmp_path / "a" / "b")
    assert RunFolder(tmp_path / "a" / "b").state == tmp_path / "a" / "b" / "state.pt"


@pytest.mark.parametrize("state", ["state.pt", "state.previous.pt"])
def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, state: str) -> None:
    # A run killed between two states has only the previous one.
    (tmp_path / state).touch()
    with pytest.raises(UsageError) as error:
        RunFolder.check_free(tmp_path)
    assert str(error.value) == f"{tmp_path} already holds a run; use --resume {tmp_path} to go on, or another --out"


@pytest.mark.parametrize("there", ["notes.txt", ".hidden"])
def test_a_folder_that_holds_anything_else_is_refused(tmp_path: Path, there: str) -> None:
    (tmp_path / there).touch()
    with pytest.raises(UsageError) as error:
        RunFolder.check_free(tmp_path)
    assert str(error.value) == f"{tmp_path} is not empty and nothing is overwritten; give another --out"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UsageError, match="nothing is overwritten; give another --out"):
        RunFolder.check_free(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_numbered_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "unplugged")
    (tmp_path / "file").touch()
    for name, reason in (("nowhere", "File exists"), ("file", "Not a directory")):
        parent = tmp_path / name / "detect"
        with pytest.raises(VisionkitError) as error:
            numbered_folder(parent, "beans")
        assert str(error.value) == (
            f"{parent} cannot be written ({reason}), results are saved there; free space or choose another folder"
        )


def test_numbered_folders_take_the_first_free_number(tmp_path: Path) -> None:
    (tmp_path / "beans-2").mkdir()
    names = [numbered_folder(tmp_path / "", "beans").name for _ in range(3)]
    assert names == ["beans-1", "beans-3", "beans-4"]
    assert numbered_folder(tmp_path / "new" / "parent", "beans").is_dir()


def test_metrics_say_the_same_in_both_files(tmp_path: Path) -> None:
    history = [
        {"epoch": 1, "lr": 0.001, "loss/box": 2.5, "AP": None},
        {"epoch": 2, "lr": 0.0005, "loss/box": 1.25, "AP": 0.5},
    ]
    folder = RunFolder(tmp_path)
    folder.write_metrics(history)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["AP"] for row in rows] == ["", "0.5"]  # not defined is empty, not 0

    # Written anew, not appended to: a resumed run repeats no epoch.
    folder.write_metrics(history[:1])
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2


def test_a_column_that_comes_later_is_kept(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_metrics([{"epoch": 1}, {"epoch": 2, "AP": 0.5}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,AP\n1,\n2,0.5\n"


def test_the_log_grows(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.add_to_log("first ü")
    folder.add_to_log("second")
    assert folder.log.read_text(encoding="utf-8") == "first ü\nsecond\n"


def test_how_a_run_goes_on_names_its_processes_where_all_are_on_this_machine() -> None:
    run = Path("run")
    assert resume_flags(run, {}) == resume_flags(run, {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}) == "--resume run"
    assert resume_flags(run, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}) == "--resume run --processes 4"
    # Of several machines none can start them all.
    assert resume_flags(run, {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}) == "--resume run"
