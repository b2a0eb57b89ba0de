from pathlib import Path

import pytest
from six_layouts import write_explicit_paths, write_text, write_yolo

from visionkit.api.datasets import find_dataset
from visionkit.errors import DataError
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.yaml_file import read_yaml


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_layout(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_paths_may_lead_out_of_the_folder_of_the_file(tmp_path: Path) -> None:
    write_explicit_paths(tmp_path / "data")
    file = tmp_path / "configs" / "mine.yml"
    labels = tmp_path / "data" / "labels of train.json"
    write_text(file, f"test:\ntrain: {{images: ../data/photos/train, annotations: {labels}}}\n")
    layout = find_layout(file)
    assert list(layout.splits) == ["train"]
    assert len(read_split(layout, "train").images) == 3


def test_a_folder_with_a_dataset_yaml_is_found_by_it(tmp_path: Path) -> None:
    file = write_explicit_paths(tmp_path).rename(tmp_path / "dataset.yaml")
    assert find_layout(tmp_path).path == file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {images: photos/train}",
            " says train: {'images': 'photos/train'}, a split needs images: FOLDER and annotations: FILE.json; write "
            "both",
        ),
        (
            "train: {images: 1, annotations: x}",
            " says train: {'images': 1, 'annotations': 'x'}, a split needs images: FOLDER and annotations: FILE.json; "
            "write both",
        ),
        (
            "train: {images: photos, annotations: 'labels of train.json'}\nval: photos",
            " says val: 'photos', a split needs images: FOLDER and annotations: FILE.json; write both",
        ),
        (
            "train: {images: photos, annotations: x}\nnames: [a]",
            " has the key 'names', a dataset has train, val, test; remove it",
        ),
        (
            "train: {images: gone, annotations: x}",
            " names {root}/gone as images of train, which is no folder; correct the path",
        ),
        (
            "train: {images: photos, annotations: gone}",
            " names {root}/gone as annotations of train, which is no file; correct the path",
        ),
        (
            f"train: {{images: {'x' * 300}, annotations: gone}}",
            f" names {{root}}/{'x' * 300} as images of train, which is no folder; correct the path",
        ),
        (
            "lr: 0.1",
            " has the keys ['lr'], a YAML file of a dataset has train: and val:, each with images: and annotations:, "
            "or YOLO's names:, train: and val:; name another file",
        ),
        (
            "",
            " has None, a YAML file of a dataset has train: and val:, each with images: and annotations:, or YOLO's "
            "names:, train: and val:; name another file",
        ),
    ],
)
def test_a_dataset_yaml_in_error_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = write_explicit_paths(tmp_path)
    write_text(file, text)
    assert refusal(file) == message.replace("{root}", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", " at line 1: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\na: 2", " at line 1: key 'a' stands twice"),
        ("a: &x [1]\nb: *x", " at line 2: references (*name) are not read"),
        ("a: !!python/object:os.system {}", ""),
        ("a: 2020-13-45", ": month must be in 1..12"),
        ("a: !!bool maybe", ": 'maybe'"),
        ("a: !!timestamp x", ""),
        ('a: !!int ""', ": string index out of range"),
        ("? [1]\n: 2", " at line 1: found unhashable key"),
        ("[" * 5000, ""),
        ("a: \x01", ""),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    write_text(file, text)
    message = refusal(file)
    assert message.startswith(f" is not valid YAML{problem}")
    assert message.endswith("; correct it")


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_bytes(b"\xff\xfe")
    assert refusal(file) == " is not text in UTF-8; give a YAML file"
    with pytest.raises(DataError) as caught:
        read_yaml(tmp_path / "gone.yaml")
    assert str(caught.value) == f"{tmp_path / 'gone.yaml'} does not exist, a YAML file is needed; check the path"
    with pytest.raises(DataError) as caught:
        read_yaml(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not a regular file, a YAML file is needed; check the path"


def test_in_the_current_folder_a_wrong_data_yaml_is_told_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    write_yolo(tmp_path)
    assert find_dataset(None, said.append).path == tmp_path / "data.yaml"
    assert said == ["Data: YOLO layout: train, val of data.yaml"]
    write_text(tmp_path / "data.yaml", "train: images")
    with pytest.raises(DataError, match="a list of class names is needed"):
        find_dataset(None, said.append)
