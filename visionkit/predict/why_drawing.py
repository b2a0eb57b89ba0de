"""Pictures of why: what a detector kept and what that suppressed; and what became of each annotated object."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.predict.colours import GREY, INK, WHITE, Colour, class_colour
from visionkit.predict.drawing import Image, Pen, draw
from visionkit.predict.labels import draw_label, place_labels
from visionkit.predict.lettering import fit_text, write_line
from visionkit.predict.why_words import STEP_WORDS, outcome_words, suppressed_words
from visionkit.result import Result

MOST_NAMED = 8
"""Of the thin boxes so many of the best have a label, where there is room."""

_SMALLEST = 960
"""Images of objects with shorter sides are enlarged: what became of an object takes words."""

FOUND: Colour = (63, 185, 80)
LOST: Colour = (248, 81, 73)


def draw_why(image: Image, result: Result) -> Image:
    """As `visionkit.predict.drawing.draw`, with all that was suppressed in thin lines beneath, the best of it labelled
    with the box that removed it, and a strip below that counts.

    Args:
        image: u8 [H, W, 3] RGB, upright.
        result: of this image, with its `why`.

    Returns:
        u8 [H', W, 3] RGB, H' above H.
    """
    assert result.why is not None
    candidates: Sequence[Mapping[str, Any]] = result.why["candidates"]
    thin = [one for one in candidates if one["fate"] in ("suppressed", "beyond_max_det")]
    pen, canvas = Pen.for_image(image), image.copy()
    for one in reversed(thin):  # the better ones on top
        _outline(canvas, one["bbox"], class_colour(one["label"]), _thin(pen), edge=False)
    canvas = draw(canvas, result)

    named = thin[:MOST_NAMED]
    wordings: list[tuple[str, ...]] = [
        suppressed_words(one, candidates[one["by"]]) if "by" in one else ("beyond max_det",) for one in named
    ]
    # The labels of what is kept have their places first, as `draw` gave them.
    kept = [
        (f"{result.classes.names[label]} {score:.2f}",)
        for label, score in zip(result.labels, result.scores, strict=True)
    ]
    boxes = np.concatenate([result.boxes, _boxes([one["bbox"] for one in named])])
    size = (image.shape[1], image.shape[0])
    labels = place_labels(
        boxes, [*kept, *wordings], letters=pen.letters, line=pen.line, size=size, in_sight=result.boxes
    )
    for label in reversed(labels[len(kept) :]):
        if label is not None:
            draw_label(canvas, label, INK, pen.letters)
    return _with_words(canvas, [_count_words(result.why), _count_words(result.why, short=True)], pen)


def _count_words(why: Mapping[str, Any], short: bool = False) -> str:
    counts, settings = why["counts"], why["settings"]
    words = [f"{counts['kept']:,} kept", f"{counts['suppressed']:,} suppressed at IoU > {settings['iou']:g} (thin)"]
    if counts["beyond_max_det"]:
        words.append(f"{counts['beyond_max_det']:,} beyond the best {settings['max_det']:,}")
    return "; ".join([*words, *([] if short else [f"{counts['below_conf']:,} scored below {settings['conf']:g}"])])


def draw_objects_why(image: Image, document: Mapping[str, Any]) -> Image:
    """The annotated objects of an image, green where found and red where lost, each with what became of it; the
    candidates that came farthest in thin lines; and a strip below that counts. Small images are enlarged.

    Args:
        image: u8 [H, W, 3] RGB, upright.
        document: of `visionkit.api.why.why_objects`.

    Returns:
        u8 [H', W', 3] RGB.
    """
    factor = math.ceil(_SMALLEST / max(image.shape[:2]))
    canvas = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    pen = Pen.for_image(canvas)
    # The lost ones have their labels first, what is ignored last.
    numbered = sorted(
        enumerate(document["objects"], start=1), key=lambda pair: (pair[1]["ignored"], pair[1].get("step") == "found")
    )
    objects = [_enlarged(row, factor) for _, row in numbered]
    colours = [_outcome_colour(row) for row in objects]
    for row, colour in zip(objects, colours, strict=True):
        if "candidate" in row:
            _outline(canvas, row["candidate"], colour, _thin(pen), edge=False)
    for row, colour in zip(objects, colours, strict=True):
        _outline(canvas, row["bbox"], colour, pen.line)
    wordings = [
        (*(f"{number} {row['name']}: {words}" for words in outcome_words(row)), f"{number} {row['name']}", str(number))
        for number, row in numbered
    ]
    boxes = _boxes([row["bbox"] for row in objects])
    size = (canvas.shape[1], canvas.shape[0])
    labels = place_labels(boxes, wordings, letters=pen.letters, line=pen.line, size=size)
    for label, colour in reversed(list(zip(labels, colours, strict=True))):
        if label is not None:
            draw_label(canvas, label, colour, pen.letters)
    steps = Counter(row["step"] for row in objects if "step" in row)
    counts = ", ".join(f"{steps[step]:,} {words}" for step, words in STEP_WORDS.items() if steps[step])
    count = steps.total()
    what = f"{count:,} object{'s' * (count != 1)}: {counts}" if count else "no objects"
    return _with_words(canvas, [f"{what}   (thin: the candidate that came farthest)", what], pen)


def _enlarged(row: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """An object whose boxes are so many times as large."""
    boxes = {name: [factor * corner for corner in row[name]] for name in ("bbox", "candidate") if name in row}
    return {**row, **boxes}


def _outcome_colour(row: Mapping[str, Any]) -> Colour:
    if "step" not in row:
        return GREY
    return FOUND if row["step"] == "found" else LOST


def _boxes(boxes: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _thin(pen: Pen) -> int:
    return max(1, pen.line // 2)


def _outline(canvas: Image, box: Sequence[float], colour: Colour, line: int, *, edge: bool = True) -> None:
    """Draw a box inside the image; with an edge, on a dark line a little wider, which lifts it off any background."""
    height, width = canvas.shape[:2]
    half = line // 2
    left, top = (max(half, round(corner)) for corner in box[:2])
    right, bottom = min(width - 1 - half, round(box[2])), min(height - 1 - half, round(box[3]))
    for ink, wide in ((INK, line + 2), (colour, line))[not edge :]:
        cv2.rectangle(canvas, (left, top), (max(left, right), max(top, bottom)), ink, wide)


def _with_words(canvas: Image, wordings: Sequence[str], pen: Pen) -> Image:
    strip = np.full((2 * pen.letters, canvas.shape[1], 3), INK, np.uint8)
    margin = round(pen.letters * 0.5)
    write_line(strip, fit_text(wordings, pen.letters, canvas.shape[1] - 2 * margin), pen.letters, WHITE, margin)
    return np.vstack([canvas, strip])
