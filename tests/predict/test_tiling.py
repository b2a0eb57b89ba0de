"""Large images in tiles: where the tiles lie, maps without seams, each object once, and what it takes."""

import math
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import UsageError
from visionkit.imaging.letterbox import letterbox
from visionkit.predict.backend import Raw, RawClasses, RawDetections, RawMap
from visionkit.predict.blending import blend_weights, blended_labels
from visionkit.predict.detect import LoadedImage, detect_loaded
from visionkit.predict.maps import labels_in_pixels
from visionkit.predict.masks import decoded_mask, pasted_masks
from visionkit.predict.merging import Found, found_in, merged
from visionkit.predict.tiling import Grid, Tiling, chosen_tiling
from visionkit.result import Result

TABLE = ClassTable((1, 2, 3), ("red", "green", "blue"))

Says = Callable[[NDArray[np.uint8]], Raw]


class Model:
    """Says of each square what a function says."""

    name, sha256, classes = "model", "", TABLE

    def __init__(self, says: Says, image_size: int) -> None:
        self.says, self.image_size = says, image_size
        self.batches: list[int] = []

    def run(self, images: NDArray[np.uint8], *, score: float, iou: float | None, max_det: int) -> Sequence[Raw]:
        self.batches.append(len(images))
        return [self.says(image) for image in images]


def result(model: Model, pixels: NDArray[np.uint8], tiling: Tiling | None = None, **options: Any) -> Result:
    ((_, said),) = detect_loaded(model, [LoadedImage("a.png", pixels)], tiling=tiling, **options)
    return said


# where tiles lie ------------------------------------------------------------------------------------------------------


def test_tiles_by_hand() -> None:
    # 250 px by tiles of 100 that share 20: a tile brings 80 new ones, so two more are needed for the other 150.
    grid = Tiling(100, overlap=0.2).grid(80, 250)
    assert grid == Grid(rows=((0, 80),), columns=((0, 100), (75, 175), (150, 250)))
    assert grid.windows == [(0, 0, 100, 80), (75, 0, 175, 80), (150, 0, 250, 80)]
    assert grid.size == (250, 80)


@pytest.mark.parametrize(("height", "width"), [(100, 100), (1, 100), (99, 3)])
def test_what_fits_into_a_tile_is_not_cut(height: int, width: int) -> None:
    assert Tiling(100).grid(height, width) is None


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.9])
def test_tiles_cover_the_image_and_share_what_they_should(overlap: float) -> None:
    for length in (33, 64, 65, 100, 333, 1000):
        grid = Tiling(32, overlap).grid(32, length)
        assert grid is not None
        starts = np.array([start for start, _ in grid.columns])
        assert starts[0] == 0
        assert grid.columns[-1][1] == length
        assert all(stop - start == 32 for start, stop in grid.columns)
        steps = np.diff(starts)
        assert steps.min() > 0
        assert 32 - steps.max() >= round(32 * overlap)
        # With one tile fewer the steps would be too long.
        assert math.ceil((length - 32) / (32 - round(32 * overlap))) == len(steps)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (31, None, "a tile must be at least 32 px wide, got 31; choose a larger one"),
        (64, 0.95, "overlap is a share of a tile's side from 0 to 0.9, got 0.95; choose a value such as 0.2"),
        (64, -0.1, "overlap is a share of a tile's side from 0 to 0.9, got -0.1; choose a value such as 0.2"),
        (64, math.nan, "overlap is a share of a tile's side from 0 to 0.9, got nan; choose a value such as 0.2"),
        (None, 0.2, "overlap is a share of a tile, and no tile is given; give --tile too, or leave it out"),
        (0, 0.2, "overlap is a share of a tile, and no tile is given; give --tile too, or leave it out"),
        (-640, None, "a tile must be at least 32 px wide, got -640; choose a larger one"),
    ],
)
def test_wrong_tiles_are_refused(tile: int | None, overlap: float | None, message: str) -> None:
    with pytest.raises(UsageError) as error:
        chosen_tiling(tile, overlap)
    assert str(error.value) == message


def test_tiles_are_asked_for_by_two_options_and_else_as_trained() -> None:
    assert chosen_tiling(None, None) is None
    assert chosen_tiling(640, None) == Tiling(640, 0.2)
    assert chosen_tiling(640, 0.5) == Tiling(640, 0.5)
    assert chosen_tiling(None, None, trained=Tiling(320, 0.3)) == Tiling(320, 0.3)
    assert chosen_tiling(0, None, trained=Tiling(320, 0.3)) is None
    assert chosen_tiling(640, None, trained=Tiling(320, 0.3)) == Tiling(640, 0.2)


