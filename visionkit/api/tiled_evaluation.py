"""What a model says of a split whose large images it sees in tiles: by the code that `detect` runs, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from visionkit.api.task_data import task_of, wants_proposals
from visionkit.build import LoadedModel
from visionkit.config import Recipe
from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.evaluate import EVALUATION_MAX_DET, EVALUATION_SCORE, count_maps
from visionkit.engine.evaluate_together import judge_of_maps, judge_of_rows, own_part
from visionkit.engine.torch_backend import TorchBackend
from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages, ImageRecord
from visionkit.imaging.reader import read_image
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.task_scores import TaskScores
from visionkit.predict.backend import Backend
from visionkit.predict.coco_writer import coco_rows
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.made_ahead import made_ahead
from visionkit.predict.tiling import Tiling
from visionkit.result import Result


def check_tiled(path: Path, recipe: Recipe) -> None:
    """Raises UsageError: the model of these weights cannot be judged by tiles."""
    if task_of(recipe) == "classify":
        raise UsageError(f"{path} is a classifier, tiles are for detectors and segmenters; leave out --tile")
    if wants_proposals(recipe):
        raise UsageError(f"{path} is a {recipe.model}, which is fed by proposals on whole images; leave out --tile")


def tiled_scores(
    model: nn.Module,
    recipe: Recipe,
    truth: AnnotatedImages,
    tiling: Tiling,
    *,
    device: torch.device,
    on_images: Callable[[int], None],
    processes: TorchProcesses | None = None,
) -> TaskScores:
    """What `evaluate` with the same tiles says of a model in eval mode, while it is trained and lies in no file yet.

    Args:
        on_images: told how many images are through in this process since it was last told.
        processes: who else is in this call; each looks at its part of the images, and all have the same scores.
    """
    loaded = LoadedModel(model, truth.classes, recipe, {}, Path(), "")  # type: ignore[arg-type]
    items = range(len(truth.images)) if processes is None else own_part(len(truth.images), processes)
    own = replace(truth, images=truth.images[items.start : items.stop])
    results = tiled_as_trained(loaded, own, tiling, device=device, on_images=on_images)
    maps = loaded.model.task == "segment"
    if processes is None:
        return count_maps(tiled_maps(results), truth) if maps else coco_scores(truth, tiled_rows(results))
    if maps:
        return processes.from_first(judge_of_maps(tiled_maps(results), truth, items, processes))
    return processes.from_first(judge_of_rows(tiled_rows(results), truth, processes))


def tiled_as_trained(
    loaded: LoadedModel,
    truth: AnnotatedImages,
    tiling: Tiling,
    *,
    device: torch.device,
    on_images: Callable[[int], None],
) -> Iterator[tuple[ImageRecord, Result]]:
    """`tiled_results` with size, batch and precision of the model's recipe."""
    recipe = loaded.recipe
    return tiled_results(
        loaded,
        truth,
        tiling,
        image_size=recipe.imgsz,
        batch=recipe.train.batch,
        iou=None,
        device=device,
        amp=recipe.train.amp,
        on_images=on_images,
    )


def tiled_rows(results: Iterator[tuple[ImageRecord, Result]]) -> list[dict[str, Any]]:
    """COCO results rows, with the model's category ids."""
    return [row for record, result in results for row in coco_rows(result, record.id)]


def tiled_maps(results: Iterator[tuple[ImageRecord, Result]]) -> Iterator[NDArray[Any]]:
    """Semantic maps u8 [H, W] of the model's labels."""
    for _, result in results:
        assert result.semantic is not None
        yield result.semantic


def tiled_results(
    loaded: LoadedModel,
    truth: AnnotatedImages,
    tiling: Tiling,
    *,
    image_size: int,
    batch: int,
    iou: float | None,
    device: torch.device,
    amp: bool,
    on_images: Callable[[int], None],
) -> Iterator[tuple[ImageRecord, Result]]:
    """Every image of a split with its result, under the thresholds that evaluation uses.

    Args:
        batch: tiles of an image that are run at once.
        iou: NMS threshold; the model's own where None.
        on_images: told how many images are through since it was last told.

    Raises:
        DataError: an image cannot be read.
    """
    backend = TorchBackend(
        loaded.model,
        loaded.classes,
        image_size=image_size,
        device=device,
        amp=amp,
        name=loaded.name,
        sha256=loaded.sha256,
        exact=True,
    )
    return results_on(backend, truth, tiling, batch=batch, iou=iou, on_images=on_images)


def results_on(
    backend: Backend,
    truth: AnnotatedImages,
    tiling: Tiling | None,
    *,
    batch: int,
    iou: float | None,
    on_images: Callable[[int], None],
) -> Iterator[tuple[ImageRecord, Result]]:
    """The same of any backend; images are seen whole where there is no tiling. Each is read while the one before it is
    looked at."""
    for record, image in zip(truth.images, made_ahead(map(_read, truth.images)), strict=True):
        ((_, result),) = detect_loaded(
            backend,
            [image],
            score=EVALUATION_SCORE,
            iou=iou,
            max_det=EVALUATION_MAX_DET,
            batch=batch,
            tiling=tiling,
        )
        on_images(1)
        yield record, result


def _read(record: ImageRecord) -> LoadedImage:
    assert record.path is not None
    return LoadedImage(str(record.path), read_image(record.path))
