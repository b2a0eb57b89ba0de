import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionkit.imaging.letterbox import PADDING_GREY, Frame, frame_sides, letterbox

sides = st.integers(1, 300)


def picture(width: int, height: int, grey: int = 0) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def test_a_wide_picture_gets_grey_above_and_below() -> None:
    # 64 x 32 into 32: half size, 32 x 16; the 16 rows left over are shared, 8 above and 8 below.
    square, frame = letterbox(picture(64, 32, 200), 32)
    assert frame == Frame(64, 32, scale_x=0.5, scale_y=0.5, left=0, top=8)
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert (square[8:24] == 200).all()
    assert (square[:8] == PADDING_GREY).all()
    assert (square[24:] == PADDING_GREY).all()


def test_a_tall_picture_gets_grey_left_and_right_and_the_odd_pixel_goes_right() -> None:
    # 3 x 8 into 8: size kept; 8 - 3 = 5 columns left over, 2 before and 3 after.
    square, frame = letterbox(picture(3, 8, 200), 8)
    assert frame == Frame(3, 8, scale_x=1.0, scale_y=1.0, left=2, top=0)
    assert (square[:, 2:5] == 200).all()
    assert (square[:, [0, 1, 5, 6, 7]] == PADDING_GREY).all()


def test_a_small_picture_is_enlarged() -> None:
    square, frame = letterbox(picture(4, 2, 200), 8)
    assert (frame.scale_x, frame.scale_y, frame.left, frame.top) == (2.0, 2.0, 0, 2)
    assert (square[2:6] == 200).all()


def test_a_square_of_the_right_size_is_copied_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    square, frame = letterbox(image, 16)
    assert np.array_equal(square, image)
    assert not np.shares_memory(square, image)
    assert frame == Frame(16, 16, 1.0, 1.0, 0, 0)


def test_no_side_vanishes() -> None:
    # 4000 x 10 into 32: 10 * 32 / 4000 = 0.08 rows, drawn as one.
    square, frame = letterbox(picture(4000, 10, 200), 32)
    assert frame == Frame(4000, 10, scale_x=32 / 4000, scale_y=1 / 10, left=0, top=15)
    assert (square[15] == 200).all()


def test_boxes_go_where_their_pixels_go() -> None:
    # 64 x 32 into 32: x / 2 and y / 2 + 8.
    _, frame = letterbox(picture(64, 32), 32)
    boxes = np.array([[0, 0, 64, 32], [10, 20, 30, 32]], np.float32)
    assert frame.to_frame(boxes).tolist() == [[0, 8, 32, 24], [5, 18, 15, 24]]
    assert frame.to_original(frame.to_frame(boxes)).tolist() == boxes.tolist()


def test_a_painted_box_is_found_where_to_frame_says() -> None:
    image = picture(90, 50)
    image[10:30, 20:60] = 255  # half-open: x 20..60, y 10..30
    square, frame = letterbox(image, 180)  # twice the size; (180 - 100) / 2 = 40 rows above
    x1, y1, x2, y2 = frame.to_frame(np.array([[20, 10, 60, 30]], np.float32))[0]
    assert (x1, y1, x2, y2) == (40, 60, 120, 100)
    bright = np.argwhere(square[:, :, 0] > 127)  # the padding, 114, is below
    assert bright.min(axis=0).tolist() == [y1, x1]
    assert (bright.max(axis=0) + 1).tolist() == [y2, x2]


def test_boxes_in_the_padding_are_clipped_to_the_picture() -> None:
    _, frame = letterbox(picture(64, 32), 32)
    boxes = np.array([[-5, 0, 40, 32], [0, 0, 32, 7]], np.float32)  # over every edge; wholly in the grey above
    assert frame.to_original(boxes).tolist() == [[0, 0, 64, 32], [0, 0, 64, 0]]


def test_no_boxes_stay_no_boxes() -> None:
    _, frame = letterbox(picture(64, 32), 32)
    none = np.zeros((0, 4), np.float32)
    assert frame.to_frame(none).shape == frame.to_original(none).shape == (0, 4)


@given(width=sides, height=sides, size=st.integers(1, 200), share=st.tuples(*[st.floats(0, 1)] * 4))
def test_law_there_and_back_is_where_it_was(
    width: int, height: int, size: int, share: tuple[float, float, float, float]
) -> None:
    _, frame = letterbox(picture(width, height), size)
    (x1, x2), (y1, y2) = sorted(np.array(share[:2]) * width), sorted(np.array(share[2:]) * height)
    box = np.array([[x1, y1, x2, y2]], np.float32)
    there = frame.to_frame(box)
    assert there.dtype == np.float32
    assert (there >= -1e-3).all()
    assert (there <= size + 1e-3).all()
    # One float32 step at 300 px is 3e-5, and the smallest scale is 1/300.
    assert frame.to_original(there) == pytest.approx(box, abs=0.02)


