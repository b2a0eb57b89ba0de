"""Small datasets of index masks, for tests: coloured blocks on grey, a class for each colour and one for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

NAMES = ("ground", "red block", "blue block")
COLOURS = ((40, 40, 220), (220, 60, 40))  # BGR of labels 1 and 2


def write_masks(root: Path, images: Mapping[str, int], names: tuple[str, ...] = NAMES) -> Path:
    """Pictures of 64x48 px, each with two blocks; the lowest two rows are not judged."""
    for seed, (split, count) in enumerate(images.items()):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        random = np.random.default_rng(seed)
        for i in range(count):
            pixels = random.integers(90, 150, (48, 64, 3), dtype=np.uint8)
            labels = np.zeros((48, 64), np.uint8)
            for label, side in ((1, 0), (2, 32)):
                w, h = (int(random.integers(16, 28)) for _ in range(2))
                x, y = side + int(random.integers(0, 32 - w)), int(random.integers(0, 46 - h))
                pixels[y : y + h, x : x + w] = COLOURS[label - 1]
                labels[y : y + h, x : x + w] = label
            labels[46:] = 255
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), pixels)
            cv2.imwrite(str(root / "masks" / split / f"{i}.png"), labels)
    (root / "classes.json").write_text(json.dumps({"names": list(names), "ignore_index": 255}))
    return root
