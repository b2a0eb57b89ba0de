"""Scores in words: what `visionkit evaluate` prints of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from visionkit.counted import counted

if TYPE_CHECKING:
    from visionkit.metrics.classification import ClassificationScores
    from visionkit.metrics.coco_map import CocoScores
    from visionkit.metrics.errors import ErrorCost, ErrorKind
    from visionkit.metrics.mean_iou import SegmentationScores
    from visionkit.metrics.operating_points import BestThresholds
    from visionkit.metrics.referee import RefereeVerdict
    from visionkit.metrics.score_calibration import FittedMap
    from visionkit.metrics.slices import SliceScore
    from visionkit.metrics.task_scores import TaskScores
    from visionkit.metrics.voc_map import VocScores

SCORE_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
VOC_HEAD = "PASCAL VOC at IoU 0.5"


def print_scores(scores: TaskScores) -> None:
    """Tables on stdout."""
    PRINTERS[type(scores).__name__](scores)


def _print_coco(scores: CocoScores) -> None:
    kind = "boxes" if scores.task == "bbox" else "masks"
    typer.echo(f"{counted(scores.images, 'image')}, {kind}")
    _print_twelve({name: getattr(scores, name) for name in SCORE_NAMES})
    if scores.referee is not None:
        _print_referee(scores.referee)
    typer.echo(_intervals(scores))
    typer.echo(f"mean IoU of matched detections {_number(scores.mean_iou_matched)}")
    width = max(len(name) for name in scores.per_class)
    typer.echo(f"\n{'class':<{width}}      AP    AP50    AP75   AR100  objects")
    for name, row in scores.per_class.items():
        numbers = "  ".join(_number(value) for value in (row.AP, row.AP50, row.AP75, row.AR100))
        typer.echo(f"{name:<{width}}  {numbers}  {row.objects:>7}")
    if scores.slices is not None:
        _print_slices(scores.slices)
    if scores.errors is not None:
        _print_errors(scores.errors)
    if scores.thresholds is not None:
        _print_thresholds(scores.thresholds)
    if scores.voc is not None:
        _print_voc(scores.voc)
    if scores.calibration is not None:
        _print_calibration(scores.calibration)


def _print_twelve(scores: Mapping[str, float | None]) -> None:
    for start in range(0, len(SCORE_NAMES), 6):
        typer.echo("  ".join(f"{n:<5} {_number(scores[n])}" for n in SCORE_NAMES[start : start + 6]))


def _print_referee(verdict: RefereeVerdict) -> None:
    typer.echo("pycocotools:")
    _print_twelve(verdict.scores)
    if verdict.is_equal:
        typer.echo(f"equal to the last bit: 12 of 12 numbers, and all {verdict.values:,} precisions and recalls")
    else:
        names = f" ({', '.join(verdict.unequal)})" if verdict.unequal else ""
        typer.echo(
            f"NOT EQUAL: {len(verdict.unequal)} of 12 numbers differ{names}, and {verdict.differing:,} of "
            f"{verdict.values:,} precisions and recalls"
        )


def _print_slices(slices: Mapping[str, Mapping[str, SliceScore]]) -> None:
    width = max(len(name) for rows in slices.values() for name in rows)
    typer.echo(f"\n{'objects by':<10}  {'':<{width}}      AP    AP50  objects")
    for kind, rows in slices.items():
        for place, (name, row) in enumerate(rows.items()):
            numbers = f"{_number(row.AP)}  {_number(row.AP50)}  {row.objects:>7}"
            typer.echo(f"{'' if place else kind:<10}  {name:<{width}}  {numbers}")


def _print_errors(errors: Mapping[ErrorKind, ErrorCost]) -> None:
    width = max(map(len, errors))
    typer.echo(f"\n{'mistakes':<{width}}    times  AP50 given back")
    for kind, cost in errors.items():
        gain = "n/a" if cost.gives_back is None else f"{cost.gives_back:+.4f}"
        typer.echo(f"{kind:<{width}}  {cost.count:>7}  {gain:>15}")


def _print_thresholds(thresholds: BestThresholds) -> None:
    rows = {"all classes together": thresholds.all_classes, **thresholds.per_class}
    width = max(map(len, rows))
    typer.echo(f"\n{'best F1 of':<{width}}   score      F1  precision  recall")
    for name, point in rows.items():
        numbers = (None,) * 4 if point is None else (point.score, point.f1, point.precision, point.recall)
        score, f1, precision, recall = map(_number, numbers)
        typer.echo(f"{name:<{width}}  {score}  {f1}     {precision}  {recall}")


def _print_voc(voc: VocScores) -> None:
    width = max(len(VOC_HEAD), *(len(name) for name in voc.per_class))
    typer.echo(f"\n{VOC_HEAD:<{width}}  11 points    area  objects")
    for name, row in voc.per_class.items():
        typer.echo(f"{name:<{width}}     {_number(row.AP_11_point)}  {_number(row.AP_area)}  {row.objects:>7}")
    typer.echo(f"{'mean':<{width}}     {_number(voc.AP_11_point)}  {_number(voc.AP_area)}")


def _print_calibration(fitted: FittedMap) -> None:
    typer.echo(
        f"\nCalibrated by {fitted.map.method} on {fitted.detections:,} detections of {fitted.images} images: expected "
        f"calibration error {fitted.ece_before:.4f} before, {fitted.ece_after:.4f} after, on images not fitted on"
    )


def _intervals(scores: CocoScores | SegmentationScores) -> str:
    from visionkit.metrics.intervals import FEWEST_IMAGES

    if scores.images < FEWEST_IMAGES:
        return f"95 % intervals need at least {FEWEST_IMAGES} images, these are {scores.images}"
    ends = {name: interval or (None, None) for name, interval in (scores.interval95 or {}).items()}
    words = (f"{name} {_number(low).strip()} to {_number(high).strip()}" for name, (low, high) in ends.items())
    return f"95 % intervals, over images: {', '.join(words)}"


def _print_classification(scores: ClassificationScores) -> None:
    typer.echo(f"{counted(scores.images, 'picture')}, classified")
    for line in (("accuracy", "top5"), ("precision", "recall", "f1", "roc_auc")):
        typer.echo("  ".join(f"{name} {_number(getattr(scores, name))}" for name in line))
    beta = "" if scores.beta is None else f"F{scores.beta:g}"
    if beta:
        typer.echo(f"{beta} {_number(scores.f_beta)}")
    width = max(5, *(len(name) for name in scores.per_class))
    column = max(6, len(beta))
    last = f"  {beta:>{column}}" if beta else ""
    typer.echo(f"\n{'class':<{width}}  precision  recall      f1  roc_auc  pictures{last}")
    for name, row in scores.per_class.items():
        numbers = (_number(value) for value in (row.precision, row.recall, row.f1, row.roc_auc))
        last = f"  {_number(row.f_beta):>{column}}" if beta else ""
        typer.echo("{:<{}}     {}  {}  {}   {}  {:>8}{}".format(name, width, *numbers, row.images, last))
    # A number for each class heads its column: names may be long.
    numbers_width = max(len(str(max(max(row) for row in scores.confusion))), len(str(len(scores.confusion))))
    head = "  ".join(f"{number:>{numbers_width}}" for number in range(1, len(scores.confusion) + 1))
    typer.echo(f"\n{'truth, by what it was called':<{width + 4}}\n{'':<{width + 4}}  {head}")
    for number, (name, counts) in enumerate(zip(scores.per_class, scores.confusion, strict=True), 1):
        cells = "  ".join(f"{count:>{numbers_width}}" for count in counts)
        typer.echo(f"{number:>3} {name:<{width}}  {cells}")


def _print_segmentation(scores: SegmentationScores) -> None:
    typer.echo(f"{counted(scores.images, 'image')}, semantic maps")
    for line in (("mIoU", "boundary_iou", "frequency_weighted_iou"), ("pixel_accuracy", "mean_accuracy")):
        typer.echo("  ".join(f"{name} {_number(getattr(scores, name))}" for name in line))
    typer.echo(_intervals(scores))
    width = max(5, *(len(name) for name in scores.per_class))
    typer.echo(f"\n{'class':<{width}}     IoU  accuracy  boundary IoU        pixels")
    for name, row in scores.per_class.items():
        numbers = (_number(value) for value in (row.IoU, row.accuracy, row.boundary_iou))
        typer.echo("{:<{}}  {}    {}        {}  {:>12,}".format(name, width, *numbers, row.pixels))


PRINTERS: dict[str, Callable[[Any], None]] = {
    "CocoScores": _print_coco,
    "ClassificationScores": _print_classification,
    "SegmentationScores": _print_segmentation,
}
"""By the name of the record of scores, whose modules are imported when a command runs."""


def _number(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:6.4f}"
