"""Which data a run trains on, whatever its layout: held out val images, the hash that guards a resumed run, paths."""

import hashlib
import shutil
from pathlib import Path

import pytest
from six_layouts import LAYOUTS, SPLITS, write_explicit_paths, write_plain_coco, write_text, write_voc, write_yolo
from tiny import tiny_settings, write_blocks

import visionkit
from visionkit.api.datasets import find_dataset
from visionkit.api.prepare import annotations_sha256
from visionkit.choices import read_config_file
from visionkit.errors import DataError
from visionkit.formats.layout import find_layout, read_split


def sha256(path: Path) -> str:
    return annotations_sha256(find_dataset(path, lambda line: None))


@pytest.mark.parametrize("layout_name", ["paths", "yolo"])
def test_visionkit_yaml_in_the_current_folder_is_the_dataset_that_is_meant(
    layout_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = {"paths": write_explicit_paths, "yolo": lambda root: write_yolo(root) / "data.yaml"}[layout_name]
    file = write(tmp_path)
    here = file.rename(tmp_path / "visionkit.yaml")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    layout = find_dataset(None, said.append)
    assert layout.path == Path("visionkit.yaml")
    assert sha256(tmp_path / "visionkit.yaml") == annotations_sha256(layout)
    assert said == [f"Data: {layout.describe()}"]
    here.write_text("train: {images: gone, annotations: gone.json}\n")
    with pytest.raises(DataError, match=r"^visionkit\.yaml names gone as images of train, which is no folder"):
        find_dataset(None, said.append)


def test_the_hash_of_coco_annotations_is_that_of_both_files(tmp_path: Path) -> None:
    root = write_plain_coco(tmp_path)
    files = b"".join((root / "annotations" / f"{split}.json").read_bytes() for split in ("train", "val"))
    assert sha256(root) == hashlib.sha256(files).hexdigest()


@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_the_hash_moves_with_the_dataset_and_changes_with_its_annotations(layout_name: str, tmp_path: Path) -> None:
    path = LAYOUTS[layout_name][0](tmp_path / "here")
    before = sha256(path)
    moved = (tmp_path / "here").rename(tmp_path / "there") / path.relative_to(tmp_path / "here")
    assert sha256(moved) == before
    for file in (tmp_path / "there").rglob("*"):
        if (file.stem in ("a", "v") and file.suffix in (".xml", ".txt")) or file.suffix == ".json":
            content = file.read_bytes()
            file.write_bytes(content + b"\n")
            assert sha256(moved) != before
            file.write_bytes(content)
    assert sha256(moved) == before


def test_the_hash_changes_with_the_images_that_make_a_split(tmp_path: Path) -> None:
    yolo, voc = write_yolo(tmp_path / "yolo"), write_voc(tmp_path / "voc")
    before = sha256(yolo), sha256(voc)
    shutil.copy(yolo / "images" / "train" / "a.jpg", yolo / "images" / "train" / "aa.jpg")
    write_text(voc / "ImageSets" / "Main" / "train.txt", "a\nb\n")
    assert sha256(yolo) != before[0]
    assert sha256(voc) != before[1]
    # A class that only the test split has would make another model.
    before_test = sha256(voc)
    write_text(voc / "ImageSets" / "Main" / "test.txt", "z\n")
    write_text(voc / "Annotations" / "z.xml", "<annotation><object><name>zebra</name></object></annotation>")
    assert sha256(voc) != before_test


def test_a_run_trains_on_what_is_not_held_out_and_evaluate_finds_the_same_val(tmp_path: Path) -> None:
    root = write_blocks(tmp_path / "data", {"train": 10})
    said: list[str] = []
    settings = tiny_settings(epochs=1, seed=3, out=tmp_path / "run", set=["grow_from=1"], augment="none")
    result = visionkit.finetune(root, say=said.append, **settings)
    assert result is not None
    assert "train: 8 of 10 images of train.json are kept, the others are held out as val" in said
    told: list[str] = []
    visionkit.evaluate(result.folder / "last.safetensors", root, workers=0, threads=1, say=told.append)
    assert told[0].endswith("a fifth of train is held out as val, by seed 3")
    of_val = [line for line in said if line.startswith("val: ")]
    assert "val: 2 of 10 images of train.json are held out, because there is no val split" in of_val
    assert told[1 : 1 + len(of_val)] == of_val


def test_a_run_on_a_yaml_file_remembers_the_file_and_goes_on(tmp_path: Path) -> None:
    file = write_yolo(tmp_path / "data") / "data.yaml"
    settings = tiny_settings(epochs=1, out=tmp_path / "run", augment="none")
    assert visionkit.finetune(file, **settings) is not None
    assert read_config_file(tmp_path / "run" / "config.yaml")["data"] == str(file.resolve())
    assert visionkit.finetune(resume=tmp_path / "run") is not None


def test_every_split_of_every_layout_is_kept_by_find_dataset(tmp_path: Path) -> None:
    for number, (write, words) in enumerate(LAYOUTS.values()):
        path = write(tmp_path / str(number))
        said: list[str] = []
        layout = find_dataset(path, said.append, seed=5)
        assert said == [f"Data: {words}"]
        assert list(layout.splits) == list(SPLITS)
        assert read_split(layout, "val") == read_split(find_layout(path), "val")
