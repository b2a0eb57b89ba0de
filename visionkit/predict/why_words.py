"""What the documents of `why` say, in words short enough for a label on a picture or a line on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

FATE_WORDS: Mapping[str, str] = {
    "kept": "kept",
    "beyond_max_det": "beyond the most detections",
    "suppressed": "suppressed",
    "gave_way": "gave way to one of another view",
    "in_padding": "wholly beyond the image",
    "beyond_candidates": "beyond the most candidates",
    "too_small": "next to nothing of it in the image",
    "below_conf": "scored too low",
}
"""In the order in which they are told."""

STEP_WORDS: Mapping[str, str] = {
    "found": "found",
    "taken": "found as another",
    "gave_way": "gave way in another view",
    "beyond_max_det": "beyond the most detections",
    "suppressed": "suppressed",
    "too_small": "next to nothing of it in the image",
    "beyond_candidates": "beyond the most candidates",
    "wrong_class": "seen as another class",
    "scored_low": "scored low",
    "no_candidate": "no box near it",
    "no_proposal": "no proposal near it",
}
"""What becomes of objects, the farthest step first."""


def suppressed_words(candidate: Mapping[str, Any], by: Mapping[str, Any]) -> tuple[str, str]:
    """Why a candidate went, the longer wording first.

    >>> suppressed_words({"iou": 0.834}, {"name": "bus", "score": 0.93})
    ('IoU 0.83 with bus 0.93', 'IoU 0.83')
    """
    overlap = f"IoU {decimals(candidate['iou'])}"
    return f"{overlap} with {by['name']} {decimals(by['score'])}", overlap


def outcome_words(row: Mapping[str, Any]) -> tuple[str, str]:
    """What became of an annotated object, the longer wording first.

    >>> outcome_words({"step": "scored_low", "iou": 0.71, "score": 0.118})
    ('scored low, 0.12 at IoU 0.71', 'scored low')
    """
    if row.get("ignored"):
        return "ignored: a crowd, or difficult", "ignored"
    step = row["step"]
    return _OUTCOMES.get(step, _with_score)(row), STEP_WORDS[step]


def _with_score(row: Mapping[str, Any]) -> str:
    return f"{STEP_WORDS[row['step']]}, {decimals(row.get('score'))} at IoU {decimals(row['iou'])}"


def _suppressed(row: Mapping[str, Any]) -> str:
    rival = row["rival"]
    by = f"by {rival['name']} {decimals(rival['score'])} at IoU {decimals(rival['iou'])}"
    return f"{decimals(row['score'])}, suppressed {by}"


def _gave_way(row: Mapping[str, Any]) -> str:
    rival = row["rival"]
    by = f"{rival['name']} {decimals(rival['score'])} of another view at IoU {decimals(rival['iou'])}"
    return f"its detection, {decimals(row['score'])}, gave way to {by}"


def _wrong_class(row: Mapping[str, Any]) -> str:
    rival = row["rival"]
    own = f"; as {row['name']} {decimals(row['score'])}" if "score" in row and "name" in row else ""
    return f"seen as {rival['name']} {decimals(rival['score'])} at IoU {decimals(rival['iou'])}{own}"


def _taken(row: Mapping[str, Any]) -> str:
    return f"its detection, {decimals(row['score'])}, counts for object {row['other_object'] + 1}"


def _nothing_near(row: Mapping[str, Any]) -> str:
    return f"{STEP_WORDS[row['step']]}, best IoU {decimals(row['iou'])}"


def _no_proposal(row: Mapping[str, Any]) -> str:
    proposal = row["proposal"]
    overlap = decimals(proposal["iou"])
    if proposal["fate"] is None:
        return f"no proposal near it, best IoU {overlap}"
    return f"no proposal near it: the best anchor's box, IoU {overlap}, {PROPOSAL_FATES[proposal['fate']]}"


PROPOSAL_FATES: Mapping[str, str] = {
    "kept": "is the nearest",
    "beyond_max_det": "came after the most proposals",
    "suppressed": "was suppressed",
    "beyond_candidates": "was not among the best of its level",
    "too_small": "has next to nothing in the image",
    "below_conf": "scored too low",
}

_OUTCOMES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "suppressed": _suppressed,
    "gave_way": _gave_way,
    "wrong_class": _wrong_class,
    "taken": _taken,
    "no_candidate": _nothing_near,
    "no_proposal": _no_proposal,
}


def assigned_words(stage: Mapping[str, Any]) -> str:
    """What learns an object at one stage.

    >>> assigned_words({"what": "anchors", "best_iou": 0.714, "best_iou_of": "anchors", "positives": {"8": 3, "16": 1},
    ...                 "places": [{"iou": 0.71, "stride": 8, "cell": [12, 7]}]})
    '4 anchors learn it (stride 8: 3, stride 16: 1), the nearest: stride 8, cell 12,7; best IoU of anchors 0.71'
    """
    positives = stage["positives"]
    many = sum(positives.values())
    best = f"best IoU of {stage['best_iou_of']} {decimals(stage['best_iou'])}"
    if not many:
        return f"no {stage['what'][:-1]} learns it; {best}"
    where = ", ".join(f"stride {stride}: {count}" for stride, count in positives.items())
    learn = f"{many} {stage['what']} learn it" if many > 1 else f"1 {stage['what'][:-1]} learns it"
    nearest = f"{', the nearest' * (many > 1)}: {source_words(stage['places'][0])}"
    return f"{learn} ({where}){nearest}; {best}"


def source_words(source: Mapping[str, Any]) -> str:
    """Where a candidate came from.

    >>> source_words({"stride": 16, "cell": [12, 7], "anchor": [0, 0, 90, 45], "anchor_size": 64.0,
    ...               "anchor_ratio": 0.5, "logit": 1.2})
    'stride 16, cell 12,7, anchor of 64 px and ratio 0.5'
    """
    parts = []
    if "proposal_number" in source:
        objectness = f" of objectness {decimals(source['objectness'])}" if "objectness" in source else ""
        parts.append(f"proposal {source['proposal_number']}{objectness}, read at stride {source['read_stride']}")
    if "cell" in source:
        column, row = source["cell"]
        box = f", box {source['box_of_cell'] + 1}" if "box_of_cell" in source else ""
        parts.append(f"stride {source['stride']}, cell {column},{row}{box}")
    if "anchor_size" in source:
        parts.append(f"anchor of {source['anchor_size']:.0f} px and ratio {source['anchor_ratio']:.2g}")
    return ", ".join(parts)


def view_words(view: Sequence[int], image: Mapping[str, Any]) -> str:
    """Where an object of an image in tiles was looked at.

    >>> view_words([0, 480, 640, 1120], {"width": 1920, "height": 1120})
    'in the tile 0 480 640 1120'
    """
    whole = list(view) == [0, 0, image["width"], image["height"]]
    return "in the whole image" if whole else f"in the tile {' '.join(map(str, view))}"


def decimals(value: float | None, digits: int = 2) -> str:
    """So many of them; a dash for what is not a number."""
    return "-" if value is None else f"{value:.{digits}f}"
