"""Label errors put into sound annotations on purpose: which of them a list of suspicions names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from visionkit.diagnosis.findings import Finding
from visionkit.diagnosis.geometry import Box, overlap
from visionkit.errors import UsageError

Coco = dict[str, Any]
Kind = Literal["other class", "missing", "shifted"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SHIFTS = (0.4, 0.8)
"""How far a shifted box goes to each side, in widths and heights: the IoU left is 0.22 at most."""
SAME_PLACE = 0.5


@dataclass(frozen=True)
class Planted:
    """One error; `box` x y w h is where the object really is."""

    kind: Kind
    image_id: int
    annotation_id: int
    box: Box


def plant(coco: Coco, count: int, seed: int = 0) -> tuple[Coco, list[Planted]]:
    """A copy with `count` errors, the kinds in turn, in objects drawn by seed: of another class, without a label, or
    with a box beside the object.

    Args:
        coco: a parsed COCO file of two or more categories.

    Raises:
        UsageError: it has one category, or fewer objects than errors.
    """
    if len(coco["categories"]) < 2:
        raise UsageError("the data has one category, a label of another class needs two or more; name other data")
    damaged = copy.deepcopy(coco)
    random = np.random.default_rng(seed)
    sizes = {image["id"]: (image["width"], image["height"]) for image in damaged["images"]}
    rows = [row for row in damaged["annotations"] if not row.get("iscrowd")]
    if len(rows) < count:
        raise UsageError(f"the split has {len(rows)} objects, {count} errors need one each; lower --count")
    category_ids = [category["id"] for category in damaged["categories"]]
    planted, gone = [], set()
    for place, index in enumerate(random.permutation(len(rows))[:count].tolist()):
        row, kind = rows[index], KINDS[place % len(KINDS)]
        x, y, width, height = row["bbox"]
        planted.append(Planted(kind, row["image_id"], row["id"], (x, y, width, height)))
        if kind == "other class":
            others = [category_id for category_id in category_ids if category_id != row["category_id"]]
            row["category_id"] = others[int(random.integers(len(others)))]
        elif kind == "missing":
            gone.add(row["id"])
        else:
            limits = sizes[row["image_id"]]
            row["bbox"] = [_shifted(x, width, limits[0], random), _shifted(y, height, limits[1], random), width, height]
    damaged["annotations"] = [row for row in damaged["annotations"] if row["id"] not in gone]
    return damaged, planted


def _shifted(start: float, length: float, limit: float, random: np.random.Generator) -> float:
    """Where a side begins after its shift, to either end, inside the image where there is room."""
    by = float(random.uniform(*SHIFTS)) * length
    ways = [start + by, start - by] if random.random() < 0.5 else [start - by, start + by]
    return next((way for way in ways if way >= 0 and way + length <= limit), max(0.0, min(ways[0], limit - length)))


def ranks(planted: Sequence[Planted], findings: Sequence[Finding]) -> list[int | None]:
    """The place, from 1, at which each error is first named; None where it never is.

    A finding names an error where it is about that label, or tells of an object without one where the error's is.
    """

    def names(finding: Finding, error: Planted) -> bool:
        if finding.annotation_id is not None:
            return finding.annotation_id == error.annotation_id
        here = finding.image_id == error.image_id and finding.box is not None
        return here and finding.box is not None and overlap(finding.box, error.box) >= SAME_PLACE

    return [
        next((place for place, finding in enumerate(findings, 1) if names(finding, error)), None) for error in planted
    ]
