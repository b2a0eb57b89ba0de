"""How good a model, or anybody's predictions, are on annotated images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionkit.api.answers import Answers, GraphAnswers, ModelAnswers
from visionkit.api.box_pictures import draw_comparisons
from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.detection_scores import Beside, score_detections
from visionkit.api.evaluation_files import check_free, check_outputs
from visionkit.api.judged import Judged, LoadedGraph, open_judged, task_of_judged
from visionkit.api.map_pictures import drawn_maps
from visionkit.api.report import report_maps
from visionkit.api.task_data import given_proposals, says_masks, task_dataset, task_images, task_layout
from visionkit.api.tiled_evaluation import check_tiled
from visionkit.build import LoadedModel, save_calibrated
from visionkit.classes import ClassMatch, in_brackets, match_classes
from visionkit.data.loader import BatchLoader, evaluation_loader
from visionkit.data.views import EvaluationView, Samples
from visionkit.engine.device import choose_device, use_threads
from visionkit.engine.evaluate import count_maps
from visionkit.engine.events import EvaluationProgress, Listener
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_results import read_results, write_results
from visionkit.formats.layout import read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.classification import classification_scores
from visionkit.metrics.coco_columns import check_task
from visionkit.metrics.coco_map import CocoScores, Task
from visionkit.metrics.mean_iou import SegmentationScores
from visionkit.metrics.score_calibration import fit_score_map
from visionkit.metrics.task_scores import TaskScores
from visionkit.models.assembly import frame_multiple_of
from visionkit.predict.tiling import Tiling, chosen_tiling
from visionkit.report.map_content import SeenMaps

PICTURES = 10

READERS = 4
"""Processes that read images for a GPU."""


def evaluate(
    weights: str | Path = "default",
    data: str | Path | None = None,
    *,
    split: str = "val",
    batch: int | None = None,
    task: Task = "bbox",
    iou: float | None = None,
    beta: float | None = None,
    proposals: str | Path | None = None,
    imgsz: int | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int = 0,
    amp: bool | None = None,
    offline: bool = False,
    save_predictions: str | Path | None = None,
    pictures: str | Path | None = None,
    report: str | Path | None = None,
    referee: bool = False,
    voc: bool = False,
    slices: bool = False,
    errors: bool = False,
    thresholds: bool = False,
    calibrate: str | Path | None = None,
    skip_bad: bool = False,
    on_skip: Callable[[str], None] = lambda line: None,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> TaskScores:
    """The scores of a model on a split: COCO's of a detector, accuracy and the like of a classifier, mean IoU and the
    like of a segmenter.

    Batch size, image size, tiles and precision are those the model was trained with, so that the AP is the one its
    training printed, unless they are given here.

    Model and data meet by the names of their classes; detections carry the data's category ids. Of a model with more
    classes than the data, only detections of the data's classes count.

    Args:
        weights: a .safetensors file of visionkit, or a graph that `export` wrote, which is run one image after the
            other; `default`, the bundled model; `coco` or `torchvision:NAME`, a published one, which is downloaded
            where it is not here.
        data: dataset folder or YAML file; see `find_dataset`.
        task: what of detections is compared, boxes (`bbox`) or masks (`segm`).
        iou: of two detections of a class that overlap more, the better one is kept; the model's own where None.
        beta: of a classifier alone: give F-beta too, in which recall counts so many times as much as precision.
        proposals: a file of them on the split, or a folder with a file for each split, for a model that is fed by
            them; see `formats.proposals`.
        tile: side in pixels of the overlapping tiles that larger images are seen in, as `detect` sees them; as trained
            where None, whole where 0.
        overlap: share of a tile that neighbours have in common; 0.2 where None.
        workers: the most processes that may read images; see `split_loader`.
        threads: CPU threads; 0 leaves torch's choice.
        amp: bf16 where the hardware has it, or fp32; as trained where None.
        offline: never use the network.
        save_predictions: where to write the detections as COCO results; of detectors alone.
        pictures: folder for pictures of the first images, truth on the left, detections on the right, or the maps of a
            segmenter and then their errors; not of classifiers.
        report: an HTML file, which gets numbers, confusion and all images, worst first, with what is true and what was
            said; of detectors curves and kinds of mistakes too; not of classifiers.
        referee: give pycocotools' numbers too, and whether ours are equal to the last bit; of detectors alone, as all
            that follow.
        voc: give PASCAL VOC's AP of boxes too, by 11 points and by area.
        slices: give AP by size, shape, crowding and position of objects too.
        errors: give the mistakes by kind too, and the AP50 that each kind costs.
        thresholds: give the score thresholds of the best F1 too, of each class and of all.
        calibrate: a new weights file, which gets the model and a map of its scores to the share of detections that are
            right, fitted on this split; `detect` then says each detection's confidence beside its score.
        skip_bad: leave items in error out of the data instead of refusing it.
        on_skip: told those items, a line each.

    Raises:
        UsageError: a value is out of range, or the data has no such split.
        CheckpointError, DataError: a file is missing or broken, or the model does not know each class of the data.
    """
    check_task(task)
    _check_values(batch, iou, beta)
    beside = Beside(referee, voc, slices, errors, thresholds, None if report is None else Path(report))
    check_free(save_predictions, report, calibrate, pictures)
    chosen_tiling(tile, overlap)  # what is wrong is said before a model is loaded
    # Masks are asked of a model that says them.
    model_asked = "mask-rcnn" if task == "segm" else None
    how: dict[str, Any] = {"imgsz": imgsz, "device": device, "threads": threads, "amp": amp}
    loaded = open_judged(weights, model=model_asked, offline=offline, listen=listen, say=say, **how)
    if task == "segm" and not says_masks(loaded.recipe):
        raise UsageError(
            f"{loaded.path} is a {loaded.recipe.model}, task segm compares masks of objects; use task bbox"
        )
    of_model = task_of_judged(loaded)
    check_outputs(loaded, save_predictions, pictures, calibrate, beside)
    if beta is not None and of_model != "classify":
        raise UsageError(f"{loaded.path} is no classifier, and --beta is of the classes of pictures; leave it out")
    tiling = seen_tiling(loaded, tile, overlap, say)
    loaded.image_size(imgsz)  # what is wrong with it is said before the data are read
    layout = find_dataset(data, say, loaded.recipe.train.seed)
    layout = task_layout(of_model, layout, loaded.recipe.train.seed)
    truth = task_images(of_model, read_split(layout, split, skip_bad=skip_bad))
    say_split(split, truth, say)
    for line in truth.left_out:
        on_skip(line)
    match = known_classes(loaded, truth, say)
    answers = answers_of(
        loaded,
        truth,
        tiling,
        proposals=given_proposals(proposals, split),
        batch=batch,
        iou=iou,
        imgsz=imgsz,
        device=device,
        workers=workers,
        threads=threads,
        amp=amp,
        listen=listen,
    )
    if of_model == "classify":
        labels, probabilities = answers.classes()
        # known_classes made sure that each class of the data has one of the model's.
        of_data = probabilities[:, [theirs for _, theirs in match.pairs]]
        return classification_scores(labels, of_data, truth.classes, beta)
    title = f"{loaded.name} on {layout.root.resolve().name}, {split}"
    if of_model == "segment":
        maps = _with_labels_of_data(answers.maps(), match)
        if pictures is not None:
            maps = drawn_maps(Path(pictures), truth, maps, PICTURES)
        return score_maps(truth, maps, beside, title)
    rows = with_ids_of_data(answers.rows(masks=task == "segm"), match)
    if save_predictions is not None:
        Path(save_predictions).parent.mkdir(parents=True, exist_ok=True)
        write_results(Path(save_predictions), rows)
    if pictures is not None:
        draw_comparisons(Path(pictures), truth, rows, PICTURES)
    scores = score_detections(truth, rows, task, replace(beside, score_map=loaded.score_map), title)
    if calibrate is None:
        return scores
    assert isinstance(loaded, LoadedModel)
    return _calibrated(scores, truth, rows, loaded, Path(calibrate))


def answers_of(
    loaded: Judged,
    truth: AnnotatedImages,
    tiling: Tiling | None,
    *,
    proposals: Path | None = None,
    batch: int | None = None,
    iou: float | None = None,
    imgsz: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int = 0,
    amp: bool | None = None,
    listen: Listener = lambda event: None,
) -> Answers:
    """What a model, or a graph, is going to say of annotated images, as it was trained where nothing else is said.

    Args:
        tiling: how larger images are cut; None sees each whole.
        proposals: the file of them, for a model that is fed by them.
        device, threads: of a model in PyTorch; those of a graph were chosen when it was opened.
        others: as for `evaluate`.

    Raises:
        DataError, UsageError: as `task_dataset`.
    """
    recipe = loaded.recipe
    samples = task_dataset(recipe, truth, proposals=proposals)
    count = counted_images(len(samples), listen)
    together = batch or recipe.train.batch
    if isinstance(loaded, LoadedGraph):
        return GraphAnswers(loaded, truth, samples, tiling, together, iou, count)
    where, image_size = choose_device(device), loaded.image_size(imgsz)
    use_threads(threads)
    return ModelAnswers(
        loaded,
        loaded.model.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]
        truth,
        split_loader(samples, image_size, together, workers, where, frame_multiple_of(loaded.model)),
        tiling,
        image_size,
        together,
        iou,
        device=where,
        amp=recipe.train.amp if amp is None else amp,
        on_images=count,
    )


def seen_tiling(loaded: Judged, tile: int | None, overlap: float | None, say: Callable[[str], None]) -> Tiling | None:
    """How larger images are cut: as asked, else as the model learnt to see them, which is said.

    Raises:
        UsageError: the model cannot be judged by tiles.
    """
    tiling = chosen_tiling(tile, overlap, loaded.tiling)
    if tiling is not None:
        check_tiled(loaded.path, loaded.recipe)
        if tile is None:
            say(f"Tiles of {tiling.size} px, overlapping by {tiling.overlap:g}, as trained")
    return tiling


def _calibrated(
    scores: CocoScores, truth: AnnotatedImages, rows: Sequence[Mapping[str, Any]], loaded: LoadedModel, file: Path
) -> CocoScores:
    """The scores with a map of the model's own scores, which a copy of its weights file gets."""
    fitted = fit_score_map(truth, rows, scores.task)
    save_calibrated(file, loaded, fitted.map)
    return replace(scores, calibration=fitted)


