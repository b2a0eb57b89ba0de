"""Memory over a long video: read, detected, drawn, written frame by frame, and nothing kept."""

import subprocess
import sys
from pathlib import Path

import pytest
from videos import write_video

from visionkit.predict.video_source import read_video

PROGRAM = """
import gc, sys
from pathlib import Path
import numpy as np
from visionkit.classes import ClassTable
from visionkit.predict.backend import RawDetections
from visionkit.predict.detect import detect_loaded, read_images
from visionkit.predict.output_folder import output_folder
from visionkit.predict.output_formats import chosen_formats
from visionkit.predict.sources import find_sources

class Three:
    name, sha256, classes, image_size = "three", "", ClassTable((1,), ("cat",)), 64
    boxes = np.tile(np.array([8, 16, 40, 40], np.float32), (3, 1))
    def run(self, images, **thresholds):
        return [RawDetections(self.boxes, np.ones(3, np.float32), np.zeros(3, np.int64))] * len(images)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

images = read_images(find_sources([sys.argv[1]]), on_skip=lambda name, error: sys.exit(str(error)))
with output_folder(Path(sys.argv[2]), chosen_formats(["json", "coco", "csv"]), pictures=True) as write:
    for image, result in detect_loaded(Three(), images):
        write(image, result)
        if image.number == 200:
            gc.collect()
            before = resident()
print(image.number, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells a process its memory like that")
def test_memory_stays_flat_over_2000_frames(tmp_path: Path) -> None:
    """The 1,800 frames after the first 200 may add 8 MB. Their pixels, 320 x 48 x 3 bytes each, are 83 MB, and the
    drawn ones as many."""
    path = write_video(tmp_path / "clip.mp4", 2_000, width=320)
    command = [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frames, growth = map(int, done.stdout.split())
    assert frames == 2_000
    assert growth < 8_000_000
    assert sum(1 for _ in read_video(tmp_path / "out" / "clip.mp4")) == 2_000
    assert len((tmp_path / "out" / "detections.jsonl").read_text().splitlines()) == 2_000
