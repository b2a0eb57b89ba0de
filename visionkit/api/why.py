"""Why a detector says what it says of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionkit.engine.explain import decisions, raw_why, require_explainable, run_model
from visionkit.engine.torch_backend import TorchBackend
from visionkit.errors import UsageError
from visionkit.imaging.letterbox import Frame, letterbox
from visionkit.predict.backend import Backend
from visionkit.predict.detect import LoadedImage
from visionkit.predict.merging import Found, found_in, merged_places
from visionkit.predict.tiling import Tiling
from visionkit.predict.why import RawWhy, joined_why, why_document
from visionkit.result import Result


def with_why(
    pairs: Iterable[tuple[LoadedImage, Result]],
    backend: Backend,
    *,
    conf: float,
    iou: float | None,
    max_det: int,
    classes: Sequence[str] | None,
    tiling: Tiling | None,
) -> Iterator[tuple[LoadedImage, Result]]:
    """The same images and results, each with its `why`.

    Args:
        conf, iou, max_det, classes, tiling: what the results were asked for with.

    Raises:
        UsageError: not a detector in PyTorch. Raised at the call, before an image is read.
    """
    if not isinstance(backend, TorchBackend):
        raise UsageError("why is told by models in PyTorch; name a .safetensors file by --weights")
    require_explainable(backend.model)
    options: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "classes": classes, "tiling": tiling}
    return ((image, replace(result, why=why_detections(backend, image.pixels, **options))) for image, result in pairs)


def why_detections(
    backend: TorchBackend,
    pixels: NDArray[np.uint8],
    *,
    conf: float,
    iou: float | None,
    max_det: int,
    classes: Sequence[str] | None = None,
    tiling: Tiling | None = None,
) -> dict[str, Any]:
    """Why a model detects in a picture what it does: the document of `visionkit.predict.why`.

    The model looks once more, so that to look without this question costs nothing.

    Args:
        backend: of a detector.
        pixels: u8 [H, W, 3] RGB, upright.
        conf, iou, max_det, classes: as `Detector.detect` takes them.
        tiling: how larger pictures are cut; None sees each whole.
    """
    names = backend.classes.names
    wanted = None if classes is None else np.array([names.index(name) for name in classes], np.int64)

    def look(part: NDArray[np.uint8]) -> tuple[RawWhy, Frame]:
        square, frame = letterbox(part, backend.image_size, multiple=backend.frame_multiple)
        images = torch.from_numpy(square[None]).permute(0, 3, 1, 2)
        outputs = run_model(backend.model, images, device=backend.device, amp=backend.amp)
        (made,) = decisions(backend.model, outputs, score=conf, iou=iou, max_det=max_det)
        return raw_why(made), frame

    grid = None if tiling is None else tiling.grid(*pixels.shape[:2])
    if grid is None:
        return why_document(*look(pixels), backend.classes, wanted)
    documents, parts = [], []
    for view, window in enumerate(grid.views):
        left, top, right, bottom = window
        raw, frame = look(pixels[top:bottom, left:right])
        documents.append(why_document(raw, frame.at(left, top), backend.classes, wanted))
        parts.append(found_in(raw.kept(), frame, window, grid.size, view))
    found = Found.joined(parts)
    return joined_why(documents, grid.views, found, merged_places(found, max_det), wanted)
