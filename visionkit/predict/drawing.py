"""Pictures of results: boxes with labels that read on any background, and truth beside prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.predict.colours import GREY, INK, WHITE, Colour, class_colour
from visionkit.predict.labels import Label, draw_label, place_labels, stack_labels
from visionkit.predict.lettering import fit_text, text_width, write_line
from visionkit.predict.maps import strips
from visionkit.result import Result, Rle

Image = NDArray[np.uint8]

# What is left of the light beside a line: so little that on any background any class's colour stands out by 3 to 1 from
# it or from what lies beyond. Lines need that (WCAG 2.1, 1.4.11).
_EDGE_SHADE = 0.1
# And where masks end.
_BORDER_SHADE = 0.65
# Of a class's colour over a picture: what lies beneath must still be recognised.
_OPACITY = 0.55
# Comparisons of images with sides shorter than this are enlarged.
SMALLEST_COMPARED = 320


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes in pixels that fit an image: lines, the dark edge that lifts them off any background, letters."""

    line: int
    edge: int
    letters: int

    @classmethod
    def for_image(cls, image: Image) -> Pen:
        side = math.sqrt(image.shape[0] * image.shape[1])
        line = max(1, round(side / 210))
        return cls(line=line, edge=max(1, round(line / 4)), letters=max(10, round(side / 45)))


def draw(image: Image, result: Result) -> Image:
    """A copy of an image with its result drawn on: a box, a name and a score each, one colour a class; of a calibrated
    model also the share that is right of those with such a score, `cat 0.87 (93%)`. A picture's classes stand in its
    upper left corner, the best ones, one below the other. A semantic map lies over it, with a legend below, so the
    picture is higher then.

    Lines and letters scale with the image. Labels stay inside it and dodge one another; where there is little room
    they lose the score, then letters, and where they could not be read, in a dense crowd or a tiny image, they are
    left out: the box and its colour stay.

    Args:
        image: u8 [H, W, 3] RGB, upright.
        result: of this image.

    Returns:
        u8 [H, W, 3] RGB.
    """
    if result.semantic is not None:
        return draw_map(image, result.semantic, result.classes.names, result.labels.tolist(), _wordings(result))
    canvas = image.copy()
    if result.task == "classify":
        _draw_classes(canvas, result, Pen.for_image(canvas))
    else:
        pen = Pen.for_image(canvas)
        _draw_masks(canvas, result.masks or (), _colours(result), pen)
        _draw_detections(canvas, result, pen)
    return canvas


def _draw_masks(canvas: Image, masks: Sequence[Rle], colours: Sequence[Colour], pen: Pen, factor: int = 1) -> None:
    """The colour of each object over its pixels, darker at their borders, in place; where several lie, that of the
    first. A pixel of a mask is `factor` x `factor` of the canvas."""
    if not masks:
        return
    from visionkit.formats.object_shapes import cutout  # noqa: PLC0415 - boxes alone do without it, and pycocotools

    free = np.ones(canvas.shape[:2], np.bool_)
    for rle, colour in zip(masks, colours, strict=True):
        found = cutout(rle)
        if found is None:
            continue
        pixels, box = found
        left, top, width, height = (factor * int(value) for value in box)
        window = slice(top, top + height), slice(left, left + width)
        mask = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1) & free[window]
        free[window] &= ~mask
        border = mask & ~_eroded(mask, pen.edge)
        part = canvas[window]
        tinted = (1 - _OPACITY) * part[mask] + _OPACITY * np.array(colour, np.float32)
        tinted[border[mask]] *= _BORDER_SHADE
        part[mask] = np.round(tinted).astype(np.uint8)


