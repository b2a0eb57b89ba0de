"""A made-up COCO evaluation, of whatever size: annotated objects and what a detector might have said of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

WIDTH, HEIGHT = 640, 480
SIDES = (8, 300)
"""Of objects in pixels, as many in each octave."""
CROWDS = 0.01
"""Share of objects that are crowd regions."""


@dataclass(frozen=True)
class CaseSize:
    """How much there is of what. COCO's val2017 has 5,000 images, 80 classes and 37,000 objects."""

    images: int = 5000
    classes: int = 80
    objects: int = 37_000
    detections: int = 400_000


def write_case(folder: Path, size: CaseSize, seed: int = 0, *, masks: bool = False) -> tuple[Path, Path]:
    """Write a ground truth file and a results file on it.

    An image shows few classes, as photos do. A fifth of the detections lie near an object, most of them of its class;
    the others are anywhere, of a class that the image shows or of any, with lower scores.

    Args:
        folder: is there.
        seed: equal seeds write equal files.
        masks: ellipses in the boxes, polygons in the truth and RLEs in the results.

    Returns:
        The files.
    """
    random = np.random.default_rng(seed)
    shown = random.integers(1, size.classes + 1, (size.images, 4))  # classes that each image shows
    image = random.integers(0, size.images, size.objects)
    label = shown[image, random.integers(0, 4, size.objects)]
    boxes = _boxes(random, size.objects)
    truth = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT}
            for number in range(1, size.images + 1)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, size.classes + 1)],
        "annotations": [
            {
                "id": number,
                "image_id": place + 1,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
                **({"segmentation": [_ellipse(box)]} if masks else {}),
            }
            for number, (place, category, box, crowd) in enumerate(
                zip(
                    image.tolist(),
                    label.tolist(),
                    boxes.tolist(),
                    (random.random(size.objects) < CROWDS).tolist(),
                    strict=True,
                ),
                start=1,
            )
        ],
    }
    near = size.detections // 5
    of_object = random.integers(0, size.objects, near)
    moved = boxes[of_object] + random.normal(0, 0.1, (near, 4)) * np.tile(boxes[of_object, 2:], 2)
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    same = random.random(near) < 0.9
    somewhere = random.integers(0, size.images, size.detections - near)
    any_class = random.integers(1, size.classes + 1, size.detections - near)
    expected = shown[somewhere, random.integers(0, 4, len(somewhere))]
    found_image = np.concatenate([image[of_object], somewhere])
    found_label = np.concatenate(
        [
            np.where(same, label[of_object], random.integers(1, size.classes + 1, near)),
            np.where(random.random(len(somewhere)) < 0.5, expected, any_class),
        ]
    )
    found_boxes = np.concatenate([moved, _boxes(random, len(somewhere))]).round(2)
    score = np.concatenate([random.random(near) ** 0.5, random.random(len(somewhere)) ** 4]).round(5)
    order = np.argsort(found_image, kind="stable")  # as a detector that goes through the images writes them
    rows: list[dict[str, Any]] = [
        {"image_id": place + 1, "category_id": category, "bbox": box, "score": value}
        for place, category, box, value in zip(
            found_image[order].tolist(),
            found_label[order].tolist(),
            found_boxes[order].tolist(),
            score[order].tolist(),
            strict=True,
        )
    ]
    if masks:
        for row in rows:
            (mask,) = coco_mask.frPyObjects([_ellipse(row["bbox"])], HEIGHT, WIDTH)
            row["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": mask["counts"].decode()}
    files = folder / "truth.json", folder / "found.json"
    for file, content in zip(files, (truth, rows), strict=True):
        file.write_text(json.dumps(content))
    return files


def _boxes(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """f64 [N, 4] x y w h inside the image, to hundredths of a pixel."""
    sides = np.exp(random.uniform(*np.log(SIDES), (count, 2)))
    corners = random.random((count, 2)) * ((WIDTH, HEIGHT) - sides)
    return np.hstack([corners, sides]).round(2)


def _ellipse(box: list[float], corners: int = 16) -> list[float]:
    """A polygon in a box x y w h."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    x, y, width, height = box
    points = np.stack([x + width / 2 * (1 + np.cos(angle)), y + height / 2 * (1 + np.sin(angle))], axis=1)
    outline: list[float] = points.round(2).ravel().tolist()
    return outline
