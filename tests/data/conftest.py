"""A split of ten small pictures that the tests of this folder share."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from visionkit.classes import ClassTable
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord


def write_picture(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """Smooth noise, so that no two places look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture(scope="session")
def tiny_split(tmp_path_factory: pytest.TempPathFactory) -> AnnotatedImages:
    """Ten pictures of 60x40 to 78x40 px, image ids 100..109, category ids 3 and 17.

    Each has two objects, `10 5 20 30` of category 17 and a crowd `40 10 8 16` of category 3; picture 4 has none.
    """
    folder = tmp_path_factory.mktemp("tiny")
    images = []
    for i in range(10):
        width, height = 60 + 2 * i, 40
        path = write_picture(folder / f"{i}.png", width, height, seed=i)
        objects = (
            Annotation(2 * i, 17, (10, 5, 20, 30), 600.0),
            Annotation(2 * i + 1, 3, (40, 10, 8, 16), 128.0, iscrowd=True),
        )
        images.append(ImageRecord(100 + i, path.name, path, width, height, () if i == 4 else objects))
    return AnnotatedImages(ClassTable((3, 17), ("car", "cat")), tuple(images), folder / "train.json")
