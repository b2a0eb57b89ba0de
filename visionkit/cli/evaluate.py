"""`visionkit evaluate`: the COCO scores of a model or of a predictions file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionkit.cli.left_out import LeftOut
from visionkit.cli.options import Debug, Device, ImageSize, Json, SkipBad, Threads
from visionkit.cli.progress import image_progress, say
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.metrics.coco_map import CocoScores


def evaluate(
    weights: Annotated[Path | None, typer.Option(help="A .safetensors file; with --data; the bundled model.")] = None,
    data: Annotated[str | None, typer.Option(help="Dataset folder, or 'sample', 'sample-b'.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; val.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results file; with --annotations.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO ground truth file.")] = None,
    task: Annotated[str | None, typer.Option(help="What to compare of predictions: bbox or segm; bbox.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", "--batch-size", help="Images a step; as trained.")] = None,
    imgsz: ImageSize = None,
    device: Device = None,
    threads: Threads = None,
    save_predictions: Annotated[Path | None, typer.Option(help="Write the detections as COCO results.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Draw truth beside detections of ten images here.")] = None,
    skip_bad: SkipBad = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model on a dataset, or any COCO results file on its ground truth, with pycocotools' numbers.

    Example: [bold]visionkit evaluate --weights runs/finetune/my-data-1/best.safetensors --data my-data[/bold]
    """
    if weights is None and predictions is None and data is not None:
        weights = Path("default")
    if (weights is None) == (predictions is None) or (predictions is None) != (annotations is None):
        raise UsageError(
            "evaluate takes either --weights FILE with --data DIR, or --predictions FILE with --annotations FILE"
        )
    of_weights = {
        "--data": data,
        "--split": split,
        "--batch": batch,
        "--imgsz": imgsz,
        "--device": device,
        "--threads": threads,
        "--save-predictions": save_predictions,
        "--pictures": pictures,
    }
    stray = [name for name, value in (of_weights if predictions else {"--task": task}).items() if value is not None]
    if stray:
        given, other = ("--predictions", "--weights") if predictions else ("--weights", "--predictions")
        raise UsageError(f"{', '.join(stray)} has no meaning with {given}, only with {other}; leave it out")
    from visionkit.api import evaluate as job

    left_out = LeftOut()
    if predictions is not None and annotations is not None:
        scores = job.evaluate_predictions(
            predictions,
            annotations,
            task=task or "bbox",  # type: ignore[arg-type]
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
                imgsz=imgsz,
                device=device or "auto",
                threads=threads or 0,
                save_predictions=save_predictions,
                pictures=pictures,
                skip_bad=skip_bad,
                on_skip=left_out,
                listen=listen,
                say=say,
            )
    if json_:
        typer.echo(json.dumps(scores.to_json() | ({"left_out": left_out.count} if skip_bad else {})))
    else:
        _print(scores)
    left_out.finish()


SCORE_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def _print(scores: CocoScores) -> None:
    kind = "boxes" if scores.task == "bbox" else "masks"
    typer.echo(f"{scores.images} images, {kind}")
    for start in range(0, len(SCORE_NAMES), 6):
        typer.echo("  ".join(f"{n:<5} {_number(getattr(scores, n))}" for n in SCORE_NAMES[start : start + 6]))
    typer.echo(f"mean IoU of matched detections {_number(scores.mean_iou_matched)}")
    width = max(len(name) for name in scores.per_class)
    typer.echo(f"\n{'class':<{width}}      AP    AP50    AP75   AR100  objects")
    for name, row in scores.per_class.items():
        numbers = "  ".join(_number(value) for value in (row.AP, row.AP50, row.AP75, row.AR100))
        typer.echo(f"{name:<{width}}  {numbers}  {row.objects:>7}")


def _number(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:6.4f}"