# maps -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 0.2, 0.5, 0.8])
def test_weights_add_up_to_one_and_have_no_step_where_a_tile_begins(overlap: float) -> None:
    grid = Tiling(100, overlap).grid(100, 730)
    assert grid is not None
    total = np.zeros(730)
    for (start, stop), weights in zip(grid.columns, blend_weights(grid.columns), strict=True):
        total[start:stop] += weights
        if overlap and start:
            # Of 20 shared pixels the first counts sin(pi/200)^2 : sin(39 pi/200)^2, 0.0002 : 0.33.
            assert weights[0] < 0.001
        if overlap:
            assert np.abs(np.diff(weights)).max() < 0.16  # over 20 px, in an S
    np.testing.assert_allclose(total, 1, atol=1e-6)


def random_picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pointwise(square: NDArray[np.uint8]) -> RawMap:
    """Scores that are functions of a pixel's own colours."""
    red, green, blue = square.astype(np.float32).transpose(2, 0, 1)
    return RawMap(np.stack([red + 0.25, 1.5 * green + 0.5, 260 - blue]))


@pytest.mark.parametrize("overlap", [0, 0.2, 0.5, 0.7])
@pytest.mark.parametrize(("height", "width"), [(64, 65), (150, 100), (40, 333), (200, 30), (129, 131)])
def test_a_pointwise_model_says_the_same_of_tiles(height: int, width: int, overlap: float) -> None:
    picture = random_picture(height, width)
    whole = pointwise(picture).scores.argmax(0)
    tiled = result(Model(pointwise, 64), picture, Tiling(64, overlap))
    assert tiled.task == "segment"
    assert tiled.semantic is not None
    assert (tiled.semantic == whole).all()
    assert tiled.scores.sum() == pytest.approx(1)


def slow_blend(tiles: Sequence[NDArray[np.float32]], grid: Grid) -> NDArray[np.float64]:
    """Every tile on a canvas as large as the image, every pixel divided by the weights it got: [K, H, W]."""
    width, height = grid.size
    total, weights = np.zeros((len(tiles[0]), height, width)), np.zeros((height, width))
    for tile, (left, top, right, bottom) in zip(tiles, grid.windows, strict=True):
        for y in range(top, bottom):
            for x in range(left, right):
                weight = math.sin(math.pi * (y - top + 0.5) / (bottom - top)) ** 2
                weight *= math.sin(math.pi * (x - left + 0.5) / (right - left)) ** 2
                total[:, y, x] += weight * tile[:, y - top, x - left]
                weights[y, x] += weight
    return total / weights


@pytest.mark.parametrize("overlap", [0, 0.2, 0.6, 0.8])
def test_tiles_that_disagree_are_blended_as_the_slow_reference(overlap: float) -> None:
    grid = Tiling(32, overlap).grid(75, 90)
    assert grid is not None
    random = np.random.default_rng(1)
    tiles = [random.normal(size=(4, 32, 32)).astype(np.float32) for _ in grid.windows]
    slow = slow_blend(tiles, grid)
    best_two = np.sort(slow, axis=0)[-2:]
    clear = best_two[1] - best_two[0] > 1e-4
    assert clear.mean() > 0.99
    assert (blended_labels((tile.copy() for tile in tiles), *grid) == slow.argmax(0))[clear].all()


def convolution(square: NDArray[np.uint8]) -> RawMap:
    """Three scores that each look 8 px around, and take what lies beyond the square for 0, as padding does."""
    planes = square.astype(np.float32).transpose(2, 0, 1)
    return RawMap(np.stack([cv2.blur(plane, (17, 17), borderType=cv2.BORDER_CONSTANT) for plane in planes]))


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(2).integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_convolution_says_the_same_away_from_the_borders_of_tiles() -> None:
    picture = smooth_picture(200, 260)
    whole = convolution(picture).scores.argmax(0)
    tiling = Tiling(96, 0.4)
    grid = tiling.grid(200, 260)
    assert grid is not None
    semantic = result(Model(convolution, 96), picture, tiling).semantic
    near = np.zeros((200, 260), np.bool_)
    for left, top, right, bottom in grid.windows:
        inner = np.zeros((200, 260), np.bool_)
        inner[top:bottom, left:right] = True
        # The 8 px inside the tile's own borders, where the image goes on.
        inner[top + 8 * (top > 0) : bottom - 8 * (bottom < 200), left + 8 * (left > 0) : right - 8 * (right < 260)] = 0
        near |= inner
    assert 0.2 < near.mean() < 0.8
    assert (semantic == whole)[~near].all()
    assert (semantic == whole).mean() > 0.99  # within, the tiles that see more are heard more