@given(width=sides, height=sides, size=st.integers(1, 200))
def test_law_the_picture_fills_its_frame_exactly(width: int, height: int, size: int) -> None:
    square, frame = letterbox(picture(width, height), size)
    left, top, right, bottom = frame.to_frame(np.array([[0, 0, width, height]], np.float32))[0]
    assert (left, top) == (frame.left, frame.top)
    columns, rows = np.flatnonzero((square == 0).any(axis=(0, 2))), np.flatnonzero((square == 0).any(axis=(1, 2)))
    assert (columns[0], columns[-1] + 1) == (left, pytest.approx(right, abs=1e-3))
    assert (rows[0], rows[-1] + 1) == (top, pytest.approx(bottom, abs=1e-3))
    assert size in (len(columns), len(rows))


@pytest.mark.parametrize(("width", "height"), [(90, 50), (50, 90), (32, 20), (32, 32), (300, 300)])
def test_drawn_on_a_given_square_it_is_the_same(width: int, height: int) -> None:
    squares = np.full((3, 32, 32, 3), 7, np.uint8)
    square, frame = letterbox(picture(width, height), 32, squares[1])
    fresh, fresh_frame = letterbox(picture(width, height), 32)
    np.testing.assert_array_equal(squares[1], fresh)
    assert np.shares_memory(square, squares)
    assert frame == fresh_frame
    assert (squares[[0, 2]] == 7).all()


@pytest.mark.parametrize(("width", "height"), [(128, 128), (130, 126), (131, 127), (4032, 3024), (65, 33)])
def test_fine_texture_becomes_grey(width: int, height: int) -> None:
    # A chessboard of pixels, two to four times too large and more: its mean is 127.5 everywhere.
    board = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)
    square, frame = letterbox(np.repeat(board[..., None], 3, axis=2), 32)
    inside = frame.inside(square[..., 0])[1:-1, 1:-1].astype(np.float64)
    assert inside.mean() == pytest.approx(127.5, abs=2)
    assert inside.std() < 8


@pytest.mark.parametrize(("width", "height"), [(256, 128), (254, 126), (253, 127), (96, 48)])
def test_a_ramp_comes_down_to_where_its_pixels_lie(width: int, height: int) -> None:
    ramp = np.repeat(np.linspace(0, 255, width, dtype=np.float32)[None, :, None], height, axis=0)
    square, frame = letterbox(np.repeat(ramp, 3, axis=2).round().astype(np.uint8), 32)
    row = frame.inside(square[..., 0])[8].astype(np.float64)
    there = (np.arange(32) + 0.5) / frame.scale_x - 0.5  # the place of each centre in the original
    assert row[1:-1] == pytest.approx(there[1:-1] * 255 / (width - 1), abs=1.5)


def test_of_the_square_only_what_the_picture_needs() -> None:
    # 64 x 24 into 32: 32 x 12 pixels, which multiples of 8 hold in 16 rows: 2 above and 2 below.
    snug, frame = letterbox(picture(64, 24, 200), 32, multiple=8)
    assert snug.shape == (16, 32, 3)
    assert frame == Frame(64, 24, scale_x=0.5, scale_y=0.5, left=0, top=2)
    assert (snug[2:14] == 200).all()
    assert (snug[[0, 1, 14, 15]] == PADDING_GREY).all()
    square, _ = letterbox(picture(64, 24, 200), 32)
    assert np.array_equal(snug, square[8:24])  # whose padding is 10 rows


@given(width=sides, height=sides, cells=st.integers(1, 8))
def test_law_a_snug_frame_is_the_least_that_holds_the_picture(width: int, height: int, cells: int) -> None:
    size = 8 * cells
    snug, frame = letterbox(picture(width, height), size, multiple=8)
    rows, columns = snug.shape[:2]
    assert (rows, columns) == frame_sides(height, width, size, 8)
    assert rows % 8 == columns % 8 == 0
    assert max(rows, columns) == size
    inside = frame.inside(snug[..., 0])
    assert (inside == 0).all()
    assert np.count_nonzero(snug[..., 0] == 0) == inside.size
    assert max(rows - inside.shape[0], columns - inside.shape[1]) < 8


def test_a_part_of_a_larger_image_has_its_pixels() -> None:
    # 80 x 40 px in a square of 40: half as large, 10 px of padding above. It begins at (100, 7) of another image.
    frame = Frame(80, 40, 0.5, 0.5, 0, 10)
    placed = frame.at(100, 7)
    boxes = np.array([[4, 14, 24, 24], [-4, 0, 44, 40]], np.float32)
    assert placed.to_original(boxes).tolist() == [[108, 15, 148, 35], [100, 7, 180, 47]]
    assert placed.to_plane(boxes).tolist() == [[108, 15, 148, 35], [92, -13, 188, 67]]
    np.testing.assert_array_equal(placed.to_frame(placed.to_plane(boxes)), boxes)
    assert frame == placed.at(0, 0)