def score_maps(
    truth: AnnotatedImages, maps: Iterator[NDArray[np.uint8]], beside: Beside, title: str
) -> SegmentationScores:
    """The scores of maps as they pass, and the report on them."""
    if beside.report is None:
        return count_maps(maps, truth, boundaries=True, intervals=True)
    seen = SeenMaps(truth)
    scores = count_maps(seen.passing(maps), truth, boundaries=True, intervals=True)
    report_maps(beside.report, title, truth, scores, seen)
    return scores


def _check_values(batch: int | None, iou: float | None, beta: float | None) -> None:
    """Raises UsageError where one is out of range."""
    if beta is not None and not 0 < beta < math.inf:
        raise UsageError(f"beta must be above 0, got {beta:g}; 2 counts recall twice as much as precision")
    if batch is not None and batch < 1:
        raise UsageError(f"batch must be at least 1, got {batch}; use a larger value, or leave it out")
    if iou is not None and not 0 <= iou <= 1:
        raise UsageError(f"iou must be between 0 and 1, got {iou}; choose a value such as 0.5")


def evaluate_predictions(
    predictions: str | Path,
    annotations: str | Path,
    *,
    task: Task = "bbox",
    report: str | Path | None = None,
    images: str | Path | None = None,
    referee: bool = False,
    voc: bool = False,
    slices: bool = False,
    errors: bool = False,
    thresholds: bool = False,
    skip_bad: bool = False,
    on_skip: Callable[[str], None] = lambda line: None,
) -> CocoScores:
    """The COCO scores of a results file, whoever made it, against a ground truth file.

    Args:
        report: an HTML file, as `evaluate` writes it; `images`: the folder that its pictures are taken from.
        referee, voc, slices, errors, thresholds: as for `evaluate`.
        skip_bad: leave items in error out of both, and so predictions on images that were left out, instead of
            refusing the files.
        on_skip: told those items, a line each.

    Raises:
        DataError: a file is missing or broken, or they do not belong together.
    """
    check_free(None, report)
    if images is not None and report is None:
        raise UsageError("--images are for the pictures of a --report; leave it out")
    truth = read_coco(Path(annotations), skip_bad=skip_bad)
    for line in truth.left_out:
        on_skip(line)
    rows = read_results(Path(predictions), truth, on_skip if skip_bad else None)
    beside = Beside(referee, voc, slices, errors, thresholds, None if report is None else Path(report))
    return score_detections(truth, rows, task, beside, f"{Path(predictions).name} on {truth.source.name}", images)


