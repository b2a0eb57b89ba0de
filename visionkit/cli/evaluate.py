"""`visionkit evaluate`: the scores of a model, or COCO's of a predictions file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import (
    USED_WEIGHTS_HELP,
    Amp,
    Debug,
    Device,
    ImageSize,
    Json,
    Offline,
    Overlap,
    SkipBad,
    Threads,
    Tile,
)
from visionkit.cli.progress import image_progress, loading_progress, say
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.metrics.classification import ClassificationScores
    from visionkit.metrics.coco_map import CocoScores
    from visionkit.metrics.mean_iou import SegmentationScores
    from visionkit.metrics.task_scores import TaskScores


def evaluate(
    weights: Annotated[str | None, typer.Option(help=USED_WEIGHTS_HELP)] = None,
    data: Annotated[str | None, typer.Option(help="Dataset folder, or 'sample', 'sample-b'.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; val.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results file; with --annotations.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO ground truth file.")] = None,
    task: Annotated[str | None, typer.Option(help="What to compare, bbox or segm (masks); bbox.")] = None,
    iou: Annotated[
        float | None,
        typer.Option("--iou", "--iou-thres", help="NMS: overlap where the worse box goes; the model's."),
    ] = None,
    proposals: Annotated[Path | None, typer.Option(help="File of proposals on the split: fast-rcnn, rcnn.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", "--batch-size", help="Images a step; as trained.")] = None,
    imgsz: ImageSize = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: Device = None,
    threads: Threads = None,
    amp: Amp = None,
    save_predictions: Annotated[Path | None, typer.Option(help="Write the detections as COCO results.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Draw truth beside predictions of ten images here.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write all about it as one HTML file: curves, confusion, the worst images.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="For --report with --predictions: where the images lie.")] = None,
    why: Annotated[
        str | None, typer.Option("--why", help="An image, by name or id: tell what became of each of its objects.")
    ] = None,
    conf: Annotated[
        float | None, typer.Option("--conf", "--conf-thres", help="With --why: objects count as found from here; 0.25.")
    ] = None,
    skip_bad: SkipBad = False,
    offline: Offline = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model on a dataset, or any COCO results file on its ground truth, with pycocotools' numbers.

    A classifier is scored by accuracy, precision, recall, F1, ROC AUC and its confusion matrix, on the pictures of a
    folder per class or on the objects of any other dataset.

    A segmenter is scored by mean IoU, the IoU of each class and of its boundary, and the accuracy of pixels.

    With --tile, images larger than a tile are seen in overlapping tiles, as detect sees them with it.

    With --why IMAGE, no scores: of each annotated object of the image which anchors, points or proposals learn it, and
    whether it was found or at which step it was lost: no proposal or no box near it, scored low, seen as another class,
    suppressed by which box, or beyond a limit. --pictures draws that.

    Example: [bold]visionkit evaluate --weights runs/finetune/my-data-1/best.safetensors --data my-data[/bold]

    Example: [bold]visionkit evaluate --data my-data --why IMG_0042.jpg --pictures why[/bold]
    """
    if weights is None and predictions is None and data is not None:
        weights = "default"
    if (weights is None) == (predictions is None) or (predictions is None) != (annotations is None):
        raise UsageError(
            "evaluate takes either --weights FILE with --data DIR, or --predictions FILE with --annotations FILE"
        )
    of_weights = {
        "--data": data,
        "--split": split,
        "--batch": batch,
        "--iou": iou,
        "--proposals": proposals,
        "--imgsz": imgsz,
        "--tile": tile,
        "--overlap": overlap,
        "--device": device,
        "--threads": threads,
        "--amp": amp,
        "--save-predictions": save_predictions,
        "--pictures": pictures,
        "--why": why,
        "--conf": conf,
    }
    stray = [name for name, value in of_weights.items() if predictions and value is not None]
    if stray:
        raise UsageError(f"{', '.join(stray)} has no meaning with --predictions, only with --weights; leave it out")
    if images is not None and predictions is None:
        raise UsageError("--images has no meaning without --predictions, a dataset knows its images; leave it out")
    if conf is not None and why is None:
        raise UsageError("--conf has no meaning without --why: scores count detections of any score; leave it out")
    of_scores = {
        "--tile": tile,
        "--overlap": overlap,
        "--batch": batch,
        "--task": task,
        "--save-predictions": save_predictions,
        "--report": report,
    }
    stray = [name for name, value in of_scores.items() if why and value is not None]
    if stray:
        raise UsageError(f"{', '.join(stray)} has no meaning with --why, which is about one image; leave it out")
    left_out = LeftOut()
    if why is not None:
        _tell_why(
            json_,
            left_out,
            weights=weights,
            data=data,
            image=why,
            split=split or "val",
            conf=conf,
            iou=iou,
            proposals=proposals,
            imgsz=imgsz,
            device=device or "auto",
            threads=threads or 0,
            amp=amp,
            offline=offline,
            pictures=pictures,
            skip_bad=skip_bad,
        )
        return
    from visionkit.api import evaluate as job

    scores: TaskScores
    if predictions is not None and annotations is not None:
        scores = job.evaluate_predictions(
            predictions,
            annotations,
            task=task or "bbox",  # type: ignore[arg-type]
            report=report,
            images=images,
            skip_bad=skip_bad,
            on_skip=left_out,
        )
    else:
        assert weights is not None
        with image_progress("evaluating") as listen:
            scores = job.evaluate(
                weights,
                data,
                split=split or "val",
                batch=batch,
                task=task or "bbox",  # type: ignore[arg-type]
                iou=iou,
                proposals=proposals,
                imgsz=imgsz,
                tile=tile,
                overlap=overlap,
                device=device or "auto",
                threads=threads or 0,
                amp=amp,
                offline=offline,
                save_predictions=save_predictions,
                pictures=pictures,
                report=report,
                skip_bad=skip_bad,
                on_skip=left_out,
                listen=listen,
                say=say,
            )
    if json_:
        typer.echo(json.dumps(scores.to_json() | ({"left_out": left_out.count} if skip_bad else {})))
    else:
        PRINTERS[type(scores).__name__](scores)
    left_out.finish()


