"""What a detector, or a graph of one, says of annotated images that are at hand, whatever split they are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from visionkit.api.evaluate import answers_of, known_classes, with_ids_of_data
from visionkit.api.judged import Judged
from visionkit.engine.events import Listener
from visionkit.formats.records import AnnotatedImages
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
        DataError, UsageError: as `known_classes` and `answers_of`, or an image cannot be read.
    """
    match = known_classes(loaded, truth, say)
    answers = answers_of(loaded, truth, tiling, proposals=proposals, device=device, threads=threads, listen=listen)
    return with_ids_of_data(answers.rows(masks=masks), match)