def test_blended_scores_have_no_seams() -> None:
    """Tiles that disagree by 1 everywhere, a checkerboard of 0 and 1. Blended with an overlap of half a tile no step
    between neighbouring pixels is above pi / 64, the steepest a wave of 64 px is that rises from 0 to 1 over 32; put
    side by side the steps would be 1.

    What is decided is where the blended score passes a level, so levels all the way up find the score again.
    """
    tiling = Tiling(64, 0.5)
    grid = tiling.grid(160, 160)
    assert grid is not None
    columns = len(grid.columns)
    values = [(i // columns + i % columns) % 2 for i in range(len(grid.windows))]
    levels = np.linspace(0, 1, 101)
    passed = np.zeros((160, 160))
    for level in levels:
        tiles = (
            np.stack([np.full((64, 64), value, np.float32), np.full((64, 64), level, np.float32)]) for value in values
        )
        passed += blended_labels(tiles, *grid) == 0
    blended = passed / len(levels)
    assert blended.min() < 0.05
    assert blended.max() > 0.95
    for axis in (0, 1):
        assert np.abs(np.diff(blended, axis=axis)).max() <= math.pi / 64 + 0.02


def test_memory_is_bounded_by_the_tile() -> None:
    """8 classes of 1024 x 1024 px, whole 33.6 MB of scores. In tiles of 128 with 29 shared: what waits below is
    8 x 29 x 1024 x 4 = 0.95 MB, a tile 8 x 128 x 128 x 4 = 0.5 MB, the map 1 MB."""
    grid = Tiling(128, 0.2).grid(1024, 1024)
    assert grid is not None
    tiles = (np.ones((8, 128, 128), np.float32) for _ in grid.windows)
    tracemalloc.start()
    blended_labels(tiles, *grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_tiles_of_another_size_than_the_networks_and_in_batches() -> None:
    # A tile of 128 px is seen at half its size: smooth scores come back as they were, but for what averaging takes.
    picture = smooth_picture(128, 300)
    model = Model(pointwise, 64)
    tiled = result(model, picture, Tiling(128, 0.25), batch=2)
    assert model.batches == [2, 1]  # 300 - 128 = 172 more, 96 new ones a tile
    assert (tiled.semantic == pointwise(picture).scores.argmax(0)).mean() > 0.97
    assert list(tiled.milliseconds) == ["read", "preprocess", "model", "postprocess"]
    assert min(tiled.milliseconds.values()) >= 0


def test_an_image_that_fits_is_seen_whole_among_others_that_do_not() -> None:
    model = Model(pointwise, 64)
    pictures = [random_picture(60, 64), random_picture(64, 100), random_picture(50, 40)]
    images = [LoadedImage(str(i), picture) for i, picture in enumerate(pictures)]
    said = [result for _, result in detect_loaded(model, images, tiling=Tiling(64), batch=8)]
    assert [one.path for one in said] == ["0", "1", "2"]
    assert model.batches == [1, 2, 1]
    whole = [result for _, result in detect_loaded(Model(pointwise, 64), images, batch=8)]
    for index in (0, 2):
        assert (said[index].semantic == whole[index].semantic).all()


# boxes ----------------------------------------------------------------------------------------------------------------


def find_red(square: NDArray[np.uint8]) -> RawDetections:
    """A box around each connected red region of the square."""
    mask = (square[..., 0] > 150) & (square[..., 1] < 80)
    stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:]
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in stats], np.float32).reshape(-1, 4)
    return RawDetections(boxes, np.full(len(boxes), 0.8, np.float32), np.zeros(len(boxes), np.int64))


