"""A model and its graph look at the same images one after the other: each look is compared once, and none twice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.exporting import side_by_side
from visionkit.exporting.parity import MapParity
from visionkit.exporting.side_by_side import Compared, Heard
from visionkit.predict.backend import Raw, RawMap
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.tiling import Tiling

ASKED = {"score": 0.5, "iou": None, "max_det": 9}


class Seeing:
    """A segmenter whose two scores of a pixel are its red and its green."""

    name, sha256 = "seeing", "ab"
    classes = ClassTable((1, 2), ("red", "green"))
    image_size = 4

    def __init__(self) -> None:
        self.looks = 0

    def run(self, images: NDArray[np.uint8], **asked: object) -> Sequence[Raw]:
        self.looks += len(images)
        return [RawMap(image.transpose(2, 0, 1)[:2].astype(np.float32)) for image in images]


def squares(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def test_what_the_model_said_is_compared_and_not_asked_again() -> None:
    model, parity = Seeing(), MapParity()
    heard = Heard(model)
    graph = Compared(Seeing(), heard, parity)
    for images in (squares(2), squares(3)):
        heard.run(images, **ASKED)
    for images in (squares(2), squares(3)):
        graph.run(images, **ASKED)
    assert (model.looks, parity.images, parity.unmatched) == (5, 5, 0)
    # It has said nothing of these yet, so it is asked.
    graph.run(squares(1), **ASKED)
    assert (model.looks, parity.images, parity.unmatched) == (6, 6, 0)


def test_more_maps_than_are_kept_are_asked_for_again_in_their_turn() -> None:
    model, parity = Seeing(), MapParity()
    heard = Heard(model)
    graph = Compared(Seeing(), heard, parity)
    # Of looks at 10, 10 and 6 maps the first and the last are kept, 16 maps.
    assert side_by_side.MOST_MAPS == 16
    looks = [squares(10), squares(10) // 2, squares(6)]
    for images in looks:
        heard.run(images, **ASKED)
    for images in looks:
        graph.run(images, **ASKED)
    assert (model.looks, parity.images, parity.unmatched) == (26 + 10, 26, 0)


def test_each_tile_of_a_picture_is_a_look() -> None:
    parity = MapParity()
    # Of 40 x 70 px two rows of three tiles of 32 px.
    image = LoadedImage("", np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8))
    heard = Heard(Seeing())
    maps = []
    for side in (heard, Compared(Seeing(), heard, parity)):
        ((_, result),) = detect_loaded(side, [image], batch=4, tiling=Tiling(32, overlap=0.0))
        maps.append(result.semantic)
    assert (maps[0] == maps[1]).all()
    assert (parity.images, parity.unmatched) == (6, 0)
