"""A small COCO dataset that has one of everything: boxes, polygons, several parts, RLEs of either kind, crowds, gaps in
ids, names in folders, odd fractions, and keys that only COCO has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

WIDTH, HEIGHT = 64, 48

CATEGORIES = [
    {"id": 3, "name": "cat", "supercategory": "animal"},
    {"id": 90, "name": 'a "b" & <c>', "supercategory": "odd"},
    {"id": 7, "name": "never seen"},
]
TRIANGLE = [10.5, 10, 30.25, 12, 20, 31]
SQUARE = [40, 5, 50, 5, 50, 15, 40, 15]


def rle(ring: bool) -> dict[str, Any]:
    """A square of 20 px at (8, 8), with a hole where `ring`."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[8:28, 8:28] = 1
    mask[14:20, 14:20] = not ring
    packed = coco_mask.encode(mask)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def row(number: int, image_id: int, category_id: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
        **more,
    }


def content(split: str) -> dict[str, Any]:
    """Ids of images and objects are above those of the splits before."""
    base = {"train": 0, "val": 1000}[split]
    files = [f"{split}/one/p1_a.png", f"{split}/two/p1_a.png", f"{split}/p2.PNG", f"{split}/p3.png"]
    images = [
        {
            "id": base + i,
            "file_name": name,
            "width": WIDTH,
            "height": HEIGHT,
            "license": i % 2,
            "extra": {"patient": f"p{min(i, 33)}"},
        }
        for i, name in zip((40, 33, 2, 5), files, strict=True)
    ]
    annotations = [
        row(base + 12, base + 40, 3, [3, 4, 10, 12], attributes={"occluded": True}),
        row(base + 11, base + 40, 3, [3, 4, 10, 12], area=77.5),  # the same box once more
        row(base + 14, base + 40, 90, [1 / 3, 0.1, 10.7, 12.123456]),
        row(base + 2, base + 33, 3, [10.5, 10, 19.75, 21], area=200.0, segmentation=[TRIANGLE]),
        row(base + 3, base + 33, 90, [9, 4, 42, 28], area=300.0, segmentation=[TRIANGLE, SQUARE]),
        row(base + 5, base + 33, 90, [8, 8, 20, 20], area=400.0, segmentation=rle(ring=False)),
        row(base + 6, base + 2, 90, [8, 8, 20, 20], area=364.0, segmentation=rle(ring=True)),
        row(base + 7, base + 2, 3, [8, 8, 20, 20], area=364.0, segmentation=rle(ring=True), iscrowd=1),
        row(base + 8, base + 2, 3, [-2.5, 30, 10, 10]),  # over the edge
    ]
    return {
        "info": {"year": 2026},
        "licenses": [{"id": 0}, {"id": 1}],
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
    }


def write_mixed(root: Path) -> Path:
    for number, split in enumerate(("train", "val")):
        said = content(split)
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(said))
        for image in said["images"]:
            file = root / "images" / image["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(image["id"] + number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            file.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return root
