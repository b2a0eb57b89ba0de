"""Proposals files: where objects of any class may be in the images of a split, said by whatever finds such regions.

    FILE.json   a list of {"image_id", "bbox": [x, y, width, height]}, best first or with a "score" each; other keys are
                passed over, so COCO results are proposals too
    FILE.npz    arrays image_id i64 [N] and bbox [N, 4]; and score [N], or best first

in pixels of the upright image. A file may hold more images than the split it is read for.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.errors import DataError
from visionkit.formats.coco import as_box, is_id, is_number
from visionkit.formats.findings import shown
from visionkit.formats.json_file import read_json, write_json
from visionkit.formats.records import AnnotatedImages

Proposals = Mapping[int, NDArray[np.float64]]
"""By image id: [N, 4] x y width height, best first."""

SUFFIXES = (".json", ".npz")


def split_file(folder: Path, split: str) -> Path:
    """The proposals of a split in a folder that has a file for each.

    Raises:
        DataError: there is none, or two.
    """
    files = [folder / f"{split}{suffix}" for suffix in SUFFIXES]
    there = [file for file in files if file.is_file()]
    if len(there) != 1:
        has = "both" if there else "neither"
        raise DataError(f"{folder} must have {files[0].name} or {files[1].name}, it has {has}; put one there")
    return there[0]


def read_proposals(file: Path, images: AnnotatedImages) -> dict[int, NDArray[np.float64]]:
    """The proposals of a file for the images of a split, best first; an image without any is not among them.

    Raises:
        DataError: missing or broken, or a proposal without a box; or none for any image of the split.
    """
    image_ids, boxes, scores = _read_npz(file) if file.suffix == ".npz" else _read_json(file)
    bad = np.flatnonzero(~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)))
    if len(bad):
        raise DataError(
            f"{file} [{bad[0]}] has bbox {boxes[bad[0]].tolist()}, it must be finite x, y and a width and height above "
            f"0 ({len(bad)} in all are not); correct or remove them"
        )
    known = np.isin(image_ids, np.array([image.id for image in images.images], np.int64))
    if not known.any():
        raise DataError(
            f"{file} has no proposals of images of {images.source}, at least one is needed; give the file of this split"
        )
    image_ids, boxes, scores = image_ids[known], boxes[known], scores[known]
    order = np.lexsort((np.arange(len(boxes)), -scores, image_ids))
    found, starts = np.unique(image_ids[order], return_index=True)
    pieces = np.split(boxes[order], starts[1:])
    return dict(zip(found.tolist(), pieces, strict=True))


def write_proposals(file: Path, proposals: Proposals) -> None:
    """Write proposals as `read_proposals` reads them, .npz or .json as the file's name ends; whole or not at all. JSON
    has them in hundredths of a pixel.

    Raises:
        DataError: the folder is missing or cannot be written to.
    """
    image_ids = np.repeat(np.array(list(proposals), np.int64), [len(boxes) for boxes in proposals.values()])
    boxes = np.concatenate([np.empty((0, 4)), *proposals.values()])
    if file.suffix == ".json":
        rows = zip(image_ids.tolist(), boxes.round(2).tolist(), strict=True)
        write_json(file, "[" + ",\n".join(json.dumps({"image_id": i, "bbox": box}) for i, box in rows) + "]\n")
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, image_id=image_ids, bbox=boxes.astype(np.float32))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{file} cannot be written ({error.strerror}); check folder and permissions") from error


Columns = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Image ids [N], boxes [N, 4] and scores [N], all 0 where there are none."""


def _read_json(file: Path) -> Columns:
    rows = read_json(file)
    if not isinstance(rows, list):
        raise DataError(
            f"{file} is not a list, proposals are a list of objects with image_id and bbox; name another file"
        )
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not is_id(row.get("image_id")) or as_box(row.get("bbox")) is None:
            raise DataError(
                f"{file} [{index}] is {shown(row)}, a proposal must have an image_id and a bbox of four finite "
                "numbers; correct or remove it"
            )
        if not is_number(row.get("score", 0)):
            raise DataError(f"{file} [{index}] has score {shown(row['score'])}, it must be a finite number; correct it")
    scored = [row["score"] for row in rows if "score" in row]
    return _columns(file, [row["image_id"] for row in rows], [row["bbox"] for row in rows], scored)


def _read_npz(file: Path) -> Columns:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in ("image_id", "bbox", "score") if name in arrays}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is damaged, or not of NumPy's arrays"
        raise DataError(f"{file} cannot be read ({reason}), proposals are an .npz of arrays; make it anew") from None
    ids, boxes = content.get("image_id"), content.get("bbox")
    if ids is None or boxes is None or ids.ndim != 1 or ids.dtype.kind not in "iu" or boxes.shape != (len(ids), 4):
        raise DataError(f"{file} must have image_id, whole numbers [N], and bbox [N, 4]; make it anew")
    return _columns(file, ids, boxes, content.get("score", ()))


def _columns(file: Path, image_ids: Any, boxes: Any, scores: Any) -> Columns:
    ids = np.asarray(image_ids, np.int64)
    if len(scores) not in (0, len(ids)):
        raise DataError(f"{file} has {len(scores)} scores of {len(ids)} proposals, all need one or none; complete them")
    score = np.asarray(scores, np.float64).reshape(-1) if len(scores) else np.zeros(len(ids))
    return ids, np.asarray(boxes, np.float64).reshape(-1, 4), np.nan_to_num(score)
