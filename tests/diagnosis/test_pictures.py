"""The same picture twice: equal files, copies that look alike, and pictures that only resemble each other."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from reference_data import reference_data

from visionkit.diagnosis.pictures import Pictures, find_twins
from visionkit.errors import DataError


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """A picture of soft blobs, 240 x 320, as a camera moved by some pixels would see it."""
    random = np.random.default_rng(seed)
    image = np.full((240, 420, 3), random.integers(60, 190), np.uint8)
    for _ in range(25):
        centre = (int(random.integers(0, 420)), int(random.integers(0, 240)))
        cv2.circle(image, centre, int(random.integers(10, 60)), random.integers(0, 255, 3).tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), 3)[:, 50 + shift : 370 + shift]


def codes(folder: Path, splits: dict[str, list[str]]) -> list[tuple[str, str]]:
    pictures = Pictures()
    paths = {split: [folder / name for name in names] for split, names in splits.items()}
    for own in paths.values():
        for path in own:
            pictures.look(path)
    return [(finding.code, finding.file.name) for finding in find_twins(paths, pictures)]


def test_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    for seed in range(40):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), scene(seed))
    (tmp_path / "equal.png").write_bytes((tmp_path / "3.png").read_bytes())
    cv2.imwrite(str(tmp_path / "encoded.jpg"), scene(4), [cv2.IMWRITE_JPEG_QUALITY, 60])
    cv2.imwrite(str(tmp_path / "smaller.png"), cv2.resize(scene(5), (200, 150), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(tmp_path / "next_frame.png"), scene(6, shift=1))
    train = [f"{seed}.png" for seed in range(40)]
    assert codes(tmp_path, {"train": train}) == []
    assert codes(tmp_path, {"train": [*train, "equal.png"]}) == [("VK409", "equal.png")]
    val = ["equal.png", "encoded.jpg", "smaller.png", "next_frame.png"]
    assert sorted(codes(tmp_path, {"train": train, "val": val})) == [
        ("VK410", "equal.png"),
        ("VK412", "encoded.jpg"),
        ("VK412", "next_frame.png"),
        ("VK412", "smaller.png"),
    ]


def test_flat_pictures_are_alike(tmp_path: Path) -> None:
    # No cell is brighter than its neighbour: all hashes are 0, and without their brightness all are the same grey.
    # Flat pictures are alike, then: a scanner's blank pages are.
    for level in (20, 120, 220):
        cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((60, 80, 3), level, np.uint8))
    assert [code for code, _ in codes(tmp_path, {"train": ["20.png", "120.png", "220.png"]})] == ["VK411", "VK411"]


def test_three_copies_are_told_once_each(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), scene(1))
    assert codes(tmp_path, {"train": ["a.png", "b.png", "c.png"]}) == [("VK409", "b.png"), ("VK409", "c.png")]


def test_real_photos_are_all_different() -> None:
    photos = sorted((reference_data("photos")).rglob("*.jpg"))
    pictures = Pictures()
    for path in photos:
        pictures.look(path)
    assert len(photos) >= 10
    assert find_twins({"train": photos}, pictures) == []


def test_a_picture_that_cannot_be_read_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    pictures = Pictures()
    with pytest.raises(DataError):
        pictures.look(tmp_path / "text.jpg")
    assert pictures.looks == {}
