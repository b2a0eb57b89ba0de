"""The whole room works where torch cannot be imported: what a machine that only detects needs."""

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["torch"] = None  # any import of it now raises
import io
from pathlib import Path
import numpy as np
from visionkit.classes import ClassTable
from visionkit.predict.backend import RawDetections
from visionkit.predict.detect import detect_loaded, read_images
from visionkit.predict.drawing import draw, draw_comparison
from visionkit.predict.sources import find_images
from visionkit.predict.coco_writer import coco_writer
from visionkit.predict.json_writer import write_json_line
from visionkit.predict.writers import OutputNames, save_picture

class Constant:
    name, sha256, classes, image_size = "constant", "", ClassTable((1,), ("cat",)), 64
    def run(self, images, **thresholds):
        found = RawDetections(np.array([[8, 8, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
        return [found] * len(images)

folder = Path(sys.argv[1])
save_picture(folder / "in" / "a.png", np.full((50, 80, 3), 128, np.uint8))
(folder / "in" / "b.png").write_bytes(b"broken")
skipped, lines, names = [], io.StringIO(), OutputNames(folder / "out")
images = read_images(find_images([str(folder / "in")]), on_skip=lambda path, error: skipped.append(path.name))
with coco_writer(folder / "out") as add:
    for image, result in detect_loaded(Constant(), images):
        add(result, number=image.number, name="a")
        write_json_line(lines, result)
        save_picture(names.take(result.path), draw(image.pixels, result))
        draw_comparison(image.pixels, result.boxes, ["cat"], result)
print(len(lines.getvalue().splitlines()), skipped, sorted(path.name for path in (folder / "out").iterdir()))
"""


def test_the_room_needs_no_torch(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "1 ['b.png'] ['a.png', 'results.json']\n"
