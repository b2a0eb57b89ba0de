"""`visionkit evaluate`: the scores of a model, or COCO's of a predictions file."""

from __future__ import annotations

import json
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
from visionkit.errors import UsageError, VisionkitError

if TYPE_CHECKING:
    from visionkit.metrics.task_scores import TaskScores


def evaluate(
    weights: Annotated[str | None, typer.Option(help=USED_WEIGHTS_HELP)] = None,
    data: Annotated[str | None, typer.Option(help="Dataset folder, its YAML file, or 'sample', 'sample-b'.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; val.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results file; with --annotations.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO ground truth file.")] = None,
    task: Annotated[str | None, typer.Option(help="What to compare, bbox or segm (masks); bbox.")] = None,
    iou: Annotated[
        float | None,
        typer.Option("--iou", "--iou-thres", help="NMS: overlap where the worse box goes; the model's."),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Of a classifier: F-beta too, recall counting so many times as much; 2, 0.5.")
    ] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="What propose wrote, or its file of the split: fast-rcnn, rcnn.")
    ] = None,
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
    referee: Annotated[
        bool, typer.Option("--referee", help="pycocotools' numbers beside these; exit 1 where a bit differs.")
    ] = False,
    voc: Annotated[bool, typer.Option("--voc", help="PASCAL VOC's AP of boxes too, by 11 points and by area.")] = False,
    slices: Annotated[
        bool, typer.Option("--slices", help="AP by size, shape, crowding and position of objects too.")
    ] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="Mistakes by kind too, and the AP50 that each kind costs.")
    ] = False,
    thresholds: Annotated[
        bool, typer.Option("--thresholds", help="The score threshold of the best F1 too, of each class and of all.")
    ] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="A new .safetensors file: the model, with what its scores are worth.")
    ] = None,
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

    A classifier is scored by accuracy, precision, recall, F1 (with --beta F-beta too), ROC AUC and its confusion
    matrix, on the pictures of a folder per class or on the objects of any other dataset.

    A segmenter is scored by mean IoU, the IoU of each class and of its boundary, and the accuracy of pixels.

    With --tile, images larger than a tile are seen in overlapping tiles, as detect sees them with it; a model that
    learnt from tiles is judged on them without it, and by --tile 0 on whole images.

    With --calibrate FILE, a copy of the model that knows what its scores are worth: a map of scores to the share of
    detections that are right, fitted on this split and judged on images that each fit has not seen. detect then says
    the confidence of each detection beside its score. Scores, thresholds and AP stay as they are.

    With --why IMAGE, no scores: of each annotated object of the image which anchors, points or proposals learn it, and
    whether it was found or at which step it was lost: no proposal or no box near it, scored low, seen as another class,
    suppressed by which box, or beyond a limit; in tiles also the view it was looked at in. --pictures draws that.

    Example: [bold]visionkit evaluate --weights runs/finetune/my-data-1/best.safetensors --data my-data[/bold]

    Example: [bold]visionkit evaluate --weights best.safetensors --data my-data --why IMG_0042.jpg --pictures why[/bold]
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
        "--beta": beta,
        "--proposals": proposals,
        "--imgsz": imgsz,
        "--tile": tile,
        "--overlap": overlap,
        "--device": device,
        "--threads": threads,
        "--amp": amp,
        "--save-predictions": save_predictions,
        "--pictures": pictures,
        "--calibrate": calibrate,
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
        "--batch": batch,
        "--task": task,
        "--beta": beta,
        "--save-predictions": save_predictions,
        "--report": report,
        "--referee": referee or None,
        "--voc": voc or None,
        "--slices": slices or None,
        "--errors": errors or None,
        "--thresholds": thresholds or None,
        "--calibrate": calibrate,
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
            tile=tile,
            overlap=overlap,
            device=device or "auto",
            threads=threads or 0,
            amp=amp,
            offline=offline,
            pictures=pictures,
            skip_bad=skip_bad,
        )
        return
    from visionkit.api import evaluate as job
    from visionkit.cli.score_tables import print_scores

    scores: TaskScores
    if predictions is not None and annotations is not None:
        scores = job.evaluate_predictions(
            predictions,
            annotations,
            task=task or "bbox",  # type: ignore[arg-type]
            report=report,
            images=images,
            referee=referee,
            voc=voc,
            slices=slices,
            errors=errors,
            thresholds=thresholds,
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
                beta=beta,
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
                referee=referee,
                voc=voc,
                slices=slices,
                errors=errors,
                thresholds=thresholds,
                calibrate=calibrate,
                skip_bad=skip_bad,
                on_skip=left_out,
                listen=listen,
                say=say,
            )
    if json_:
        typer.echo(json.dumps(scores.to_json() | ({"left_out": left_out.count} if skip_bad else {})))
    else:
        print_scores(scores)
    _require_equal(scores)
    left_out.finish()


def _require_equal(scores: TaskScores) -> None:
    """Raises VisionkitError where the referee was asked and has other numbers."""
    verdict = getattr(scores, "referee", None)
    if verdict is not None and not verdict.is_equal:
        raise VisionkitError(
            f"pycocotools has other values: {len(verdict.unequal)} of 12 numbers and {verdict.differing} of "
            f"{verdict.values} precisions and recalls differ; please report this with the files"
        )


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
