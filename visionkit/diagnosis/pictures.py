"""The same picture twice: equal files, and pictures that look alike.

Alike is what is left of a picture at 16 x 16 grey pixels: re-encoded, resized and slightly cropped copies, and
neighbouring frames of a video. They are found by a hash of differences, 64 bits of which hardly any turn over (the
dHash of N. Krawetz, "Kind of Like That", 2013), and then compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.diagnosis.findings import Finding
from visionkit.imaging.reader import read_image

SIDE = 16
MOST_BITS = 3
"""Two hashes with more bits apart are of different pictures."""
MOST_LEVELS = 6.0
"""Root mean square, in levels of 0..255, by which thumbnails of the same picture may differ, brightness apart."""
_BANDS = MOST_BITS + 1
"""Hashes cut into so many pieces share a piece, if no more than MOST_BITS turn over."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is kept of a picture.

    Args:
        sha256: of the file.
        bits: u64, the difference hash.
        thumbnail: f32 [SIDE, SIDE], grey.
    """

    sha256: bytes
    bits: int
    thumbnail: NDArray[np.float32]


@dataclass(slots=True)
class Pictures:
    """The pictures that were looked at, by path."""

    looks: dict[Path, Look] = field(default_factory=dict)

    def look(self, path: Path) -> None:
        """Decode a picture and keep what tells it from others.

        Raises:
            DataError: it cannot be read.
        """
        if path not in self.looks:
            self.looks[path] = look_of(read_image(path), path.read_bytes())


def look_of(image: NDArray[np.uint8], data: bytes) -> Look:
    """What is kept of a picture u8 [H, W, 3] and the bytes of its file."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    thumbnail = np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)
    # 9 x 8: each of the 64 bits says whether a cell is brighter than its right neighbour.
    cells = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), np.int16)
    brighter = (cells[:, :-1] > cells[:, 1:]).ravel()
    return Look(hashlib.sha256(data).digest(), int.from_bytes(np.packbits(brighter).tobytes(), "big"), thumbnail)


def find_twins(splits: Mapping[str, Sequence[Path]], pictures: Pictures) -> list[Finding]:
    """Equal and nearly equal pictures within and across splits.

    Args:
        splits: split name -> the files of its images; those that were not looked at are left out.
    """
    places = [(split, path) for split, paths in splits.items() for path in dict.fromkeys(paths)
              if path in pictures.looks]  # fmt: skip
    findings = []
    equal: dict[bytes, list[tuple[str, Path]]] = {}
    for split, path in places:
        equal.setdefault(pictures.looks[path].sha256, []).append((split, path))
    for group in equal.values():
        for split, path in group[1:]:
            first_split, first = group[0]
            code = "VK409" if split == first_split else "VK410"
            findings.append(Finding(code, path, "", f"of {split} is the same file as {first} of {first_split}"))
    # One of equal files stands for all.
    unlike = [group[0] for group in equal.values()]
    for one, other in _alike(unlike, pictures):
        code = "VK411" if one[0] == other[0] else "VK412"
        findings.append(Finding(code, other[1], "", f"of {other[0]} looks like {one[1]} of {one[0]}"))
    return findings


Place = tuple[str, Path]


def _alike(places: Sequence[Place], pictures: Pictures) -> Iterator[tuple[Place, Place]]:
    """Pairs of pictures that look alike, each later one once, in order."""
    bits = [pictures.looks[path].bits for _, path in places]
    width = 64 // _BANDS
    buckets: dict[tuple[int, int], list[int]] = {}
    for index, value in enumerate(bits):
        for band in range(_BANDS):
            buckets.setdefault((band, value >> (band * width) & ((1 << width) - 1)), []).append(index)
    pairs = {
        pair
        for bucket in buckets.values()
        for pair in combinations(bucket, 2)
        if (bits[pair[0]] ^ bits[pair[1]]).bit_count() <= MOST_BITS
    }
    told: set[int] = set()
    for first, second in sorted(pairs):
        if second in told or not _same_thumbnail(places[first][1], places[second][1], pictures):
            continue
        told.add(second)
        yield places[first], places[second]


def _same_thumbnail(one: Path, other: Path, pictures: Pictures) -> bool:
    difference = pictures.looks[one].thumbnail - pictures.looks[other].thumbnail
    return float((difference - difference.mean()).std()) <= MOST_LEVELS
