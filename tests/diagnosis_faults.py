"""Faults put into a sound COCO file on purpose, a kind each: what the doctor has to find."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionkit.diagnosis.findings import Finding

Coco = dict[str, Any]
Rows = dict[str, Any]

# kind -> what finds it. Each fault is put into one annotation of its own.
KINDS = {
    "no box": "VK201",
    "not a number": "VK202",
    "sides negative": "VK203",
    "no width": "VK204",
    "far outside": "VK205",
    "over the edge": "VK206",
    "in shares of the image": "VK207",
    "corners for width and height": "VK208",
    "beside its mask": "VK209",
    "wrong area": "VK210",
    "unlisted category": "VK105",
    "polygon of two points": "VK301",
    "annotated twice": "VK213",
    "id of another": "VK102",
}
OF_MASKS = {"beside its mask", "polygon of two points"}


@dataclass(frozen=True)
class Fault:
    """What was put into one annotation, which has this id in the damaged file."""

    kind: str
    annotation_id: int

    @property
    def code(self) -> str:
        return KINDS[self.kind]


def damage(coco: Coco, count: int, seed: int = 0, *, masks: bool = True) -> tuple[Coco, list[Fault]]:
    """A copy with `count` faults, the kinds in turn, in annotations drawn by seed: with `masks` in those that have
    polygons, without it the kinds that need none, in any."""
    kinds = [kind for kind in KINDS if masks or kind not in OF_MASKS]
    damaged = copy.deepcopy(coco)
    sizes = {image["id"]: (image["width"], image["height"]) for image in damaged["images"]}
    random = np.random.default_rng(seed)
    rows = [row for row in damaged["annotations"] if _is_fit(row, *sizes[row["image_id"]], masks)]
    drawn = random.permutation(len(rows))[:count]
    assert len(drawn) == count, f"only {len(drawn)} annotations are fit"
    faults = []
    for place, index in enumerate(drawn):
        kind, row = kinds[place % len(kinds)], rows[index]
        if kind == "annotated twice":
            damaged["annotations"].append({**copy.deepcopy(row), "id": 10**9 + place})
            faults.append(Fault(kind, 10**9 + place))
        elif kind == "id of another":
            damaged["annotations"].append(
                {**copy.deepcopy(row), "bbox": [*row["bbox"][:2], 9, 9], "segmentation": [], "area": 81}
            )
            faults.append(Fault(kind, row["id"]))
        else:
            WAYS[kind](row, *sizes[row["image_id"]])
            faults.append(Fault(kind, row["id"]))
    return damaged, faults


def _is_fit(row: Rows, width: int, height: int, masks: bool) -> bool:
    """An object that is large enough for its faults to matter, and away from the right and lower edge."""
    x, y, w, h = row["bbox"]
    outlined = not masks or (isinstance(row.get("segmentation"), list) and bool(row["segmentation"]))
    return outlined and not row.get("iscrowd") and 16 < w < width / 2 and 16 < h < height / 2 and min(x, y) > 8


def _shifted(row: Rows, width: int, height: int) -> None:
    x, y, w, h = row["bbox"]
    row["bbox"] = [max(0, x - w / 2), y, w, h] if x > width / 2 else [min(x + w / 2, width - w), y, w, h]


WAYS: dict[str, Callable[[Rows, int, int], object]] = {
    "no box": lambda row, w, h: row.pop("bbox"),
    "not a number": lambda row, w, h: row.update(bbox=[row["bbox"][0], float("nan"), *row["bbox"][2:]]),
    "sides negative": lambda row, w, h: row.update(
        bbox=[row["bbox"][0] + row["bbox"][2], row["bbox"][1] + row["bbox"][3], -row["bbox"][2], -row["bbox"][3]]
    ),
    "no width": lambda row, w, h: row["bbox"].__setitem__(2, 0),
    "far outside": lambda row, w, h: row["bbox"].__setitem__(0, w + 50),
    "over the edge": lambda row, w, h: row["bbox"].__setitem__(2, w - row["bbox"][0] + 25),
    "in shares of the image": lambda row, w, h: row.update(
        bbox=[row["bbox"][0] / w, row["bbox"][1] / h, row["bbox"][2] / w, row["bbox"][3] / h]
    ),
    "corners for width and height": lambda row, w, h: row.update(
        bbox=[*row["bbox"][:2], row["bbox"][0] + row["bbox"][2], row["bbox"][1] + row["bbox"][3]]
    ),
    "beside its mask": _shifted,
    "wrong area": lambda row, w, h: row.update(area=10 * row["bbox"][2] * row["bbox"][3]),
    "unlisted category": lambda row, w, h: row.update(category_id=987654),
    "polygon of two points": lambda row, w, h: row["segmentation"].append([1, 1, 5, 5]),
}


@dataclass(frozen=True)
class Score:
    """Faults of a kind and what of them was found; new findings of its code, and what of them is right."""

    faults: int
    found: int
    told: int
    right: int

    @property
    def recall(self) -> float:
        return self.found / self.faults

    @property
    def precision(self) -> float:
        return self.right / max(1, self.told)


def score(faults: list[Fault], before: list[Finding], after: list[Finding]) -> tuple[dict[str, Score], float]:
    """Recall and precision by kind, and the precision of all that the damage brought up.

    A finding on an annotation that was damaged is right, whatever else the fault makes of it; a fault is found where
    the code of its kind is.
    """
    known = {(finding.code, finding.item, finding.fact) for finding in before}
    new = [finding for finding in after if (finding.code, finding.item, finding.fact) not in known]
    told = {(finding.code, finding.annotation_id) for finding in new}
    damaged = {fault.annotation_id for fault in faults}
    kinds = {}
    for kind, code in KINDS.items():
        own = [fault for fault in faults if fault.kind == kind]
        of_code = [finding.annotation_id in damaged for finding in new if finding.code == code]
        found = sum((code, fault.annotation_id) in told for fault in own)
        kinds[kind] = Score(len(own), found, len(of_code), sum(of_code))
    right = sum(finding.annotation_id in damaged for finding in new)
    return kinds, right / max(1, len(new))
