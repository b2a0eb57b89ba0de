"""One small dataset written in every layout that is read: three images for train, one for val, two classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

SIZES = {"a": (100, 80), "b": (64, 48), "c": (50, 90), "v": (40, 40)}
SPLITS = {"train": ("a", "b", "c"), "val": ("v",)}
CLASSES = ("cat", "dog")
# Whole pixels, which VOC asks for; x, y, width, height. `b` has no object.
OBJECTS = {
    "a": (("cat", (10, 20, 30, 40)), ("dog", (0, 0, 100, 80))),
    "b": (),
    "c": (("dog", (5, 7, 1, 3)),),
    "v": (("cat", (8, 8, 16, 16)),),
}


def write_image(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZES[name]).save(folder / f"{name}.jpg")


def write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def coco_content(split: str) -> dict[str, Any]:
    names = SPLITS[split]
    images = [
        {"id": i, "file_name": f"{n}.jpg", "width": SIZES[n][0], "height": SIZES[n][1]} for i, n in enumerate(names, 1)
    ]
    annotations = [
        {"image_id": i, "category_id": 1 + CLASSES.index(c), "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
        for i, name in enumerate(names, 1)
        for c, box in OBJECTS[name]
    ]
    return {
        "images": images,
        "annotations": [{"id": i, **row} for i, row in enumerate(annotations, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }


def _write_coco(root: Path, annotations: str, images: str, splits: Mapping[str, str] | None = None) -> Path:
    for split, names in SPLITS.items():
        called = (splits or {}).get(split, split)
        write_text(root / annotations.format(called), json.dumps(coco_content(split)))
        for name in names:
            write_image(root / images.format(called), name)
    return root


def write_plain_coco(root: Path) -> Path:
    return _write_coco(root, "annotations/{}.json", "images")


def write_coco_2017(root: Path) -> Path:
    return _write_coco(root, "annotations/instances_{}2017.json", "{}2017")


def write_roboflow(root: Path) -> Path:
    return _write_coco(root, "{}/_annotations.coco.json", "{}", {"val": "valid"})


def write_explicit_paths(root: Path) -> Path:
    _write_coco(root, "labels of {}.json", "photos/{}")
    lines = [f"{split}: {{images: photos/{split}, annotations: labels of {split}.json}}" for split in SPLITS]
    write_text(root / "mine.yaml", "\n".join(lines))
    return root / "mine.yaml"


def voc_xml(name: str, objects: tuple[tuple[str, tuple[int, ...]], ...] | None = None, extra: str = "") -> str:
    """An annotation file; `extra` goes into every object."""
    width, height = SIZES[name]
    rows = [
        f"<object><name>{c}</name>{extra}<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>"  # the pixels x .. x + w - 1, counted from 1
        for c, (x, y, w, h) in (OBJECTS[name] if objects is None else objects)
    ]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}{''.join(rows)}</annotation>"


def write_voc(root: Path) -> Path:
    for split, names in SPLITS.items():
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
        for name in names:
            write_image(root / "JPEGImages", name)
            write_text(root / "Annotations" / f"{name}.xml", voc_xml(name))
    return root


def yolo_rows(name: str) -> str:
    width, height = SIZES[name]
    return "".join(
        f"{CLASSES.index(c)} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}\n"
        for c, (x, y, w, h) in OBJECTS[name]
    )


def write_yolo(root: Path) -> Path:
    write_text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for split, names in SPLITS.items():
        for name in names:
            write_image(root / "images" / split, name)
            if OBJECTS[name]:
                write_text(root / "labels" / split / f"{name}.txt", yolo_rows(name))
    return root


# What each is written by, and how it is described.
LAYOUTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "plain COCO": (write_plain_coco, "COCO layout: train.json, val.json over images/"),
    "COCO 2017": (
        write_coco_2017,
        "COCO 2017 layout: instances_train2017.json, instances_val2017.json over train2017/, val2017/",
    ),
    "Roboflow": (write_roboflow, "Roboflow COCO layout: _annotations.coco.json over train/, valid/"),
    "explicit paths": (
        write_explicit_paths,
        "paths of mine.yaml: train from labels of train.json, val from labels of val.json",
    ),
    "Pascal VOC": (write_voc, "Pascal VOC layout: train, val"),
    "YOLO": (write_yolo, "YOLO layout: train, val of data.yaml"),
}
