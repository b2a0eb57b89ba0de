"""Non-maximum suppression, exact and per class."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch
from torch import Tensor


def nms_per_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Indices [M] of the boxes that no better box of the same class overlaps by more than `iou`, best score first.

    Each class is suppressed on its own. Shifting the classes apart and suppressing once would be shorter, but
    the shifted coordinates lose bits and the result differs by a few boxes.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2.
        scores: f32 [N].
        labels: i64 [N].
        iou: boxes that overlap by more are suppressed, in [0, 1].
    """
    kept = [scores.new_empty(0, dtype=torch.int64)]
    for label in labels.unique():
        of_class = (labels == label).nonzero().squeeze(1)
        kept.append(of_class[nms(boxes[of_class], scores[of_class], iou)])
    keep = torch.cat(kept)
    return keep[scores[keep].argsort(descending=True, stable=True)]


def nms(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices [M] of the boxes that no better box overlaps by more than `iou`, best score first, by torchvision.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2.
        scores: f32 [N].
    """
    _load_torchvision_operators()
    kept: Tensor = torch.ops.torchvision.nms(boxes, scores, iou)
    return kept


@cache
def _load_torchvision_operators() -> None:
    """Load torchvision's compiled operators alone: importing all of torchvision takes longer than importing torch."""
    found = importlib.util.find_spec("torchvision")
    folders = (found.submodule_search_locations if found else None) or ()
    for library in (file for folder in folders for file in Path(folder).glob("_C*") if file.suffix in (".so", ".pyd")):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
        if hasattr(torch.ops.torchvision, "nms"):
            return
    import torchvision  # noqa: F401, PLC0415


def multiclass_nms(
    boxes: Tensor, scores: Tensor, *, score: float, iou: float, max_det: int, candidates: int
) -> tuple[Tensor, Tensor, Tensor]:
    """From a score for every box and class to decisions: a threshold, then suppression within each class.

    A box may stand for several classes.

    Args:
        boxes: f32 [N, 4] x1 y1 x2 y2, or [N, K, 4] where each class has a box of its own.
        scores: f32 [N, K].
        score: lowest score kept.
        iou: overlap above which the worse box of a class goes, in [0, 1].
        max_det: most decisions, best first.
        candidates: most (box, class) pairs that enter suppression, best first; bounds the time.

    Returns:
        boxes f32 [M, 4], scores f32 [M] and labels i64 [M], best first.
    """
    box, label, confidence = best_pairs(scores, score=score, candidates=candidates)
    chosen = boxes[box] if boxes.ndim == 2 else boxes[box, label]
    keep = nms_per_class(chosen, confidence, label, iou)[:max_det]
    return chosen[keep], confidence[keep], label[keep]


def best_pairs(scores: Tensor, *, score: float, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """The (box, class) pairs that enter suppression: those of at least `score`; of more than `candidates`, the best.

    Args:
        scores: f32 [N, K].

    Returns:
        i64 [M] box, i64 [M] class and f32 [M] score of each.
    """
    box, label = (scores >= score).nonzero().unbind(1)
    confidence = scores[box, label]
    if len(confidence) > candidates:
        confidence, best = confidence.topk(candidates)
        box, label = box[best], label[best]
    return box, label, confidence
