"""Explanations by a torch model: what it decided on letterboxed images, why, and where the objects there were lost."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visionkit.engine.device import precision
from visionkit.errors import UsageError
from visionkit.imaging.letterbox import Frame
from visionkit.models.assembly import model_task
from visionkit.models.explanation import FATES, Assigned, Candidates, Explainable, Explanation, explain
from visionkit.models.lost_objects import Outcome, object_outcomes
from visionkit.predict.why import RawWhy, fact_rows, number
from visionkit.types import Target

MOST_PLACES = 50
"""Of the places that learn an object so many are told one by one: those that overlap it most."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a model decided on one image, and why.

    Args:
        given: all that it had to decide on.
        told: what became of it.
        settings: `conf`, `iou`, `max_det` and `candidates`.
    """

    given: Candidates
    told: Explanation
    settings: Mapping[str, float]


@torch.inference_mode()
def run_model(
    model: nn.Module,
    images: Tensor,
    *,
    device: torch.device,
    amp: bool,
    proposals: Sequence[Tensor] | None = None,
) -> Any:
    """The raw outputs of a model in eval mode, as prediction and evaluation get them.

    Args:
        images: u8 [B, 3, S, S], letterboxed.
        amp: bf16 autocast where the hardware has it.
        proposals: [N, 4] of each image, for a model that is fed by them.
    """
    regions = None if proposals is None else [boxes.to(device) for boxes in proposals]
    with precision(device, amp):
        return model(images.to(device), proposals=regions)


@torch.inference_mode()
def decisions(
    model: nn.Module, outputs: Any, *, score: float, iou: float | None, max_det: int
) -> tuple[Decisions, ...]:
    """What the model's `predict` decides on each image of a batch, and why.

    Args:
        outputs: of its `forward`.
        iou: NMS threshold; the model's own where None.

    Raises:
        UsageError: it is no detector.
    """
    explainable = require_explainable(model)
    own = inspect.signature(model.predict).parameters  # type: ignore[arg-type]
    iou, most = own["iou"].default if iou is None else iou, own["candidates"].default
    settings = {"conf": score, "iou": iou, "max_det": max_det, "candidates": most}
    return tuple(
        Decisions(given, explain(given, score=score, iou=iou, max_det=max_det), settings)
        for given in explainable.candidates(outputs, score=score, most=most)
    )


def require_explainable(model: nn.Module) -> Explainable:
    """The model, as one that can be asked why.

    Raises:
        UsageError: it is no detector.
    """
    if model_task(model) != "detect":
        raise UsageError(
            f"why is told of boxes, and this model's task is {model_task(model)}; leave out --why, or use a detector"
        )
    return cast(Explainable, model)


def raw_why(made: Decisions) -> RawWhy:
    """In NumPy, as documents are written from it."""
    told = made.told
    of_labels = {fate: _array((told.fates == code).sum(0)) for code, fate in enumerate(FATES)}
    return RawWhy(
        boxes=_array(told.boxes),
        scores=_array(told.scores),
        labels=_array(told.label),
        fates=tuple(FATES[code] for code in told.fate.tolist()),
        remover=_array(told.remover),
        overlap=_array(told.overlap),
        facts={name: _array(values) for name, values in told.facts.items()},
        counts=of_labels,
        settings=made.settings,
    )


def object_rows(
    model: nn.Module, outputs: Any, made: Decisions, target: Target, frame: Frame, names: Sequence[str]
) -> list[dict[str, Any]]:
    """What became of each object of the one image of a batch, as JSON; boxes in pixels of the image.

    Args:
        target: in network pixels and the model's labels.
        names: of the model's classes.

    Returns:
        `{"ignored", "assigned": [{"what", "best_iou", "best_iou_of", "positives": {stride: count}, "places"}]}` for
        each; and, where it is not ignored, `"step"` and what goes with it: see `visionkit.api.why_objects`.
    """
    (stages,) = require_explainable(model).assigned(outputs, [target])
    outcomes = object_outcomes(made.given, made.told, target)
    rows = []
    for g, outcome in enumerate(outcomes):
        assigned = [_assigned_row(stage, g, frame) for stage in stages]
        row: dict[str, Any] = {"ignored": outcome is None, "assigned": assigned}
        rows.append(row if outcome is None else row | _outcome_row(outcome, frame, names))
    return rows


def _assigned_row(stage: Assigned, g: int, frame: Frame) -> dict[str, Any]:
    counts = zip(stage.strides, stage.positives[g].tolist(), strict=True)
    told = (stage.object == g).nonzero().squeeze(1)[:MOST_PLACES]
    facts = {name: _array(values[told]) for name, values in stage.facts.items()}
    overlaps = stage.iou[told].tolist()
    return {
        "what": stage.what,
        "best_iou": number(stage.best_iou[g].item(), 4),
        "best_iou_of": stage.overlapping,
        "positives": {str(stride): count for stride, count in counts if count},
        "places": [
            {"iou": number(overlap, 4), **where}
            for overlap, where in zip(overlaps, fact_rows(facts, frame, len(told)), strict=True)
        ],
    }


def _outcome_row(outcome: Outcome, frame: Frame, names: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"step": outcome.step, "iou": number(outcome.iou, 4)}
    if outcome.score is not None:
        row["score"] = number(outcome.score, 5)
    if outcome.box is not None:
        row["candidate"] = _in_image(outcome.box, frame)
    if outcome.facts:
        facts = {name: _array(values)[None] for name, values in outcome.facts.items()}
        row["from"] = fact_rows(facts, frame, 1)[0]
    if outcome.rival is not None:
        rival = outcome.rival
        row["rival"] = {
            "bbox": _in_image(rival.box, frame),
            "score": number(rival.score, 5),
            "name": names[rival.label],
            "iou": number(rival.iou, 4),
        }
    if outcome.other is not None:
        row["other_object"] = outcome.other
    if outcome.proposal_iou is not None:
        row["proposal"] = {"fate": outcome.proposal, "iou": number(outcome.proposal_iou, 4)}
    return row


def _in_image(box: Sequence[float], frame: Frame) -> list[float]:
    corners = frame.to_original(np.array([box], np.float32))[0].tolist()
    return [round(corner, 2) for corner in corners]


def _array(values: Tensor) -> NDArray[Any]:
    # Half precision and bfloat16 leave as f32: NumPy knows no bfloat16.
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).cpu().numpy()
    return array
