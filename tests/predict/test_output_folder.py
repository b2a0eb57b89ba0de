"""A folder of results of images and videos together."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pictures import noise
from PIL import Image
from videos import write_video

from visionkit.classes import ClassTable
from visionkit.predict.backend import RawDetections
from visionkit.predict.detect import detect_loaded, read_images
from visionkit.predict.output_folder import output_folder
from visionkit.predict.output_formats import FORMATS, chosen_formats
from visionkit.predict.sources import find_sources
from visionkit.predict.video_source import read_video


class OneBox:
    """Finds the same box in every image."""

    name, sha256, classes, image_size = "one", "", ClassTable((3,), ("cat",)), 64

    def run(self, images, **thresholds):
        box = RawDetections(np.array([[8, 16, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
        return [box] * len(images)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A picture, a video of its stem, another picture."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", 3)
    for name in ("clip.png", "b.png"):
        Image.fromarray(noise()).save(name)
    return find_sources(["clip.png", "clip.mp4", "b.png"])


def run(sources, formats, *, pictures=True):
    with output_folder(Path("out"), chosen_formats(formats), pictures=pictures) as write:
        images = read_images(sources, on_skip=lambda *what: pytest.fail(str(what)))
        for image, result in detect_loaded(OneBox(), images):
            write(image, result)
    return {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}


def test_pictures_and_a_video(sources):
    assert run(sources, []) == {"clip.png", "clip-2.mp4", "b.png"}
    assert len(list(read_video(Path("out/clip-2.mp4")))) == 3


FRAMES = ["clip.mp4#frame=0&t=0.000", "clip.mp4#frame=1&t=0.040", "clip.mp4#frame=2&t=0.080"]


def test_files_of_frames_are_named_after_the_video(sources):
    files = run(sources, ["yolo", "coco", "csv", "json"], pictures=False)
    of_frames = {f"clip-2-00000{i}.txt" for i in range(3)}
    tables = {"classes.txt", "sources.csv", "results.json", "detections.csv", "detections.jsonl"}
    assert files == {"clip.txt", "b.txt", *of_frames, *tables}
    with open("out/sources.csv", newline="") as file:
        named = {row["labels"]: row["image"] for row in csv.DictReader(file)}
    assert named == {
        "clip.txt": "clip.png",
        **{f"clip-2-00000{i}.txt": path for i, path in enumerate(FRAMES)},
        "b.txt": "b.png",
    }
    rows = json.loads(Path("out/results.json").read_text())
    assert [(row["image_id"], row["file_name"]) for row in rows] == [
        (1, "clip.png"),
        *((2 + i, path) for i, path in enumerate(FRAMES)),
        (5, "b.png"),
    ]
    lines = Path("out/detections.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"]["path"] for line in lines] == ["clip.png", *FRAMES, "b.png"]


@pytest.mark.parametrize("name", [name for name, chosen in FORMATS.items() if "detect" in chosen.tasks])
def test_every_format_takes_frames(name, sources):
    assert run(sources, [name], pictures=False)


@pytest.mark.parametrize("names", [["clip-000001.png", "clip.mp4"], ["clip.mp4", "clip-000001.png"]])
@pytest.mark.parametrize("format_", ["yolo", "crops"])
def test_pictures_named_like_frames_of_a_video_keep_apart_from_them(tmp_path, monkeypatch, names, format_):
    """As in a folder with a film and the stills that `ffmpeg -i clip.mp4 clip-%06d.png` made of it."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", 3)
    Image.fromarray(noise()).save("clip-000001.png")
    files = run(find_sources(names), [format_])
    assert len({file for file in files if "000" in file and file.endswith((".txt", "-1.png"))}) == 4