def _eroded(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """The pixels of a mask [H, W] all of whose neighbours are in it too, as far as so many pixels to each side."""
    square = np.ones((2 * by + 1, 2 * by + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inside).astype(np.bool_)


def draw_truth(image: Image, boxes: NDArray[np.float32], labels: Sequence[int], names: Sequence[str]) -> Image:
    """A copy of an image with its annotated objects drawn on, in the colours their classes have in results.

    Args:
        image: u8 [H, W, 3] RGB.
        boxes: f32 [G, 4] x1 y1 x2 y2, pixels of the image.
        labels: G labels.
        names: K class names.
    """
    canvas = image.copy()
    colours = [class_colour(int(label)) for label in labels]
    _draw_boxes(canvas, boxes, colours, [(one_line(names[label]),) for label in labels], Pen.for_image(canvas))
    return canvas


def draw_map(
    image: Image,
    labels: NDArray[np.uint8],
    names: Sequence[str],
    shown: Sequence[int] = (),
    wordings: Sequence[Sequence[str]] = (),
) -> Image:
    """A copy of an image with a class's colour over each pixel, lines where classes meet, and a legend below.

    Args:
        image: u8 [H, W, 3] RGB.
        labels: u8 [H, W]; a label without a name, such as 255, shows the picture alone.
        names: K class names.
        shown: labels in the legend, in its order; those in the map, by label, where empty.
        wordings: what the legend says of each, the longest first; names where empty.

    Returns:
        u8 [H', W, 3] RGB, H' above H where there is a legend.
    """
    pen = Pen.for_image(image)
    shown = list(shown) or [label for label in np.unique(labels).tolist() if label < len(names)]
    said = list(wordings) or [(one_line(names[label]),) for label in shown]
    return np.vstack([tinted_map(image, labels, len(names)), legend(shown, said, image.shape[1], pen)])


def tinted_map(image: Image, labels: NDArray[np.uint8], classes: int) -> Image:
    """A copy of an image with a class's colour over each pixel, and lines where classes meet.

    Args:
        image: u8 [H, W, 3] RGB.
        labels: u8 [H, W]; one that is no class shows the picture alone.
        classes: how many there are.
    """
    palette = np.zeros((256, 3), np.float32)
    palette[:classes] = [class_colour(label) for label in range(classes)]
    opacity = np.zeros((256, 1), np.float32)
    opacity[:classes] = _OPACITY
    tinted = np.empty_like(image)
    for first, stop in strips(labels):
        part = labels[first:stop]
        edges = np.zeros(part.shape, np.bool_)
        edges[:, 1:] |= part[:, 1:] != part[:, :-1]
        above = int(first == 0)  # the first row of all has none above it
        edges[above:] |= part[above:] != labels[first + above - 1 : stop - 1]
        share = opacity[part]
        blended = image[first:stop] * (1 - share) + palette[part] * share
        blended[edges] *= _BORDER_SHADE
        tinted[first:stop] = np.rint(blended)
    return tinted


def legend(shown: Sequence[int], wordings: Sequence[Sequence[str]], width: int, pen: Pen) -> Image:
    """u8 [h, width, 3]: labels on their colours, side by side, in as many rows as they need."""
    height, gap = round(pen.letters * 1.45), max(2, round(pen.letters * 0.3))
    rows: list[list[tuple[int, Label]]] = []
    left = width
    for number, words in zip(shown, wordings, strict=True):
        text = fit_text(words, pen.letters, max(1, width - 4 * gap))
        wide = min(width - 2 * gap, text_width(text, pen.letters) + 2 * gap)
        if left + gap + wide > width or not rows:
            rows.append([])
            left = 0
        top = (len(rows) - 1) * (height + gap) + gap
        rows[-1].append((number, Label(text, left + gap, top, wide, height)))
        left += gap + wide
    strip = np.full((len(rows) * (height + gap) + gap * bool(rows), width, 3), INK, np.uint8)
    for number, label in (entry for row in rows for entry in row):
        if label.width > 0:
            draw_label(strip, label, class_colour(number), pen.letters)
    return strip


def contact_sheet(tiles: Sequence[Image], columns: int = 4) -> Image:
    """Images u8 [S, S, 3] of one size as one picture, row by row; empty places are black."""
    blank = np.zeros_like(tiles[0])
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)])


def draw_comparison(
    image: Image,
    truth_boxes: NDArray[np.float32],
    truth_names: Sequence[str],
    result: Result,
    truth_masks: Sequence[Rle | None] = (),
) -> Image:
    """Truth on the left, prediction on the right, where the truth shows as dashes. A legend above says so.

    Small images are enlarged first, for eyes to judge.

    Args:
        image: u8 [H, W, 3] RGB, upright.
        truth_boxes: f32 [G, 4] x1 y1 x2 y2, pixels of the image.
        truth_names: G class names; those the model knows get the model's colours.
        result: of this image.
        truth_masks: of the size of the image, None where one is not known; or none at all. Where several lie, the
            smallest shows.

    Returns:
        u8 [H', W', 3] RGB, two panels and a legend.
    """
    factor = math.ceil(SMALLEST_COMPARED / max(image.shape[:2]))
    left = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    right = left.copy()
    pen = Pen.for_image(left)

    boxes = np.asarray(truth_boxes, np.float32).reshape(-1, 4) * factor
    known = {name: class_colour(label) for label, name in enumerate(result.classes.names)}
    colours = [known.get(name, GREY) for name in truth_names]
    if truth_masks:
        by_size = sorted(zip(_areas(boxes), truth_masks, colours, strict=True), key=lambda entry: entry[0])
        shown = [(mask, colour) for _, mask, colour in by_size if mask is not None]
        _draw_masks(left, [mask for mask, _ in shown], [colour for _, colour in shown], pen, factor)
    _draw_boxes(left, boxes, colours, [(one_line(name),) for name in truth_names], pen)
    _draw_masks(right, result.masks or (), _colours(result), pen, factor)
    for box in boxes:
        _draw_outline(right, box, WHITE, pen, dashed=True)
    _draw_detections(right, result, pen, factor)

    panels = (
        with_caption(left, (f"truth: {_objects(len(boxes))}", "truth"), pen),
        with_caption(right, (f"predicted: {_objects(len(result))}   (dashes: truth)", "predicted", "pred"), pen),
    )
    gap = np.full((panels[0].shape[0], max(2, pen.line * 2), 3), INK, np.uint8)
    return np.hstack([panels[0], gap, panels[1]])


