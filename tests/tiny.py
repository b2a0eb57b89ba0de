"""A dataset and a training run small enough to be made in tests, and yet learnt: AP is well above 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from visionkit.api.training_run import FinetuneResult

CLASSES = {3: "red block", 8: "blue block"}
COLOURS = ((40, 40, 220), (220, 60, 40))  # BGR


def write_blocks(root: Path, images: Mapping[str, int], classes: Mapping[int, str] = CLASSES) -> Path:
    """A COCO dataset of pictures with one or two coloured blocks on grey noise; its class is a block's colour.

    Sides are 64 and 48 or 64 px. The second picture of each split has no object, the last one a crowd region.
    """
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for seed, (split, count) in enumerate(images.items()):
        random = np.random.default_rng(seed)
        rows: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            width, height = 64, int(random.choice([48, 64]))
            pixels = random.integers(90, 150, (height, width, 3), dtype=np.uint8)
            name = f"{split}_{i}.png"
            rows.append({"id": 10 * i + 5, "file_name": name, "width": width, "height": height})
            for side in () if i == 1 else (0, 32):
                label = int(random.integers(len(classes)))
                w, h = (int(random.integers(18, 28)) for _ in range(2))
                x, y = side + int(random.integers(0, 32 - w)), int(random.integers(0, height - h))
                pixels[y : y + h, x : x + w] = COLOURS[label]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": 10 * i + 5,
                        "category_id": list(classes)[label],
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": int(i == count - 1 and side == 32),
                    }
                )
            cv2.imwrite(str(root / "images" / name), pixels)
        categories = [{"id": category_id, "name": name} for category_id, name in classes.items()]
        content = {"images": rows, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


@dataclass(frozen=True)
class TinyRun:
    """A finished run and the lines it said."""

    result: FinetuneResult
    said: tuple[str, ...]


def tiny_settings(epochs: int = 2, **others: Any) -> dict[str, Any]:
    """Options of `finetune`: pictures of 64 px in batches of 4, one thread, no workers."""
    return {
        "weights": "scratch",
        "imgsz": 64,
        "batch": 4,
        "epochs": epochs,
        "lr": 0.01,
        "threads": 1,
        "workers": 0,
        "device": "cpu",
        "augment": "light",
        **others,
    }


def tiny_flags(epochs: int = 2, **others: Any) -> list[str]:
    """The same for the command line."""
    return [f"--{name}={value}" for name, value in tiny_settings(epochs, **others).items()]


def learnt_in_tiles(weights: Path, path: Path, tile: int = 48, overlap: float = 0.25) -> Path:
    """A copy of a model's file that says its model learnt from tiles: two of 48 px lie along a side of 64 px."""
    from visionkit.build import load_model, save_model

    loaded = load_model(weights)
    recipe = loaded.recipe.model_copy(update={"tile": tile, "overlap": overlap})
    save_model(path, loaded.model, loaded.classes, recipe, loaded.scores)
    return path
