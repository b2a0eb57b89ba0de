"""One scene of boxes written as YOLO, VOC and masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pictures import encoded
from PIL import Image

WIDTH, HEIGHT = 160, 120
NAMES = ("cat", "dog")
PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0))
PLACES = 4

Box = tuple[int, int, int, int]


class Object(NamedTuple):
    label: int
    box: Box


@dataclass(frozen=True)
class Picture:
    name: str
    objects: tuple[Object, ...]

    def pixels(self) -> NDArray[np.uint8]:
        """Patches of colours, no two pictures alike, with the objects on them."""
        seed = int.from_bytes(self.name.encode(), "big") % 2**32
        patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        pixels = cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        for label, (x, y, w, h) in self.objects:
            pixels[y : y + h, x : x + w] = (255, 0, 0) if label else (0, 0, 255)
        return pixels

    def labels(self) -> NDArray[np.uint8]:
        """0 is ground, label + 1 an object; the border of an object is not judged, as in VOC."""
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for label, (x, y, w, h) in self.objects:
            labels[y : y + h, x : x + w] = 255
            labels[y + 1 : y + h - 1, x + 1 : x + w - 1] = label + 1
        return labels


def scene(count: int, prefix: str) -> list[Picture]:
    """Pictures of four objects of whole pixels, away from the edges and from each other."""
    random = np.random.default_rng(count)
    pictures = []
    for number in range(count):
        objects = []
        for place in range(PLACES):
            w, h = (int(side) for side in random.integers(18, 30, 2))
            x, y = 8 + 37 * place + int(random.integers(0, 6)), 10 + int(random.integers(0, 70))
            objects.append(Object((number + place) % 2, (x, y, w, h)))
        pictures.append(Picture(f"{prefix}{number:03}", tuple(objects)))
    return pictures


@cache
def _blank() -> bytes:
    """A picture of the size of all, where nobody looks at the pixels."""
    return encoded(Image.new("RGB", (WIDTH, HEIGHT)), "PNG")


def write_picture(picture: Picture, file: Path, *, real: bool) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(picture.pixels(), "PNG") if real else _blank())


def write_text(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


Splits = dict[str, list[Picture]]


def splits(train: int, val: int) -> Splits:
    return {"train": scene(train, "t"), "val": scene(val, "v")}


# --- YOLO ------------------------------------------------------------------------------------------------------------


def yolo_line(thing: Object) -> str:
    x, y, w, h = thing.box
    shares = ((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT)
    return " ".join((str(thing.label), *(f"{share:.6f}" for share in shares)))


def write_yolo(root: Path, data: Splits, *, real: bool = False) -> Path:
    write_text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for split, pictures in data.items():
        for picture in pictures:
            write_picture(picture, root / f"images/{split}/{picture.name}.png", real=real)
            lines = "".join(f"{yolo_line(thing)}\n" for thing in picture.objects)
            write_text(root / f"labels/{split}/{picture.name}.txt", lines)
    return root


# --- VOC -------------------------------------------------------------------------------------------------------------


def voc_object(thing: Object) -> str:
    x, y, w, h = thing.box
    sides = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
    box = "".join(f"\n      <{tag}>{side}</{tag}>" for tag, side in sides)
    return (
        f"\n  <object>\n    <name>{NAMES[thing.label]}</name>\n    <difficult>0</difficult>"
        f"\n    <bndbox>{box}\n    </bndbox>\n  </object>"
    )


def voc_xml(picture: Picture) -> str:
    size = f"\n  <size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    things = "".join(map(voc_object, picture.objects))
    return f"<?xml version='1.0'?>\n<!-- by hand -->\n<annotation>{size}{things}\n</annotation>\n"


def write_voc(root: Path, data: Splits, *, real: bool = False) -> Path:
    for split, pictures in data.items():
        write_text(root / f"ImageSets/Main/{split}.txt", "".join(f"{picture.name}\n" for picture in pictures))
        for picture in pictures:
            write_picture(picture, root / f"JPEGImages/{picture.name}.png", real=real)
            write_text(root / f"Annotations/{picture.name}.xml", voc_xml(picture))
    return root


# --- masks -----------------------------------------------------------------------------------------------------------

MASK_NAMES = ("ground", *NAMES)


def write_masks(root: Path, data: Splits, *, real: bool = False) -> Path:
    write_text(root / "classes.json", json.dumps({"names": MASK_NAMES, "palette": PALETTE}))
    for split, pictures in data.items():
        for picture in pictures:
            write_picture(picture, root / f"images/{split}/{picture.name}.png", real=real)
            mask = root / f"masks/{split}/{picture.name}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.labels()).save(mask)
    return root


def write_voc_masks(root: Path, data: Splits, *, real: bool = False) -> Path:
    """As VOC has them: indices with a palette. The names are those of a `classes.json`."""
    write_text(root / "classes.json", json.dumps({"names": MASK_NAMES}))
    for split, pictures in data.items():
        write_text(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{p.name}\n" for p in pictures))
        for picture in pictures:
            write_picture(picture, root / f"JPEGImages/{picture.name}.png", real=real)
            mask = Image.frombytes("P", (WIDTH, HEIGHT), picture.labels().tobytes())
            mask.putpalette([channel for colour in (*PALETTE, *[PALETTE[0]] * 253) for channel in colour])
            (root / "SegmentationClass").mkdir(exist_ok=True)
            mask.save(root / f"SegmentationClass/{picture.name}.png")
    return root
