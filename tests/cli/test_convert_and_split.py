"""`visionkit convert` and `visionkit split` as a user types them."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import CommandLine
from mixed_dataset import write_mixed


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed(tmp_path_factory.mktemp("mixed") / "data")


def test_convert(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    finished = command_line("convert", mixed, tmp_path / "out", "--to", "yolo")
    assert finished.code == 0, finished.stderr
    assert finished.stderr.splitlines()[0] == "Data: COCO layout: train.json, val.json over images/"
    lines = finished.stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["train", "val"],
        ["images", "4", "(", "50.0%)", "4", "(", "50.0%)"],
        ["cat", "4", "(", "50.0%)", "4", "(", "50.0%)"],
    ]
    assert "Not held by yolo: 2 crowd regions: YOLO has none, and as objects they would teach the wrong" in lines
    assert "Changed for yolo: 2 RLE masks written as polygons along their pixels" in lines
    assert lines[-1] == f"{tmp_path / 'out'}: yolo, pictures: 8 linked"


def test_convert_says_the_same_as_json(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    told = command_line("convert", mixed, tmp_path / "out", "--to", "voc", "--json").json
    assert told["format"] == "voc"
    assert told["splits"] == {split: {"images": 4, "objects": 9} for split in ("train", "val")}
    assert told["per_class"]["cat"] == {"train": 4, "val": 4}
    assert told["not_held"] == {"masks: the annotation files of VOC have boxes alone": 10}
    assert told["pictures"] == {"linked": 8, "copied": 0}


def test_split(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    arguments = (mixed, tmp_path / "out", "--val", 0.25, "--test", 0.25, "--seed", 1)
    finished = command_line("split", *arguments)
    assert finished.code == 0, finished.stderr
    assert finished.stdout.splitlines()[0].split() == ["train", "val", "test"]
    assert finished.stdout.splitlines()[1].split()[0] == "images"
    assert json.loads((tmp_path / "out/annotations/test.json").read_text())["images"]


def test_doctor_and_layouts_know_what_was_written(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    for to in ("labelme", "cvat"):
        assert command_line("convert", mixed, tmp_path / to, "--to", to).code == 0
        finished = command_line("doctor", tmp_path / to, "--quick", "--json")
        assert finished.code == 0, finished.stdout
        assert finished.json["errors"] == 0


def test_items_in_error(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    shutil.copytree(mixed, tmp_path / "data")
    file = tmp_path / "data/annotations/val.json"
    file.write_text(file.read_text().replace('"bbox": [3, 4, 10, 12]', '"bbox": [3, 4, 0, 12]', 1))
    refused = command_line("convert", tmp_path / "data", tmp_path / "out")
    assert refused.code == 2
    assert "annotation 1012 of image 1040 has bbox [3, 4, 0, 12]" in refused.error
    finished = command_line("convert", tmp_path / "data", tmp_path / "out", "--skip-bad")
    assert finished.code == 3
    assert "1 item was left out of the data" in finished.stderr
    assert (tmp_path / "out").is_dir()


def test_what_is_refused_in_one_line(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("convert", mixed, mixed), "exists and nothing is overwritten"),
        (("convert", mixed, tmp_path / "out", "--to", "tfrecord"), "unknown format 'tfrecord'"),
        (("convert", tmp_path / "nowhere", tmp_path / "out"), "does not exist"),
        (("split", mixed, tmp_path / "out", "--val", 2), "--val must be a share of the images"),
    ):
        finished = command_line(*arguments)
        assert finished.code == 2
        assert words in finished.error
    assert not (tmp_path / "out").exists()


def test_neither_needs_torch(command_line: CommandLine, mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "absent" / "torch").mkdir(parents=True)
    (tmp_path / "absent/torch/__init__.py").write_text("raise ImportError('no torch here')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'absent')!r}); import visionkit; "
        f"visionkit.convert({str(mixed)!r}, {str(tmp_path / 'out')!r}, to='cvat'); "
        f"visionkit.split({str(tmp_path / 'out')!r}, {str(tmp_path / 'parts')!r})"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