def _draw_detections(canvas: Image, result: Result, pen: Pen, factor: int = 1) -> None:
    """Draw the boxes of a result in place, its coordinates times `factor`."""
    _draw_boxes(canvas, result.boxes * factor, _colours(result), _wordings(result), pen)


def _colours(result: Result) -> list[Colour]:
    return [class_colour(int(label)) for label in result.labels]


def _wordings(result: Result) -> list[tuple[str, ...]]:
    """What a label may say, the longest first."""
    names = [one_line(result.classes.names[label]) for label in result.labels]
    if result.semantic is not None:
        shares = ["<0.1%" if share < 0.0005 else f"{share:.1%}" for share in result.scores]
        return [(f"{name} {share}", name) for name, share in zip(names, shares, strict=True)]
    plain: list[tuple[str, ...]] = [
        (f"{name} {score:.2f}", name) for name, score in zip(names, result.scores, strict=True)
    ]
    if result.confidences is None:
        return plain
    return [(f"{words[0]} ({share:.0%})", *words) for words, share in zip(plain, result.confidences, strict=True)]


def _draw_classes(canvas: Image, result: Result, pen: Pen) -> None:
    """Write the best classes in place."""
    height, width = canvas.shape[:2]
    labels = stack_labels(_wordings(result), letters=pen.letters, size=(width, height))
    for label, number in zip(labels, result.labels.tolist(), strict=False):  # there may be less room than classes
        draw_label(canvas, label, class_colour(number), pen.letters)


def _draw_boxes(
    canvas: Image,
    boxes: NDArray[np.float32],
    colours: Sequence[Colour],
    wordings: Sequence[Sequence[str]],
    pen: Pen,
) -> None:
    """Draw boxes, the most important first, and then their labels, so that no line crosses a label."""
    for index in np.argsort(-_areas(boxes), kind="stable"):  # the small ones on top of the large
        _draw_outline(canvas, boxes[index], colours[index], pen)
    height, width = canvas.shape[:2]
    labels = place_labels(boxes, wordings, letters=pen.letters, line=pen.line, size=(width, height))
    for label, colour in reversed(list(zip(labels, colours, strict=True))):  # where labels touch, the better is whole
        if label is not None:
            draw_label(canvas, label, colour, pen.letters)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, 4] -> [N]: pixels."""
    areas: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _draw_outline(canvas: Image, box: NDArray[np.float32], colour: Colour, pen: Pen, *, dashed: bool = False) -> None:
    """Draw a box whose lines stay inside the image, also where the box touches its border."""
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    half = pen.line / 2
    left, top = max(0, round(x1 - half)), max(0, round(y1 - half))
    right, bottom = min(width, round(x2 + half)), min(height, round(y2 + half))
    edge = pen.edge
    for rows, columns in _sides(left - edge, top - edge, right + edge, bottom + edge, pen.line + 2 * edge):
        patch = canvas[rows, columns]
        patch[:] = patch * _EDGE_SHADE
    for rows, columns in _sides(left, top, right, bottom, pen.line):
        if dashed:
            _draw_dashes(canvas[rows, columns], colour, 4 * pen.line)
        else:
            canvas[rows, columns] = colour


def _draw_dashes(side: Image, colour: Colour, length: int) -> None:
    """Colour every other stretch of a box's side, along its longer direction."""
    along = side if side.shape[0] > side.shape[1] else side.swapaxes(0, 1)
    along[np.arange(along.shape[0]) // length % 2 == 0] = colour


def _sides(left: int, top: int, right: int, bottom: int, line: int) -> Iterator[tuple[slice, slice]]:
    """The four sides of a rectangle as (rows, columns), without overlap."""
    rows = slice(max(0, top + line), max(0, bottom - line))
    yield slice(max(0, top), max(0, top + line)), slice(max(0, left), max(0, right))
    yield slice(max(0, bottom - line, top + line), max(0, bottom)), slice(max(0, left), max(0, right))
    yield rows, slice(max(0, left), max(0, left + line))
    yield rows, slice(max(0, right - line, left + line), max(0, right))


def with_caption(panel: Image, wordings: Sequence[str], pen: Pen) -> Image:
    strip = np.full((2 * pen.letters, panel.shape[1], 3), INK, np.uint8)
    margin = round(pen.letters * 0.5)
    write_line(strip, fit_text(wordings, pen.letters, panel.shape[1] - 2 * margin), pen.letters, WHITE, margin)
    return np.vstack([strip, panel])


def _objects(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"


def one_line(name: str) -> str:
    return " ".join(name.split())
