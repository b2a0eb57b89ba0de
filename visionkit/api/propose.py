"""Selective search on a dataset: files of proposals that fast-rcnn is fed by and rcnn can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visionkit.api.datasets import find_dataset, say_split
from visionkit.engine.events import ImagesDone, Listener
from visionkit.errors import DataError, UsageError
from visionkit.formats.layout import read_split
from visionkit.formats.proposals import SUFFIXES, write_proposals
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.imaging.reader import read_image
from visionkit.proposals.recall import best_overlaps
from visionkit.proposals.segments import scikit_image
from visionkit.proposals.selective_search import MODES, MOST_PROPOSALS, ModeName, selective_search

FileFormat = Literal["npz", "json"]


@dataclass(frozen=True, slots=True)
class SplitProposals:
    """The proposals of a split, and how good they are.

    Args:
        file: that holds them.
        images, proposals: how many there are.
        recall50, recall70: share of the objects that a proposal overlaps by an IoU of at least 0.5, or 0.7; None where
            there is no object. Crowd regions are none.
        mean_best_overlap: mean over the objects of the highest IoU with a proposal; likewise.
        seconds: the search took, without reading images.
    """

    file: Path
    images: int
    proposals: int
    recall50: float | None
    recall70: float | None
    mean_best_overlap: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Proposed:
    """Written proposals, by the names of their splits.

    Args:
        left_out: items of the data that `skip_bad` left out.
    """

    folder: Path
    mode: ModeName
    splits: dict[str, SplitProposals]
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "mode": self.mode,
            "splits": {name: {**asdict(split), "file": str(split.file)} for name, split in self.splits.items()},
            "left_out": self.left_out,
        }


def propose(
    data: str | Path,
    out: str | Path,
    *,
    mode: ModeName = "fast",
    most: int = MOST_PROPOSALS,
    splits: Sequence[str] = (),
    format: FileFormat = "npz",
    skip_bad: bool = False,
    on_skip: Callable[[str], None] = lambda line: None,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> Proposed:
    """Search the images of a dataset for places where objects may be, whatever their class, and write these as files.

    The folder of them is what `finetune` takes as `proposals`, a file what `evaluate` takes. The same images give the
    same proposals.

    Args:
        data: as for `finetune`.
        out: folder of the files, `SPLIT.npz` or `SPLIT.json`; made where it is missing.
        mode: single, fast or quality: 1, 8 or 80 ways of grouping, each of which takes time and adds proposals.
        most: proposals of an image.
        splits: which; all that the dataset has where none is named.
        format: of the files.
        skip_bad: leave items in error out of the data instead of refusing it.
        on_skip: told those items, a line each.
        listen: told how many images are through.
        say: told, line by line, what a user should read.

    Raises:
        UsageError: an option is out of range, a file is there already, or scikit-image is not installed; nothing was
            written.
        DataError: the data cannot be read, or no file be written.
    """
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}; choose {', '.join(MODES)}")
    if most < 1:
        raise UsageError(f"most must be at least 1 proposal an image, got {most}; use {MOST_PROPOSALS}")
    if f".{format}" not in SUFFIXES:
        raise UsageError(f"unknown format {format!r} of proposals; choose npz or json")
    scikit_image()
    layout = find_dataset(data, say)
    missing = [name for name in splits if name not in layout.splits]
    if missing:
        raise DataError(f"{layout.root} has no split {missing[0]!r}; it has {', '.join(layout.splits)}")
    files = {name: Path(out) / f"{name}.{format}" for name in layout.splits if name in splits or not splits}
    there = [file for name in files for file in (Path(out) / f"{name}{suffix}" for suffix in SUFFIXES) if file.exists()]
    if there:
        raise UsageError(f"{there[0]} exists and nothing is overwritten; give another folder")
    read = {name: read_split(layout, name, skip_bad=skip_bad) for name in files}
    for name, images in read.items():
        say_split(name, images, say)
    # Once each: where val is held out of train, both name all that was left out before.
    left_out = tuple(dict.fromkeys(line for images in read.values() for line in images.left_out))
    for line in left_out:
        on_skip(line)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be made a folder ({error.strerror}); give another") from error
    done = {name: _propose(name, images, files[name], mode, most, listen) for name, images in read.items()}
    return Proposed(Path(out), mode, done, len(left_out))


def _propose(
    name: str, images: AnnotatedImages, file: Path, mode: ModeName, most: int, listen: Listener
) -> SplitProposals:
    found, overlaps, seconds = {}, [np.empty(0)], 0.0
    for number, record in enumerate(images.images, 1):
        assert record.path is not None, "a split that is read as images has files"
        image = read_image(record.path)
        start = perf_counter()
        boxes = selective_search(image, mode, most=most)
        seconds += perf_counter() - start
        overlaps.append(best_overlaps(boxes, _objects(record)))
        found[record.id] = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1).astype(np.float64)
        listen(ImagesDone(f"proposals, {name}", number, len(images.images)))
    write_proposals(file, found)
    best = np.concatenate(overlaps)
    return SplitProposals(
        file,
        images=len(found),
        proposals=sum(len(boxes) for boxes in found.values()),
        recall50=float((best >= 0.5).mean()) if len(best) else None,
        recall70=float((best >= 0.7).mean()) if len(best) else None,
        mean_best_overlap=float(best.mean()) if len(best) else None,
        seconds=seconds,
    )


def _objects(record: ImageRecord) -> NDArray[np.float64]:
    """Boxes [G, 4] x1 y1 x2 y2 of an image's objects, without its crowd regions."""
    boxes = np.array([o.bbox for o in record.annotations if not o.iscrowd], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
