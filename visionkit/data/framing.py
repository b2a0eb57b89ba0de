"""One image in the network's square: as it is, or flipped, cropped, zoomed, shifted, turned and sheared in one step."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.data.augment import AugmentSettings
from visionkit.data.geometry import (
    MIN_SIDE,
    draw_warped,
    draw_window,
    moved_boxes,
    turned_boxes,
    visible_span,
    with_visible_objects,
)
from visionkit.data.semantic import balanced_window, blank_map, draw_map_window, letterboxed_map, warped_map
from visionkit.imaging.letterbox import PADDING_GREY, Frame, letterbox
from visionkit.types import Sample

MIN_CROP = 0.3
"""A crop keeps at least this share of width and of height: a lone small object is not blown up to fill the frame."""


PART = 1 / 3
"""A crop of a picture to be classified keeps at least this share of its area, but for what its shape costs."""


class Window(NamedTuple):
    """The part of an image that a crop keeps, in whole pixels, half-open."""

    left: int
    top: int
    right: int
    bottom: int


class Motion(NamedTuple):
    """An affine map about the centre.

    Args:
        angle, shear_x, shear_y: radians.
        zoom: factor.
        shift_x, shift_y: shares of the square's side.
    """

    angle: float = 0.0
    shear_x: float = 0.0
    shear_y: float = 0.0
    zoom: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


def letterboxed(
    sample: Sample, size: int, out: NDArray[np.uint8] | None = None, *, multiple: int | None = None
) -> tuple[Sample, Frame]:
    """The sample in the network's square, undistorted and otherwise unchanged; and the way back.

    Args:
        out: u8 to draw on, such as [size, size, 3]; None makes one.
        multiple: as of `letterbox`; a semantic map has the whole square.
    """
    assert multiple is None or sample.semantic is None
    image, frame = letterbox(sample.image, size, out, multiple=multiple)
    semantic = None if sample.semantic is None else letterboxed_map(sample.semantic, frame, size)
    # Edges are two corners, as boxes are.
    lines = sample.outlines
    moved = None if lines is None else replace(lines, edges=frame.to_frame(lines.edges))
    regions = None if sample.proposals is None else frame.to_frame(sample.proposals)
    drawn = sample.redrawn(image, frame.to_frame(sample.boxes))
    return replace(drawn, semantic=semantic, outlines=moved, proposals=regions), frame


def square_frame(size: int) -> Frame:
    """The frame of an image that was composed in the square: there is no original to go back to."""
    return Frame(size, size, 1.0, 1.0, 0, 0)


def random_framing(
    sample: Sample,
    size: int,
    settings: AugmentSettings,
    generator: np.random.Generator,
    out: NDArray[np.uint8] | None = None,
) -> tuple[Sample, Frame]:
    """Bring one image into the network's square, varied as the settings say; colours stay.

    Args:
        sample: in original pixels.
        size: side of the square in pixels.
        generator: the sample's own, from `keyed_generator`.
        out: u8 [size, size, 3] to draw on; None makes one.

    Returns:
        The sample with an image u8 [size, size, 3] and boxes inside it; and its frame, which leads to the original
        where nothing was drawn, else to the square itself.
    """
    mirrored = random_mirroring(settings, generator)
    window = None
    if generator.random() < settings.crop:
        labels = sample.semantic
        window = random_window(sample, generator) if labels is None else Window(*balanced_window(labels, generator))
    motion = random_motion(settings, generator) if generator.random() < settings.affine else None
    if window is None and motion is None and not any(mirrored):
        return letterboxed(sample, size, out)
    return framed(sample, size, mirrored, window, motion, settings.min_visible, out), square_frame(size)


def random_resized_crop(
    sample: Sample,
    size: int,
    settings: AugmentSettings,
    generator: np.random.Generator,
    out: NDArray[np.uint8] | None = None,
) -> tuple[Sample, Frame]:
    """Bring a picture of one class into the network's square, varied as the settings say; colours stay.

    As `random_framing`, but a crop keeps `random_part` of the picture, whatever it cuts, and what is left of the one
    object, the picture itself, is not judged: the label stays.
    """
    mirrored = random_mirroring(settings, generator)
    window = random_part(sample, generator) if generator.random() < settings.crop else None
    motion = random_motion(settings, generator) if generator.random() < settings.affine else None
    if window is None and motion is None and not any(mirrored):
        return letterboxed(sample, size, out)
    image = framed(sample.with_objects(np.zeros(1, np.bool_)), size, mirrored, window, motion, out=out).image
    return sample.redrawn(image, np.array([[0, 0, size, size]], np.float32)), square_frame(size)


def random_part(sample: Sample, generator: np.random.Generator) -> Window:
    """A random window of a share `PART` of the picture's area, or more, and of about its shape.

    Source: Szegedy et al. 2015, Going Deeper with Convolutions, section 6: patches of 8 to 100 % of the area, of an
    aspect ratio from 3/4 to 4/3. Here they begin at a third: what is cut out is an object already.
    """
    height, width = sample.image.shape[:2]
    area, shape = generator.uniform(PART, 1), np.exp(generator.uniform(-1, 1) * np.log(4 / 3) / 2)
    wide, high = (
        int(np.clip(round(side * share), 1, side))
        for side, share in ((width, np.sqrt(area) * shape), (height, np.sqrt(area) / shape))
    )
    left, top = (int(generator.integers(room + 1)) for room in (width - wide, height - high))
    return Window(left, top, left + wide, top + high)


def random_mirroring(settings: AugmentSettings, generator: np.random.Generator) -> tuple[bool, bool]:
    """Whether to mirror left-right and up-down, each by its own probability."""
    left_right, up_down = generator.random(2).tolist()
    return left_right < settings.flip_left_right, up_down < settings.flip_up_down


def random_transpose(sample: Sample, settings: AugmentSettings, generator: np.random.Generator) -> Sample:
    """With probability `settings.transpose`, rows and columns swapped; otherwise the sample itself."""
    if not (settings.transpose and generator.random() < settings.transpose):
        return sample
    image: NDArray[np.uint8] = cv2.transpose(sample.image)  # type: ignore[assignment]
    semantic = None if sample.semantic is None else np.ascontiguousarray(sample.semantic.T)
    lines = None if sample.outlines is None else sample.outlines.transposed()
    regions = None if sample.proposals is None else sample.proposals[:, [1, 0, 3, 2]]
    drawn = sample.redrawn(image, sample.boxes[:, [1, 0, 3, 2]])
    return replace(drawn, semantic=semantic, outlines=lines, proposals=regions)


def random_window(sample: Sample, generator: np.random.Generator) -> Window:
    """A random window around all objects that are not ignored."""
    height, width = sample.image.shape[:2]
    wanted = sample.boxes[~sample.ignore]
    left, right = _random_span(wanted[:, [0, 2]], width, generator)
    top, bottom = _random_span(wanted[:, [1, 3]], height, generator)
    return Window(left, top, right, bottom)


def _random_span(spans: NDArray[np.float32], length: int, generator: np.random.Generator) -> tuple[int, int]:
    """Start and stop of a random window in [0, length] that holds every span [N, 2] and `MIN_CROP` of the length."""
    shortest = max(1, round(length * MIN_CROP))
    if len(spans):
        latest_start = int(np.clip(np.floor(spans.min()), 0, length - shortest))
        earliest_stop = int(np.clip(np.ceil(spans.max()), 0, length))
    else:
        latest_start, earliest_stop = length - shortest, 0
    start = int(generator.integers(latest_start + 1))
    stop = int(generator.integers(max(earliest_stop, start + shortest), length + 1))
    return start, stop


def random_motion(settings: AugmentSettings, generator: np.random.Generator) -> Motion:
    """Turn, shear, zoom and shift within the settings' bounds."""
    angle, shear_x, shear_y, zoom, shift_x, shift_y = generator.uniform(-1, 1, 6).tolist()
    return Motion(
        angle=np.radians(angle * settings.degrees),
        shear_x=np.radians(shear_x * settings.shear),
        shear_y=np.radians(shear_y * settings.shear),
        zoom=1 + zoom * settings.scale,
        shift_x=shift_x * settings.translate,
        shift_y=shift_y * settings.translate,
    )


