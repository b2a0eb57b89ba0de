"""What `visionkit detect` leaves behind: every format, every kind of source, also when it is stopped half-way."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from reference_data import reference_data

from visionkit.build import build_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.formats.layout import find_layout, read_split
from visionkit.imaging.reader import read_image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained nowhere and sees something everywhere."""
    recipe, classes = Recipe(imgsz=64), ClassTable((3, 8), ("red block", "blue block"))
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_model(path, build_model(recipe, classes), classes, recipe, {})
    return path


def write_pictures(*paths: Path) -> None:
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8))


def flags(weights: Path) -> list[str]:
    return ["--weights", str(weights), "--conf", "0", "--max-det", "4", "--threads", "1", "--device", "cpu"]


FORMATS = ["--format", "json", "--format", "coco", "--format", "yolo", "--format", "csv"]
EDITABLE = ["--format", "labelme", "--format", "cvat", "--crops"]


def test_all_formats_agree_and_pictures_of_one_name_keep_apart(
    weights: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "y" / "b.jpg")
    finished = command_line("detect", "x", "y", *flags(weights), *FORMATS, "--out", "out", "--json", folder=tmp_path)
    assert finished.code == 0, finished.stderr
    out = tmp_path / "out"
    words = "Pictures, detections.jsonl, results.json, YOLO text files and detections.csv: out"
    assert finished.stderr == words + "\n"
    pictures = {"a.png", "a-2.png", "b.jpg"}
    texts = {"a.txt", "a-2.txt", "b.txt", "classes.txt", "sources.csv"}
    tables = {"detections.jsonl", "results.json", "detections.csv"}
    assert {path.name for path in out.iterdir()} == pictures | texts | tables
    results = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [result["image"]["path"] for result in results] == ["x/a.png", "y/a.png", "y/b.jpg"]
    assert all(result["items"] for result in results)

    def without_time(result: dict[str, object]) -> dict[str, object]:
        return {key: value for key, value in result.items() if key != "milliseconds"}

    lines = (out / "detections.jsonl").read_text().splitlines()
    assert [without_time(json.loads(line)) for line in lines] == list(map(without_time, results))
    items = [(i, result, item) for i, result in enumerate(results, start=1) for item in result["items"]]
    coco = json.loads((out / "results.json").read_text())
    with (out / "detections.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    with (out / "sources.csv").open(newline="") as file:
        text_of = {row["image"]: row["labels"] for row in csv.DictReader(file)}
    yolo = [
        (path, line.split())
        for path in (result["image"]["path"] for result in results)
        for line in (out / text_of[path]).read_text().splitlines()
    ]
    names = (out / "classes.txt").read_text().splitlines()
    for (i, result, item), coco_row, csv_row, (path, yolo_row) in zip(items, coco, table, yolo, strict=True):
        x1, y1, x2, y2 = item["bbox"]
        assert (coco_row["image_id"], coco_row["file_name"]) == (i, result["image"]["path"])
        assert coco_row["category_id"] == item["category_id"] in {3, 8}
        assert coco_row["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.011)
        assert (csv_row["image_id"], csv_row["file_name"], csv_row["name"]) == (str(i), path, item["name"])
        assert [float(csv_row[corner]) for corner in ("x1", "y1", "x2", "y2")] == pytest.approx(item["bbox"], abs=0.006)
        assert names[int(yolo_row[0])] == item["name"]
        shares = [float(share) for share in yolo_row[1:5]]
        assert shares == pytest.approx([(x1 + x2) / 128, (y1 + y2) / 96, (x2 - x1) / 64, (y2 - y1) / 48], abs=3e-4)
        for score in (coco_row["score"], float(csv_row["score"]), float(yolo_row[5])):
            assert score == pytest.approx(item["score"], abs=1e-5)


def test_a_format_without_pictures(weights: Path, command_line: CommandLine, tmp_path: Path) -> None:
    write_pictures(tmp_path / "classes.jpg")
    arguments = ["detect", "classes.jpg", *flags(weights), "--no-save"]
    finished = command_line(*arguments, "--format", "yolo", folder=tmp_path)
    assert (finished.code, finished.stderr) == (0, "YOLO text files: runs/detect/detect-1\n")
    out = tmp_path / "runs" / "detect" / "detect-1"
    assert {path.name for path in out.iterdir()} == {"classes.txt", "classes-2.txt", "sources.csv"}
    assert (out / "classes.txt").read_text() == "red block\nblue block\n"
    finished = command_line(*arguments, "--format", "xml", folder=tmp_path)
    assert finished.code == 2
    assert finished.error == (
        "unknown format 'xml', detections are written as one or several of json, coco, yolo, csv, labelme, cvat, "
        "masks, crops; choose among these"
    )


def test_files_for_annotation_tools_and_crops(weights: Path, command_line: CommandLine, tmp_path: Path) -> None:
    write_pictures(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png")
    finished = command_line("detect", "x", "y", *flags(weights), *EDITABLE, "--json", "--out", "out", folder=tmp_path)
    assert finished.code == 0, finished.stderr
    assert finished.stderr == "Pictures, labelme, cvat/annotations.xml and crops: out\n"
    results = [json.loads(line) for line in finished.stdout.splitlines()]
    out = tmp_path / "out"
    for tool in ("labelme", "cvat"):
        data = read_split(find_layout(out / tool), "train")
        images = {image.file_name: image for image in data.images}
        for image, source, result in zip((images["a.png"], images["a-2.png"]), ("x", "y"), results, strict=True):
            assert image.path is not None
            assert image.path.read_bytes() == (tmp_path / source / "a.png").read_bytes()
            for annotation, item in zip(image.annotations, result["items"], strict=True):
                x, y, width, height = annotation.bbox
                assert (x, y, x + width, y + height) == pytest.approx(item["bbox"], abs=0.006)
                assert data.classes.names[data.classes.label(annotation.category_id)] == item["name"]
    expected = {
        f"{item['name']}/{stem}-{place}.png"
        for stem, result in zip(("a", "a-2"), results, strict=True)
        for place, item in enumerate(result["items"], 1)
    }
    assert {path.relative_to(out / "crops").as_posix() for path in (out / "crops").rglob("*.png")} == expected


def test_a_list_whose_missing_and_broken_images_are_named(
    weights: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "p" / "1.png", tmp_path / "p" / "4.png")
    (tmp_path / "p" / "2.png").write_bytes(b"not a picture")
    (tmp_path / "images.txt").write_text("# four\np/1.png\np/2.png\n\np/3.png\np/4.png\n")
    finished = command_line("detect", "images.txt", *flags(weights), "--out", "out", folder=tmp_path)
    assert finished.code == 3
    broken, missing, _, count = finished.stderr.splitlines()
    assert broken.startswith("skipped: p/2.png ")
    assert missing.startswith("skipped: p/3.png ")
    assert count == "2 images done, 2 skipped"
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {(row["image_id"], row["file_name"]) for row in rows} == {(1, "p/1.png"), (4, "p/4.png")}


@pytest.fixture
def long_run(weights: Path, command_line: CommandLine, tmp_path: Path) -> int:
    """A command at work on more images than it will do in time; its process id, once it has done a few."""
    write_pictures(tmp_path / "a.png")
    for i in range(5_000):
        os.link(tmp_path / "a.png", tmp_path / f"a{i}.png")
    every = [*FORMATS, *EDITABLE]
    pid = command_line.start("detect", ".", *flags(weights), *every, "--out", "out", folder=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "a2.png").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pid


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", -9)])
def test_a_stopped_run_keeps_what_it_has(
    name: str, code: int, long_run: int, command_line: CommandLine, tmp_path: Path
) -> None:
    os.kill(long_run, getattr(signal, name))
    finished = command_line.wait()
    assert finished.code == code
    assert "Traceback" not in finished.stderr
    if name != "SIGKILL":
        assert finished.stderr.splitlines()[-1].endswith(": out")
    out = tmp_path / "out"
    rows = json.loads((out / "results.json").read_text())
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    with (out / "detections.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    done = max(row["image_id"] for row in rows)
    assert 3 <= done < 5_000
    # The formats are written one after another: the stop may have come between two of them.
    for images in (len(lines), max(int(row["image_id"]) for row in table), len(list(out.glob("a*.txt")))):
        assert abs(images - done) <= 1
    # The readers of datasets refuse files that are not whole.
    for tool in ("labelme", "cvat"):
        assert abs(len(read_split(find_layout(out / tool), "train").images) - done) <= 1
    crops = list((out / "crops").rglob("*.png"))
    assert len(crops) >= done - 1
    assert all(read_image(crop).size for crop in crops)


def test_photos_of_the_world(command_line: CommandLine, weights: Path, tmp_path: Path) -> None:
    photos = reference_data("photos")
    finished = command_line("detect", photos, *flags(weights), *FORMATS, "--out", tmp_path / "out", folder=tmp_path)
    assert finished.code == 0, finished.stderr
    sources = sorted(photos.glob("*.jpg"))
    for source in sources:
        assert read_image(tmp_path / "out" / source.name).shape == read_image(source).shape
        assert len((tmp_path / "out" / source.name).with_suffix(".txt").read_text().splitlines()) <= 4
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {Path(row["file_name"]).name for row in rows} == {source.name for source in sources}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_name_that_is_no_text_ends_no_run(weights: Path, tmp_path: Path) -> None:
    names = ["caf\udce9.png", "na\u00efve.png"]
    for name in names:
        write_pictures(tmp_path / "a.png")  # OpenCV could not be told such a name
        (tmp_path / "a.png").rename(tmp_path / name)
    command = [sys.executable, "-m", "visionkit", "detect", *names, *flags(weights), "--format", "csv", "--out", "out"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0].decode() for line in done.stdout.splitlines() if line[:1] != b" "] == [
        "caf\\udce9.png", "na\u00efve.png"
    ]  # fmt: skip


def test_a_source_that_is_not_there_costs_no_run_and_help_says_so(
    weights: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    for other in ("gone.png", "gone*.png", "empty"):
        done = command_line("detect", "a.png", other, *flags(weights), folder=tmp_path)
        assert (done.code, done.stdout) == (2, ""), other
    said = " ".join(command_line("detect", "--help", COLUMNS="500").stdout.split())
    assert "A source that is not there, a folder or glob without images, ends it before anything is looked at" in said
    assert "missing from a list is named and skipped: exit code 3" in said