def split_loader(
    data: Samples, image_size: int, batch: int, workers: int | None, device: torch.device, multiple: int | None = None
) -> BatchLoader:
    """The letterboxed batches of a dataset, in its order; where there is a `multiple`, as of `letterbox`, images of one
    shape after another.

    Args:
        workers: the most processes that may read images; None: as many as the machine can spare. For a model on a CPU,
            which takes longer for an image than reading it does, one is enough.
    """
    most = max(1, (os.cpu_count() or 1) - 1) if workers is None else workers
    readers = min(most, 1 if device.type == "cpu" else READERS)
    view = EvaluationView(data, image_size, multiple)
    return evaluation_loader(view, batch=batch, workers=readers, pin_memory=device.type == "cuda")


def counted_images(total: int, listen: Listener) -> Callable[[int], None]:
    """Tells `listen` of every few images that are through how many that makes."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        listen(EvaluationProgress(done, total))

    return count


def known_classes(loaded: Judged, truth: AnnotatedImages, say: Callable[[str], None]) -> ClassMatch:
    """The data's classes among the model's, by name; where the tables differ, that is said.

    Raises:
        DataError: the model does not know each of them; a table of both is its note.
    """
    match = match_classes(truth.classes, loaded.classes)
    count = len(match.wanted)
    if match.missing:
        error = DataError(
            f"{loaded.path} must know all {count} classes of {truth.source}, but {len(match.missing)} are not among "
            f"its {len(match.given)}{in_brackets(match.missing)}; rename classes, or evaluate on data with the model's"
        )
        error.add_note(_table(match))
        raise error
    for ours, theirs in match.respelled:
        say(f"Classes: {ours} in the data is {theirs} in the model")
    if match.unused:
        say(
            f"Classes: only the {count} of the data count, of {len(match.given)} the model knows; left out"
            f"{in_brackets(match.unused)}"
        )
    return match


def _table(match: ClassMatch) -> str:
    """Category ids and names side by side, a class a row, those of the data first."""
    ours = [f"{i} {name}" for i, name in zip(match.wanted.category_ids, match.wanted.names, strict=True)]
    theirs = [f"{i} {name}" for i, name in zip(match.given.category_ids, match.given.names, strict=True)]
    rows = [("in the data", "in the model")]
    rows += [(name, "-" if found is None else theirs[found]) for name, found in zip(ours, match.labels, strict=True)]
    rows += [("-", name) for label, name in enumerate(theirs) if label not in match.labels]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {right}" for left, right in rows)


def _with_labels_of_data(maps: Iterator[NDArray[np.uint8]], match: ClassMatch) -> Iterator[NDArray[np.uint8]]:
    """Maps of the model's labels -> of the data's; what the data has no class for is wrong wherever it is judged."""
    ours = np.full(256, 255, np.uint8)
    for label, theirs in match.pairs:
        ours[theirs] = label
    return (ours[labels] for labels in maps)


def with_ids_of_data(rows: Sequence[Mapping[str, Any]], match: ClassMatch) -> list[dict[str, Any]]:
    """COCO results in the model's category ids -> those of the data's classes, in the data's ids."""
    ids = {match.given.category_ids[theirs]: match.wanted.category_ids[ours] for ours, theirs in match.pairs}
    return [{**row, "category_id": ids[row["category_id"]]} for row in rows if row["category_id"] in ids]