def framed(
    sample: Sample,
    size: int,
    mirrored: tuple[bool, bool] = (False, False),
    window: Window | None = None,
    motion: Motion | None = None,
    min_visible: float = 0.0,
    out: NDArray[np.uint8] | None = None,
) -> Sample:
    """Mirror, cut to `window`, fit into the square and move there; all in one step. The rest of the square is grey.

    Boxes become the boxes around their moved corners, cut to the square; objects of which less than `min_visible` of
    the area is left are dropped, and where there is a motion those under `MIN_SIDE`; see `visible_objects`.
    """
    height, width = sample.image.shape[:2]
    left, top, right, bottom = window or (0, 0, width, height)
    width, height = right - left, bottom - top
    canvas = np.empty((size, size, 3), np.uint8) if out is None else out
    labels, lines, regions = sample.semantic, sample.outlines, sample.proposals
    move = motion or Motion()
    factor = min(size / width, size / height) * move.zoom
    centre = (size * (0.5 + move.shift_x), size * (0.5 + move.shift_y))
    if move.angle or move.shear_x or move.shear_y:
        sides = (-1 if mirrored[0] else 1, -1 if mirrored[1] else 1)
        linear = factor * _turn(move) * sides
        offset = centre - linear @ (width / 2, height / 2)
        matrix = np.column_stack((linear, offset))
        draw_warped(sample.image[top:bottom, left:right], matrix, canvas)
        if labels is not None:
            labels = warped_map(labels[top:bottom, left:right], matrix, size)
        offset = offset - linear @ (left, top)
        boxes = turned_boxes(sample.boxes, np.column_stack((linear, offset)))
        lines = None if lines is None else lines.moved(linear, offset)
        regions = None if regions is None else turned_boxes(regions, np.column_stack((linear, offset)))
    else:
        across = visible_span(left, width, factor, centre[0] - factor * width / 2, size, mirrored[0])
        down = visible_span(top, height, factor, centre[1] - factor * height / 2, size, mirrored[1])
        if across.extent * down.extent < size * size:
            canvas.fill(PADDING_GREY)
        across, down = draw_window(sample, across, down, canvas)
        if labels is not None:
            source, labels = labels, blank_map(size)
            draw_map_window(source, across, down, labels)
        factors, offsets = np.array((across.map(), down.map()), np.float32).T
        boxes = moved_boxes(sample.boxes, factors, offsets)
        lines = None if lines is None else lines.moved(factors, offsets)
        regions = None if regions is None else moved_boxes(regions, factors, offsets)
    moved = replace(sample.redrawn(canvas, boxes), semantic=labels, outlines=lines, proposals=regions)
    return with_visible_objects(moved, min_visible, MIN_SIDE if motion else 0)


def _turn(motion: Motion) -> NDArray[np.float64]:
    """Rotation after shear, [2, 2]."""
    cosine, sine = np.cos(motion.angle), np.sin(motion.angle)
    rotate = np.array([[cosine, -sine], [sine, cosine]])
    turn: NDArray[np.float64] = rotate @ np.array([[1, np.tan(motion.shear_x)], [np.tan(motion.shear_y), 1]])
    return turn