def _tell_why(json_: bool, left_out: LeftOut, *, conf: float | None, **asked: Any) -> None:
    """What became of each object of an image, instead of scores.

    Args:
        asked: as for `visionkit.api.why_objects.why_objects`.
    """
    from visionkit.api.why_objects import SCORE, why_objects
    from visionkit.predict.why_tables import objects_table

    with loading_progress() as listen:
        document = why_objects(conf=SCORE if conf is None else conf, on_skip=left_out, listen=listen, say=say, **asked)
    typer.echo(json.dumps(document, allow_nan=False) if json_ else objects_table(document))
    left_out.finish()


SCORE_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def _print_coco(scores: CocoScores) -> None:
    kind = "boxes" if scores.task == "bbox" else "masks"
    typer.echo(f"{scores.images} images, {kind}")
    for start in range(0, len(SCORE_NAMES), 6):
        typer.echo("  ".join(f"{n:<5} {_number(getattr(scores, n))}" for n in SCORE_NAMES[start : start + 6]))
    typer.echo(_intervals(scores))
    typer.echo(f"mean IoU of matched detections {_number(scores.mean_iou_matched)}")
    width = max(len(name) for name in scores.per_class)
    typer.echo(f"\n{'class':<{width}}      AP    AP50    AP75   AR100  objects")
    for name, row in scores.per_class.items():
        numbers = "  ".join(_number(value) for value in (row.AP, row.AP50, row.AP75, row.AR100))
        typer.echo(f"{name:<{width}}  {numbers}  {row.objects:>7}")


def _intervals(scores: CocoScores) -> str:
    from visionkit.metrics.intervals import FEWEST_IMAGES

    if scores.images < FEWEST_IMAGES:
        return f"95 % intervals need at least {FEWEST_IMAGES} images, these are {scores.images}"
    ends = {name: interval or (None, None) for name, interval in (scores.interval95 or {}).items()}
    words = (f"{name} {_number(low).strip()} to {_number(high).strip()}" for name, (low, high) in ends.items())
    return f"95 % intervals, over images: {', '.join(words)}"


def _print_classification(scores: ClassificationScores) -> None:
    typer.echo(f"{scores.images} pictures, classified")
    for line in (("accuracy", "top5"), ("precision", "recall", "f1", "roc_auc")):
        typer.echo("  ".join(f"{name} {_number(getattr(scores, name))}" for name in line))
    width = max(5, *(len(name) for name in scores.per_class))
    typer.echo(f"\n{'class':<{width}}  precision  recall      f1  roc_auc  pictures")
    for name, row in scores.per_class.items():
        numbers = (_number(value) for value in (row.precision, row.recall, row.f1, row.roc_auc))
        typer.echo("{:<{}}     {}  {}  {}   {}  {:>8}".format(name, width, *numbers, row.images))
    # A number for each class heads its column: names may be long.
    numbers_width = max(len(str(max(max(row) for row in scores.confusion))), len(str(len(scores.confusion))))
    head = "  ".join(f"{number:>{numbers_width}}" for number in range(1, len(scores.confusion) + 1))
    typer.echo(f"\n{'truth, by what it was called':<{width + 4}}\n{'':<{width + 4}}  {head}")
    for number, (name, counts) in enumerate(zip(scores.per_class, scores.confusion, strict=True), 1):
        cells = "  ".join(f"{count:>{numbers_width}}" for count in counts)
        typer.echo(f"{number:>3} {name:<{width}}  {cells}")


def _print_segmentation(scores: SegmentationScores) -> None:
    typer.echo(f"{scores.images} images, semantic maps")
    for line in (("mIoU", "boundary_iou", "frequency_weighted_iou"), ("pixel_accuracy", "mean_accuracy")):
        typer.echo("  ".join(f"{name} {_number(getattr(scores, name))}" for name in line))
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
