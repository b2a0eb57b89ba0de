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
from visionkit.imaging.letterbox import letterbox
from visionkit.predict.backend import Backend
from visionkit.predict.detect import LoadedImage
from visionkit.predict.why import why_document
from visionkit.result import Result


def with_why(
    pairs: Iterable[tuple[LoadedImage, Result]],
    backend: Backend,
    *,
    conf: float,
    iou: float | None,
    max_det: int,
    classes: Sequence[str] | None,
    tiled: bool,
) -> Iterator[tuple[LoadedImage, Result]]:
    """The same images and results, each with its `why`.

    Args:
        conf, iou, max_det, classes: what the results were asked for with.
        tiled: whether larger images were cut into tiles.

    Raises:
        UsageError: not a detector in PyTorch, or tiles. Raised at the call, before an image is read.
    """
    if tiled:
        raise UsageError("why is told of one look at a whole image, --tile asks for several; leave one of them out")
    if not isinstance(backend, TorchBackend):
        raise UsageError("why is told by models in PyTorch; name a .safetensors file by --weights")
    require_explainable(backend.model)
    options: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "classes": classes}
    return ((image, replace(result, why=why_detections(backend, image.pixels, **options))) for image, result in pairs)


def why_detections(
    backend: TorchBackend,
    pixels: NDArray[np.uint8],
    *,
    conf: float,
    iou: float | None,
    max_det: int,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Why a model detects in a picture what it does: the document of `visionkit.predict.why`.

    The model looks once more, so that to look without this question costs nothing.

    Args:
        backend: of a detector.
        pixels: u8 [H, W, 3] RGB, upright.
        conf, iou, max_det, classes: as `Detector.detect` takes them.
    """
    square, frame = letterbox(pixels, backend.image_size)
    images = torch.from_numpy(square[None]).permute(0, 3, 1, 2)
    outputs = run_model(backend.model, images, device=backend.device, amp=backend.amp)
    (made,) = decisions(backend.model, outputs, score=conf, iou=iou, max_det=max_det)
    names = backend.classes.names
    wanted = None if classes is None else np.array([names.index(name) for name in classes], np.int64)
    return why_document(raw_why(made), frame, backend.classes, wanted)
