"""Pictures of semantic maps for eyes to judge: truth beside prediction beside errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionkit.predict.colours import INK, Colour
from visionkit.predict.drawing import SMALLEST_COMPARED, Image, Pen, legend, one_line, tinted_map, with_caption
from visionkit.predict.maps import NO_CLASS

WRONG: Colour = (235, 40, 60)
"""The colour of wrong pixels, over a grey picture that has no other."""

_WRONG_OPACITY = 0.75
_RIGHT_SHADE = 0.8
_UNJUDGED_SHADE = 0.3


def draw_map_comparison(
    image: Image, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], names: Sequence[str]
) -> Image:
    """Truth on the left, prediction in the middle, and on the right the wrong pixels in red on the grey picture, dark
    where no one judges. Captions above say so, the one of the errors with their share of the judged pixels; a legend
    below names the classes that either map has.

    Small images are enlarged first.

    Args:
        image: u8 [H, W, 3] RGB, upright.
        truth: u8 [H, W]; 255 is not judged.
        predicted: u8 [H, W].
        names: K class names.

    Returns:
        u8 [H', W', 3] RGB, three panels, captions and a legend.
    """
    factor = math.ceil(SMALLEST_COMPARED / max(image.shape[:2]))
    image, truth, predicted = (
        np.repeat(np.repeat(values, factor, axis=0), factor, axis=1) for values in (image, truth, predicted)
    )
    pen = Pen.for_image(image)
    judged = truth != NO_CLASS
    wrong = judged & (truth != predicted)
    share = wrong.sum() / judged.sum() if judged.any() else 0.0
    panels = [
        with_caption(tinted_map(image, truth, len(names)), ("truth",), pen),
        with_caption(tinted_map(image, predicted, len(names)), ("predicted", "pred"), pen),
        with_caption(_errors(image, wrong, judged), (f"wrong: {share:.1%} of judged pixels", f"{share:.1%}"), pen),
    ]
    gap = np.full((panels[0].shape[0], max(2, pen.line * 2), 3), INK, np.uint8)
    beside = np.hstack([panels[0], gap, panels[1], gap, panels[2]])
    shown = [label for label in np.union1d(truth, predicted).tolist() if label < len(names)]
    said = [(one_line(names[label]),) for label in shown]
    return np.vstack([beside, legend(shown, said, beside.shape[1], pen)])


def _errors(image: Image, wrong: NDArray[np.bool_], judged: NDArray[np.bool_]) -> Image:
    """The picture in grey, wrong pixels in `WRONG`."""
    grey = np.repeat(image.mean(axis=2, keepdims=True, dtype=np.float32), 3, axis=2)
    grey *= np.where(judged, np.float32(_RIGHT_SHADE), np.float32(_UNJUDGED_SHADE))[..., None]
    grey[wrong] = (1 - _WRONG_OPACITY) * grey[wrong] + _WRONG_OPACITY * np.array(WRONG, np.float32)
    drawn: Image = np.rint(grey).astype(np.uint8)
    return drawn
