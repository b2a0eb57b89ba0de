"""What a detector, or a graph of one, says of annotated images that are at hand, whatever split they are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from visionkit.api.answers import Answers, GraphAnswers, ModelAnswers
from visionkit.api.evaluate import counted_images, known_classes, split_loader
from visionkit.api.judged import Judged, LoadedGraph
from visionkit.api.task_data import task_dataset
from visionkit.engine.device import choose_device, use_threads
from visionkit.engine.events import Listener
from visionkit.formats.records import AnnotatedImages
from visionkit.models.assembly import frame_multiple_of
from visionkit.predict.tiling import Tiling


def detector_rows(
    loaded: Judged,
    truth: AnnotatedImages,
    tiling: Tiling | None,
    *,
    masks: bool = False,
    proposals: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    listen: Listener = lambda event: None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """COCO results rows in the data's category ids, those that `evaluate` judges: image size, batch, precision and NMS
    are the model's own. Of a model with more classes than the data, only detections of the data's are there.

    Args:
        tiling: how larger images are cut; None sees each whole.
        masks: whether a model that says masks is asked for them.
        proposals: the file of them, for a model that is fed by them.
        device, threads: of a model in PyTorch; those of a graph were chosen when it was opened.
        say: told where the classes differ.

    Raises:
        DataError, UsageError: as `known_classes` and `task_dataset`, or an image cannot be read.
    """
    recipe = loaded.recipe
    match = known_classes(loaded, truth, say)
    samples = task_dataset(recipe, truth, proposals=proposals)
    count = counted_images(len(samples), listen)
    answers: Answers
    if isinstance(loaded, LoadedGraph):
        answers = GraphAnswers(loaded, truth, samples, tiling, recipe.train.batch, None, count)
    else:
        where = choose_device(device)
        use_threads(threads)
        multiple = frame_multiple_of(loaded.model)
        answers = ModelAnswers(
            loaded,
            loaded.model.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]
            truth,
            split_loader(samples, recipe.imgsz, recipe.train.batch, None, where, multiple),
            tiling,
            recipe.imgsz,
            recipe.train.batch,
            None,
            device=where,
            amp=recipe.train.amp,
            on_images=count,
        )
    ids = {match.given.category_ids[theirs]: match.wanted.category_ids[ours] for ours, theirs in match.pairs}
    rows = answers.rows(masks=masks)
    return [{**row, "category_id": ids[row["category_id"]]} for row in rows if row["category_id"] in ids]
