"""`visionkit doctor` as a user types it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from diagnosis_files import splits, write_yolo
from tiny import TinyRun, write_blocks

from visionkit.diagnosis.findings import undo


@pytest.fixture
def damaged(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny dataset with a box without width in train, one that leaves its image in val, and a picture in both."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    for split, change in (("train", {2: 0}), ("val", {0: 50, 2: 30})):
        file = data / f"annotations/{split}.json"
        content = json.loads(file.read_text())
        for place, value in change.items():
            content["annotations"][0]["bbox"][place] = value
        file.write_text(json.dumps(content))
    rows = {split: json.loads((data / f"annotations/{split}.json").read_text())["images"] for split in ("train", "val")}
    one, other = next((a, b) for a in rows["train"] for b in rows["val"] if a["height"] == b["height"])
    shutil.copy(data / "images" / one["file_name"], data / "images" / other["file_name"])
    return data


def test_a_sound_dataset(command_line: CommandLine, tiny_data: Path) -> None:
    finished = command_line("doctor", tiny_data)
    assert finished.code == 0, finished.stdout + finished.stderr
    assert finished.stdout.splitlines()[-1].startswith("0 errors, ")
    assert finished.stderr.startswith("Data: COCO layout: train.json, val.json, test.json over images/")


def test_the_folder_that_one_is_in_has_a_name(command_line: CommandLine, tiny_data: Path) -> None:
    done = command_line("doctor", ".", folder=tiny_data)
    assert f"           {tiny_data.name}: class " in done.stdout


def test_what_it_prints(command_line: CommandLine, damaged: Path) -> None:
    finished = command_line("doctor", damaged)
    assert finished.code == 1
    lines = finished.stdout.splitlines()
    assert lines[0] == "errors"
    assert any(line.startswith("  VK204      1 x box without an area: ") for line in lines)
    assert any("train.json: annotation 1 of image 5 has bbox [" in line for line in lines)
    assert any("VK206" in line for line in lines)
    assert any("VK410" in line for line in lines)
    assert lines[-1].endswith(f"visionkit doctor {damaged} --fix OUT")


def test_json_has_every_finding(command_line: CommandLine, damaged: Path) -> None:
    finished = command_line("doctor", damaged, "--json")
    told = finished.json
    codes = [finding["code"] for finding in told["findings"]]
    assert {"VK204", "VK206", "VK410"} <= set(codes)
    assert told["errors"] == sum(finding["severity"] == "error" for finding in told["findings"])
    assert told["repaired_to"] is None


def test_the_repaired_copy_is_sound_and_the_original_untouched(
    command_line: CommandLine, damaged: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    out = tmp_path / "repaired"
    finished = command_line("doctor", damaged, "--fix", out)
    assert finished.code == 1  # the picture in two splits is for a human to decide
    assert "1 errors are left" in finished.stdout
    assert {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()} == before
    again = command_line("doctor", out, "--json")
    assert [f["code"] for f in again.json["findings"] if f["severity"] == "error"] == ["VK410"]
    for split in ("train", "val"):
        diff = json.loads((out / f"repairs/{split}.json").read_text())
        repaired = json.loads((out / f"annotations/{split}.json").read_text())
        assert undo(repaired, diff) == json.loads((damaged / f"annotations/{split}.json").read_text())
    # What was repaired can be learnt from.
    checked = command_line("finetune", "--data", out, "--weights", "scratch", "--imgsz", 64, "--dry-run")
    if "No such option" not in checked.stderr:
        assert checked.code == 0, checked.stderr


def test_an_annotation_file_alone(command_line: CommandLine, damaged: Path, tmp_path: Path) -> None:
    finished = command_line("doctor", damaged / "annotations/train.json", "--json")
    assert finished.code == 1
    assert [f["code"] for f in finished.json["findings"] if f["severity"] == "error"] == ["VK204"]
    finished = command_line("doctor", damaged / "annotations/train.json", "--images", damaged / "images", "--json")
    assert finished.code == 1


def test_strict_makes_warnings_count(command_line: CommandLine, damaged: Path) -> None:
    file = damaged / "annotations/val.json"  # has a warning and no error
    assert command_line("doctor", file).code == 0
    assert command_line("doctor", file, "--strict").code == 1


def test_a_model_has_its_doubts(command_line: CommandLine, damaged: Path, tiny_run: TinyRun) -> None:
    finished = command_line("doctor", damaged, "--weights", tiny_run.result.best, "--threads", 1, "--json")
    assert finished.code == 1, finished.stderr
    doubts = [f for f in finished.json["findings"] if f["code"].startswith("VK6")]
    assert doubts
    assert all(0 < f["score"] <= 1 for f in doubts)
    # The surest of each kind comes before all others of its kind.
    first = next(f for f in doubts if f["file"].endswith("train.json"))
    alike = [f["score"] for f in doubts if f["code"] == first["code"] and f["file"] == first["file"]]
    assert first["score"] == max(alike)


def doubts_of_train(command_line: CommandLine, weights: Path, *data: Any) -> list[dict[str, Any]]:
    """What a model doubts of `train.json`, without the name of that file."""
    finished = command_line("doctor", *data, "--weights", weights, "--threads", 1, "--json")
    assert finished.code in (0, 1), finished.stderr
    doubts = [f for f in finished.json["findings"] if f["code"].startswith("VK6") and f["file"].endswith("train.json")]
    return [{**doubt, "file": ""} for doubt in doubts]


def test_the_doubts_are_of_all_images_of_a_file_alone_and_of_data_without_val(
    command_line: CommandLine, tiny_run: TinyRun, tmp_path: Path
) -> None:
    # The same train: of data without val, a fifth would be held out of it for a training.
    data = write_blocks(tmp_path / "data", {"train": 12, "val": 2})
    weights, file = tiny_run.result.best, data / "annotations/train.json"
    content = json.loads(file.read_text())
    wrong, *_, last = content["annotations"]
    wrong["category_id"] = 11 - wrong["category_id"]  # 3 or 8
    content["annotations"].append({**last, "id": last["id"] + 1, "image_id": 15, "bbox": [9, 9, 20, 20], "iscrowd": 0})
    file.write_text(json.dumps(content))
    expected = doubts_of_train(command_line, weights, data)
    assert {(doubt["code"], doubt["image_id"]) for doubt in expected} == {("VK603", 5), ("VK602", 15)}
    assert doubts_of_train(command_line, weights, file, "--images", data / "images") == expected
    (data / "annotations/val.json").unlink()
    assert doubts_of_train(command_line, weights, data) == expected


def test_doubts_name_the_file_that_the_labels_are_in(
    command_line: CommandLine, damaged: Path, tiny_run: TinyRun
) -> None:
    finished = command_line("doctor", damaged, "--weights", tiny_run.result.best, "--threads", 1, "--json")
    files = {f["file"] for f in finished.json["findings"] if f["code"].startswith("VK6")}
    assert files
    assert files <= {str(damaged / f"annotations/{split}.json") for split in ("train", "val", "test")}


def test_refused_weights_leave_nothing_behind(
    command_line: CommandLine, damaged: Path, tiny_run: TinyRun, other_data: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "repaired", damaged / "annotations/train.json"
    best, nowhere, no_model = tiny_run.result.best, tmp_path / "nowhere.safetensors", tmp_path / "none.pt"
    no_model.touch()
    for arguments, words in (
        ((damaged, "--weights", nowhere), "does not exist"),
        ((damaged, "--weights", no_model), "may be pickled"),
        ((other_data, "--weights", best), "must know all 2 classes of"),
        ((damaged, "--weights", best, "--device", "abacus"), "device must be auto, cpu, cuda, cuda:N or mps"),
        ((file, "--weights", best), f"{file} is an annotation file alone, and a model has its doubts about what it "),
    ):
        finished = command_line("doctor", *arguments, "--fix", out)
        assert (finished.code, finished.stdout) == (2, ""), finished.stderr
        assert words in finished.error
        assert not out.exists()


def test_what_doctor_refuses_in_one_line(command_line: CommandLine, damaged: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((damaged, "--fix", damaged), "exists and nothing is overwritten; name a new folder"),
        ((tmp_path / "nowhere",), "does not exist"),
        ((damaged, "--images", damaged), "--images goes with an annotation file alone"),
    ):
        finished = command_line("doctor", *arguments)
        assert finished.code == 2, finished.stderr
        assert words in finished.error


def test_a_file_that_is_no_json_is_a_finding(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text('{"images": [')
    finished = command_line("doctor", file, "--json")
    assert finished.code == 1
    assert [f["code"] for f in finished.json["findings"]] == ["VK001"]
    assert "cannot be read as COCO" in command_line("doctor", file, "--fix", tmp_path / "out").error


def test_a_data_yaml_that_is_no_yaml_is_a_finding(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("train: images\nnames: [cat\n")
    for data in (tmp_path, file):
        finished = command_line("doctor", data, "--json")
        assert finished.code == 1
        (found,) = finished.json["findings"]
        fact = "is not valid YAML at line 3: expected ',' or ']', but got '<stream end>'; correct it"
        assert (found["code"], found["file"], found["fact"]) == ("VK001", str(file), fact)
    fixed = command_line("doctor", tmp_path, "--fix", tmp_path / "out")
    assert (fixed.code, fixed.error) == (2, f"{file} {fact}")


def test_a_repair_is_taken_back(command_line: CommandLine, damaged: Path, tmp_path: Path) -> None:
    out = tmp_path / "repaired"
    command_line("doctor", damaged, "--fix", out)
    for split, data in (("train", out), ("val", out / "annotations/val.json")):
        old = tmp_path / f"old/{split}.json"
        finished = command_line("doctor", data, "--undo", out / f"repairs/{split}.json", "--out", old)
        assert finished.code == 0, finished.stderr
        assert finished.stdout == f"{old}: 1 rows put back; the same bytes as before the repair\n"
        assert finished.stderr == ""
        assert old.read_bytes() == (damaged / f"annotations/{split}.json").read_bytes()


def test_edits_since_a_repair_stay_where_it_had_left_the_rows_alone(
    command_line: CommandLine, damaged: Path, tmp_path: Path
) -> None:
    out, old = tmp_path / "repaired", tmp_path / "old.json"
    command_line("doctor", damaged, "--fix", out)
    file = out / "annotations/val.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["area"] = 7
    file.write_text(json.dumps(content))
    finished = command_line("doctor", out, "--undo", out / "repairs/val.json", "--out", old, "--json")
    assert finished.code == 0, finished.stderr
    assert finished.json == {"written": str(old), "changes": 1, "same_bytes": False}
    assert "was edited since the repair; what the repair had left alone stays as it is now" in finished.stderr
    before = json.loads((damaged / "annotations/val.json").read_text())
    before["annotations"][1]["area"] = 7
    assert json.loads(old.read_text()) == before


def test_what_undo_refuses_in_one_line(command_line: CommandLine, damaged: Path, tmp_path: Path) -> None:
    out = tmp_path / "repaired"
    command_line("doctor", damaged, "--fix", out)
    diff, new = out / "repairs/train.json", tmp_path / "old.json"
    emptied = tmp_path / "emptied.json"
    emptied.write_text(json.dumps({**json.loads(diff.read_text()), "changes": [{"list": "annotations"}]}))
    for arguments, words in (
        ((out, "--undo", diff), "--undo DIFF takes a repair back into --out FILE; give both"),
        ((out, "--out", new), "--undo DIFF takes a repair back into --out FILE; give both"),
        ((out, "--undo", diff, "--out", diff), "exists and nothing is overwritten; give another --out"),
        ((out, "--undo", diff, "--out", new, "--quick"), "--quick has no meaning with --undo, which looks for nothing"),
        ((out, "--undo", out / "annotations/train.json", "--out", new), "a repair diff has format "),
        ((damaged, "--undo", diff, "--out", new), "is as it was before the repair; name the repaired file"),
        ((diff, "--undo", diff, "--out", new), "the content has no list of images; undo needs the repaired file"),
        (
            (out / "annotations/train.json", "--undo", emptied, "--out", new),
            "this one is damaged; name a file of --fix",
        ),
        ((out, "--undo", tmp_path / "nowhere.json", "--out", new), "does not exist"),
    ):
        finished = command_line("doctor", *arguments)
        assert finished.code == 2, finished.stderr
        assert words in finished.error
    assert not new.exists()


def test_a_dataset_of_many_files_is_repaired_and_taken_back(command_line: CommandLine, tmp_path: Path) -> None:
    data = write_yolo(tmp_path / "data", splits(3, 2))
    labels = data / "labels/train/t000.txt"
    before = labels.read_bytes()
    labels.write_bytes(before + b"7 0.5 0.5 0.1 0.1\n")
    out, old = tmp_path / "repaired", tmp_path / "old"
    finished = command_line("doctor", data, "--quick", "--fix", out)
    assert finished.code == 0, finished.stderr
    assert "           t000.txt: line 5 has class '7', which is not named" in finished.stdout.splitlines()
    assert f"Repaired copy: {out}, 1 rows changed; what changed is in its repairs/" in finished.stdout
    assert (out / "labels/train/t000.txt").read_bytes() == before
    finished = command_line("doctor", out, "--undo", out / "repairs/train.json", "--out", old)
    assert finished.stdout == f"{old}: 1 rows put back; the same bytes as before the repair\n"
    assert (old / "labels/train/t000.txt").read_bytes() == labels.read_bytes()