def red_blocks(height: int, width: int, boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    picture = np.full((height, width, 3), 100, np.uint8)
    for left, top, right, bottom in boxes:
        picture[top:bottom, left:right] = (220, 20, 20)
    return picture


def test_each_object_comes_once_wherever_it_lies() -> None:
    """Tiles of 64 px at 0, 48, 96, 144 (at least 13 px shared). Objects up to 16 px wide lie whole in some tile; the
    one of 150 px is in none, and is seen in the whole image, of 208 px, alone."""
    blocks = [(2, 2, 12, 12), (50, 20, 62, 30), (44, 50, 58, 60), (100, 60, 112, 72), (190, 10, 208, 20)]
    large = (20, 80, 170, 110)
    picture = red_blocks(128, 208, [*blocks, large])
    said = result(Model(find_red, 208), picture, Tiling(64, 0.2))
    found = sorted(map(tuple, np.rint(said.boxes).astype(int).tolist()))
    assert found == sorted([*blocks, large])
    assert said.task == "detect"


def test_small_objects_that_the_whole_image_loses_are_found_in_tiles() -> None:
    # Seen whole, 640 px become 64 and a block of 6 px less than one: its colour drowns.
    blocks = [(100, 100, 106, 106), (301, 77, 307, 83), (600, 500, 606, 506)]
    picture = red_blocks(640, 640, blocks)
    assert len(result(Model(find_red, 64), picture)) == 0
    said = result(Model(find_red, 64), picture, Tiling(64))
    assert sorted(map(tuple, said.boxes.astype(int).tolist())) == blocks


def test_max_det_counts_over_all_tiles() -> None:
    blocks = [(x, y, x + 8, y + 8) for x in range(10, 200, 40) for y in range(10, 200, 40)]
    picture = red_blocks(208, 208, blocks)
    assert len(result(Model(find_red, 208), picture, Tiling(64))) == 25
    assert len(result(Model(find_red, 208), picture, Tiling(64), max_det=7)) == 7


def test_nothing_found_anywhere() -> None:
    said = result(Model(find_red, 64), red_blocks(100, 100, []), Tiling(64))
    assert (len(said), said.boxes.shape) == (0, (0, 4))


def found(*rows: tuple[tuple[float, ...], float, int, int, bool]) -> Found:
    """Of box, score, label, view and whether it is cut."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Found(
        boxes,
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.int64),
        np.array([row[4] for row in rows], np.bool_),
        boxes,
        boxes,
    )


HALF, WHOLE = (0, 0, 10, 10), (0, 0, 20, 10)  # IoU 0.5, and the half lies in the whole


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([], []),
        ([(HALF, 0.5, 0, 0, False)], [0]),
        # The same object from two views: 0.9 of 1.1 shared. The better stays; of another class both do, and so do two
        # boxes of one view.
        ([((0, 0, 10, 10), 0.6, 0, 0, False), ((1, 0, 11, 10), 0.7, 0, 1, False)], [1]),
        ([((0, 0, 10, 10), 0.6, 0, 0, False), ((1, 0, 11, 10), 0.7, 1, 1, False)], [1, 0]),
        ([((0, 0, 10, 10), 0.6, 0, 0, False), ((1, 0, 11, 10), 0.7, 0, 0, False)], [1, 0]),
        # A cut half gives way to the whole, even a less sure one; but not to one of under half its score.
        ([(HALF, 0.9, 0, 0, True), (WHOLE, 0.5, 0, 1, False)], [1]),
        ([(HALF, 0.9, 0, 0, True), (WHOLE, 0.4, 0, 1, False)], [0, 1]),
        # What is not cut is an object of its own, such as a wheel before a wheel.
        ([(HALF, 0.4, 0, 0, False), (WHOLE, 0.5, 0, 1, False)], [1, 0]),
        # Two cut parts of what no view shows whole both stay: neither holds half of the other.
        ([((0, 0, 10, 10), 0.9, 0, 0, True), ((8, 0, 18, 10), 0.8, 0, 1, True)], [0, 1]),
        # A cut part gives way to a larger cut part that holds it.
        ([((0, 0, 6, 10), 0.7, 0, 0, True), ((0, 0, 10, 10), 0.8, 0, 1, True)], [1]),
        # What went takes nothing along: 1 goes for 0, and 2, which only 1 overlaps, stays.
        (
            [
                ((0, 0, 10, 10), 0.9, 0, 0, False),
                ((3, 0, 13, 10), 0.8, 0, 1, False),
                ((6, 0, 16, 10), 0.7, 0, 2, False),
            ],
            [0, 2],
        ),
    ],
)
def test_which_of_overlapping_boxes_stay(rows: Any, kept: list[int]) -> None:
    said = merged(found(*rows), max_det=100)
    assert said.scores.tolist() == pytest.approx([rows[i][1] for i in kept])
    assert said.boxes.tolist() == [list(map(float, rows[i][0])) for i in kept]
    assert (np.diff(said.scores) <= 0).all()


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((10, 10, 40, 40), False),
        ((10, 10, 99, 40), True),  # the tile ends at 100 of 250, and 99 is within 2 of it
        ((10, 10, 97, 40), False),
        ((0, 10, 40, 40), False),  # there the image ends too
        ((10, 0, 40, 79), False),
        ((10, 10, 130, 40), True),  # beyond the tile: clipped to it
    ],
)
def test_a_box_is_cut_where_its_tile_ends_and_the_image_goes_on(box: tuple[int, ...], cut: bool) -> None:
    _, frame = letterbox(np.zeros((80, 100, 3), np.uint8), 100)
    network = np.array([box], np.float32) + np.array([0, 10, 0, 10], np.float32)  # 20 px of padding
    raw = RawDetections(network, np.ones(1, np.float32), np.zeros(1, np.int64))
    said = found_in(raw, frame, (0, 0, 100, 80), (250, 80))
    assert said.cut.tolist() == [cut]
    assert said.boxes[0].tolist() == [*map(float, box[:2]), min(box[2], 100), min(box[3], 80)]
    # The last tile of the row, from 150 to 250: its right border is the image's.
    last = found_in(raw, frame, (150, 0, 250, 80), (250, 80))
    assert last.boxes[0, 0] == box[0] + 150
    assert bool(last.cut[0]) == (box[0] <= 2)


def test_masks_of_tiles_end_where_their_tile_does() -> None:
    """A mask on a box from 10 px before the right border of its tile to 10 px beyond."""

    def says(square: NDArray[np.uint8]) -> RawDetections:
        if square.max() == 0:
            return RawDetections(
                np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4, 4), "f4")
            )
        box = np.array([[54, 20, 74, 40]], np.float32)
        return RawDetections(box, np.ones(1, np.float32), np.zeros(1, np.int64), np.ones((1, 4, 4), np.float32))

    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :30] = 1  # only the first of the tiles at 0, 32, 64 sees something; and the whole, for it has padding
    said = result(Model(says, 64), picture, Tiling(64, 0.5))
    assert said.masks is not None
    masks = {tuple(box): decoded_mask(rle) for box, rle in zip(said.boxes.tolist(), said.masks, strict=True)}
    cut = masks[(54.0, 20.0, 64.0, 40.0)]
    (uncut,) = pasted_masks(np.ones((1, 4, 4), "f4"), np.array([[54, 20, 74, 40]], "f4"), 64, 128)
    expected = decoded_mask(uncut)
    assert expected[:, 64:].any()
    expected[:, 64:] = False
    assert np.array_equal(cut, expected)


def test_a_classifier_has_no_tiles() -> None:
    said = RawClasses(np.ones(1, np.float32), np.zeros(1, np.int64))
    with pytest.raises(UsageError, match="a classifier says a class of a whole picture, which has no tiles; leave out"):
        result(Model(lambda square: said, 64), random_picture(100, 100), Tiling(64))
    assert result(Model(lambda square: said, 64), random_picture(100, 100)).task == "classify"


# scores in original pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(48, 64), (30, 64), (90, 64), (1, 200), (33, 77), (500, 400)])
def test_scores_are_enlarged_as_torch_does_and_then_decided(height: int, width: int) -> None:
    import torch

    _, frame = letterbox(np.zeros((height, width, 3), np.uint8), 96)
    scores = np.random.default_rng(3).normal(size=(5, 96, 96)).astype(np.float32)
    inside = torch.from_numpy(np.ascontiguousarray(frame.inside(scores)))[None]
    large = torch.nn.functional.interpolate(inside, (height, width), mode="bilinear", align_corners=False)[0].numpy()
    best_two = np.sort(large, axis=0)[-2:]
    clear = best_two[1] - best_two[0] > 1e-4
    assert (labels_in_pixels(scores, frame) == large.argmax(0))[clear].all()


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    _, frame = letterbox(np.zeros((300, 200, 3), np.uint8), 64)
    scores = np.random.default_rng(4).normal(size=(3, 64, 64)).astype(np.float32)
    whole = labels_in_pixels(scores, frame)
    for pixels in (1, 200 * 7, 200 * 299):
        monkeypatch.setattr("visionkit.predict.maps.STRIP", pixels)
        assert (labels_in_pixels(scores, frame) == whole).all()


def test_contours_are_smoother_than_the_networks_pixels() -> None:
    # A straight slanted border seen at an eighth of the size: enlarged after the decision it would have steps of 8 px.
    _, frame = letterbox(np.zeros((256, 256, 3), np.uint8), 32)
    y, x = np.mgrid[:32, :32].astype(np.float32) + 0.5
    scores = np.stack([x + 0.3 * y - 20, np.zeros_like(x)])
    row, column = np.mgrid[:256, :256] + 0.5
    truth = column + 0.3 * row - 160 < 0
    assert (labels_in_pixels(scores, frame) == truth).mean() > 0.998
    nearest = np.kron((scores[0] < 0), np.ones((8, 8)))
    assert (nearest == truth).mean() < 0.995  # 2 px a row on average
