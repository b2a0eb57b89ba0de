"""Pictures of results: where lines, labels and colours land."""

from dataclasses import replace

import numpy as np
import pytest
from pictures import noise

from visionkit.classes import ClassTable
from visionkit.predict.colours import BLACK, WHITE, class_colour, contrast, text_colour
from visionkit.predict.drawing import _EDGE_SHADE, draw, draw_comparison
from visionkit.predict.labels import place_labels
from visionkit.predict.lettering import fit_text, font_for, text_width
from visionkit.predict.masks import window_rle
from visionkit.result import Result

NAMES = ("person", "łódź", "公交车", "a class with quite a long name", "two\nlines")


def result_of(boxes, labels, width=640, height=480, names=NAMES):
    return Result(
        path="photo.jpg",
        width=width,
        height=height,
        classes=ClassTable(tuple(range(1, len(names) + 1)), names),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.3, len(boxes), dtype=np.float32),
        labels=np.array(labels, np.int64),
    )


def blank(width=640, height=480, value=255):
    return np.full((height, width, 3), value, np.uint8)


def test_the_input_stays_as_it_is():
    image = blank()
    picture = draw(image, result_of([[100, 100, 200, 200]], [0]))
    assert picture.shape == image.shape
    assert (image == 255).all()
    assert (picture != 255).any()


def test_nothing_found_changes_nothing():
    assert (draw(blank(), result_of([], [])) == 255).all()


def test_a_box_is_drawn_in_its_class_colour_where_it_is():
    picture = draw(blank(), result_of([[100, 100, 300, 200]], [0]))
    assert tuple(picture[150, 100]) == tuple(picture[150, 299]) == tuple(picture[199, 200]) == class_colour(0)
    assert (picture[110:190, 110:290] == 255).all()
    assert (picture[210:] == 255).all()


def test_a_line_stands_out_from_its_own_colour():
    image = blank()
    image[:] = class_colour(0)
    picture = draw(image, result_of([[100, 100, 300, 200]], [0]))
    assert picture[150, 90:110].sum(axis=1).min() < sum(class_colour(0)) * 0.8


def test_a_box_as_large_as_the_image_keeps_its_four_sides():
    picture = draw(blank(), result_of([[0, 0, 640, 480]], [0]))
    for side in (picture[40:, 0], picture[40:, -1], picture[-1, :], picture[0, 200:]):
        assert (side == class_colour(0)).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (32, 32), (400, 8), (8, 400), (2000, 1500)])
@pytest.mark.parametrize("label", range(len(NAMES)))
def test_any_size_and_any_name_can_be_drawn(width, height, label):
    boxes = [[0, 0, width, height], [0, 0, width / 2, height / 2], [width - 1, height - 1, width, height]]
    picture = draw(blank(width, height), result_of(boxes, [label] * 3, width, height))
    assert picture.shape == (height, width, 3)
    assert (picture != 255).any()


def test_lines_and_letters_grow_with_the_image():
    small, large = (
        draw(blank(640 * k, 480 * k), result_of([[100 * k, 100 * k, 300 * k, 200 * k]], [0], 640 * k, 480 * k))
        for k in (1, 4)
    )
    coloured = [(picture == class_colour(0)).all(axis=2).mean() for picture in (small, large)]
    assert coloured[1] == pytest.approx(coloured[0], rel=0.25)


def labels_of(boxes, words=(("person 0.90", "person"),), size=(640, 480)):
    boxes = np.array(boxes, np.float32)
    return place_labels(boxes, list(words) * len(boxes), letters=12, line=2, size=size)


def test_a_label_stands_on_its_box_and_shares_its_line():
    (label,) = labels_of([[100, 100, 300, 200]])
    assert (label.text, label.left, label.top + label.height) == ("person 0.90", 99, 101)


@pytest.mark.parametrize("box", [[0, 0, 30, 30], [620, 0, 640, 30], [0, 460, 20, 480], [630, 470, 640, 480]])
def test_labels_stay_inside_the_image(box):
    (label,) = labels_of([box])
    assert 0 <= label.left <= 640 - label.width
    assert 0 <= label.top <= 480 - label.height


def overlap(one, other):
    """Pixels that two labels have in common."""
    wide = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    high = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(0, wide) * max(0, high)


def test_labels_dodge_one_another():
    first, second = labels_of([[100, 100, 300, 200], [102, 101, 298, 201]])
    assert first.text == second.text == "person 0.90"
    assert overlap(first, second) == 0


@pytest.mark.parametrize("seed", range(5))
def test_no_label_covers_another_or_leaves_the_image(seed):
    random = np.random.default_rng(seed)
    corners = random.uniform(-5, 600, (60, 2))
    boxes = np.hstack([corners, corners + random.uniform(1, 150, (60, 2))])
    labels = [label for label in labels_of(boxes) if label is not None]
    assert len(labels) >= 30
    for i, label in enumerate(labels):
        assert 0 <= label.left <= 640 - label.width
        assert 0 <= label.top <= 480 - label.height
        assert all(overlap(label, other) == 0 for other in labels[:i])


def test_a_label_does_not_hide_a_small_box_where_it_can_stand_elsewhere():
    alone, _ = labels_of([[100, 100, 300, 200], [600, 400, 620, 420]])
    small = [alone.left + 10, alone.top + 4, alone.left + 16, alone.top + 10]
    moved, _ = labels_of([[100, 100, 300, 200], small])
    assert (moved.left, moved.top) != (alone.left, alone.top)
    (own,) = labels_of([[300, 2, 312, 12]])
    assert own.top >= 11, "nor the box that it names, which is too near to the upper border"


def test_where_there_is_little_room_a_label_loses_its_score_then_letters():
    room = text_width("person", 12) + 10
    assert labels_of([[0, 50, room, 90]], size=(room, 300))[0].text == "person"
    assert labels_of([[0, 50, 40, 90]], size=(40, 300))[0].text == fit_text(["person"], 12, 32)
    assert fit_text(["person"], 12, 40) in ("p…", "pe…", "per…")


def test_a_crowd_keeps_the_labels_of_the_best_and_a_tiny_image_none():
    crowd = labels_of([[100, 100, 300, 200]] * 50)
    assert crowd[0] is not None
    assert 8 <= sum(label is not None for label in crowd) <= 24, "at most one for each of 24 places"
    shares = [label.width * label.height / (640 * 480) for label in crowd if label]
    assert sum(shares) <= 1 / 3
    assert labels_of([[0, 0, 32, 32]], size=(32, 32)) == [None]


def oklab(colours):
    """[N, 3] u8 RGB -> [N, 3] lightness, green to red, blue to yellow (Ottosson 2020)."""
    share = np.asarray(colours, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = np.array([[0.41222147, 0.53633254, 0.05144599], [0.21190350, 0.68069955, 0.10739696],
                      [0.08830246, 0.28171884, 0.62997870]])  # fmt: skip
    opponents = np.array([[0.21045426, 0.79361779, -0.00407205], [1.97799850, -2.42859221, 0.45059371],
                          [0.02590404, 0.78277177, -0.80867577]])  # fmt: skip
    return np.cbrt(linear @ cones.T) @ opponents.T


@pytest.mark.parametrize(("classes", "least"), [(8, 0.22), (12, 0.17), (20, 0.13), (40, 0.09), (80, 0.07)])
def test_class_colours_are_told_apart(classes, least):
    """From 0.02 or so on two colours side by side are seen to differ; thin lines and small masks need far more."""
    seen = oklab([class_colour(label) for label in range(classes)])
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=2) + np.eye(classes)
    assert distances.min() > least
    assert class_colour(80) == class_colour(0)


def test_contrast_is_that_of_wcag():
    assert contrast(BLACK, WHITE) == pytest.approx(21)
    # Pure red has a luminance of 0.2126: (1 + 0.05) / (0.2126 + 0.05) = 3.998.
    assert contrast((255, 0, 0), WHITE) == contrast(WHITE, (255, 0, 0)) == pytest.approx(3.998, abs=1e-3)


def test_letters_contrast_with_any_colour():
    assert text_colour((255, 255, 0)) == BLACK
    assert text_colour((60, 0, 120)) == WHITE
    # The worst ground is as far from both: sqrt(21) = 4.58.
    levels = range(0, 256, 15)
    grounds = [class_colour(label) for label in range(300)] + [
        (r, g, b) for r in levels for g in levels for b in levels
    ]
    assert min(contrast(text_colour(ground), ground) for ground in grounds) >= 4.58


def test_lines_contrast_with_any_background_or_their_edges_do():
    levels = range(0, 256, 51)
    for background in [(r, g, b) for r in levels for g in levels for b in levels]:
        edge = tuple(int(channel * _EDGE_SHADE) for channel in background)
        for label in range(80):
            line = class_colour(label)
            assert max(contrast(line, background), contrast(line, edge)) >= 3, (background, line)


@pytest.mark.parametrize("background", ["white", "black", "noise", "its own colour"])
def test_a_line_stands_out_from_its_background(background):
    image = blank(value=0 if background == "black" else 255)
    if background == "noise":
        image = noise(480, 640)
    if background == "its own colour":
        image[:] = class_colour(3)
    picture = draw(image, result_of([[100, 100, 300, 200]], [3]))
    # Across the left side, at half its height: a line of 554 / 210 = 3 px, an edge of 1 px on either side.
    line, edges = picture[150, 98:101], picture[150, [97, 101]]
    assert (line == class_colour(3)).all()
    beyond = image[150, [96, 102]]
    for edge, far in zip(edges.tolist(), beyond.tolist(), strict=True):
        assert max(contrast(class_colour(3), edge), contrast(class_colour(3), far)) >= 3
    assert (picture[150, 110:290] == image[150, 110:290]).all()


def test_a_class_has_one_colour_whatever_else_is_there():
    few = draw(blank(), result_of([[100, 100, 300, 200]], [3]))
    many = draw(blank(), result_of([[100, 100, 300, 200], [350, 100, 400, 150], [350, 300, 400, 350]], [3, 0, 1]))
    assert tuple(few[150, 100]) == tuple(many[150, 100]) == class_colour(3)


def test_a_font_has_the_letters_of_the_name():
    # A font without a letter draws the same box for all it lacks; these must be different letters.
    font = font_for("łódź Автобус", 20)
    assert len({bytes(font.getmask(letter)) for letter in "łódźАвтобус"}) == 11


def test_comparison_shows_truth_left_and_prediction_right_with_a_legend():
    predicted = result_of([[100, 100, 300, 200]], [0])
    truth = np.array([[120, 300, 320, 400], [400, 100, 500, 200]], np.float32)
    picture = draw_comparison(blank(value=90), truth, ["person", "unknown to the model"], predicted)
    legend = picture.shape[0] - 480
    gap = picture.shape[1] - 2 * 640
    assert legend > 10
    assert gap > 0
    left, right = picture[legend:, :640], picture[legend:, 640 + gap :]
    assert tuple(left[350, 120]) == class_colour(0)
    assert tuple(right[150, 100]) == class_colour(0)
    assert (left[110:190, 100] == 90).all()  # no prediction among the truth
    dashes = (right[310:390, 120] == 255).all(axis=1)
    assert 0.2 < dashes.mean() < 0.8
    for panel in (picture[:legend, :640], picture[:legend, 640 + gap :]):
        assert (panel > 200).any()  # the words


def test_comparison_shows_masks_on_both_sides():
    # A small object lies on a large one; both become twice as large, as 160 px are below 320.
    large, small, found = np.zeros((3, 160, 120), np.bool_)
    large[20:140, 20:100], small[40:60, 40:60], found[60:120, 30:90] = True, True, True
    rles = [window_rle(mask, 0, 0, 160, 120) for mask in (large, small, found)]
    boxes = np.array([[20, 20, 100, 140], [40, 40, 60, 60], [0, 0, 9, 9]], np.float32)
    predicted = replace(result_of([[30, 60, 90, 120]], [2], 120, 160), masks=(rles[2],))
    names = [NAMES[0], NAMES[1], NAMES[2]]
    picture = draw_comparison(blank(120, 160, 100), boxes, names, predicted, [*rles[:2], None])
    top, second = picture.shape[0] - 320, picture.shape[1] - 240
    person, second_class, third = (0.55 * np.array(class_colour(label)) + 45 for label in range(3))
    for (y, x), colour in (((220, 120), person), ((100, 100), second_class), ((310, 20), [100, 100, 100])):
        assert np.abs(picture[top + y, x] - colour).max() <= 1.5
    for (y, x), colour in (((190, 120), third), ((300, 210), [100, 100, 100])):
        assert np.abs(picture[top + y, second + x] - colour).max() <= 1.5
    # A truth without masks is one of boxes alone.
    plain = draw_comparison(blank(120, 160, 100), boxes, names, replace(predicted, masks=None))
    assert (plain[top + 220, 120] == 100).all()
    assert (plain[top + 190, second + 120] == 100).all()


def test_comparison_enlarges_small_images():
    picture = draw_comparison(blank(32, 32), np.zeros((0, 4), np.float32), [], result_of([], [], 32, 32))
    assert picture.shape[1] > 2 * 320


# Classifications ------------------------------------------------------------------------------------------------------


def classified(labels, width=640, height=480):
    scores = np.linspace(0.9, 0.3, len(labels), dtype=np.float32)
    table = ClassTable(tuple(range(1, len(NAMES) + 1)), NAMES)
    boxes = np.zeros((0, 4), np.float32)
    return Result("photo.jpg", width, height, table, boxes, scores, np.array(labels, np.int64), task="classify")


def test_the_classes_of_a_picture_stand_in_its_corner_one_below_the_other():
    picture = draw(blank(), classified([2, 0]))
    # Letters of 480 * 640 px: 554 / 45 = 12 px, so a line is 17 px high.
    assert tuple(picture[0, 0]) == class_colour(2)
    assert tuple(picture[17, 0]) == class_colour(0)
    assert (picture[34:] == 255).all()
    assert (picture[:, 320:] == 255).all()


def test_as_many_classes_as_a_third_of_the_picture_has_room_for():
    picture = draw(blank(height=150), classified([0, 1, 2, 3, 4], height=150))
    rows = np.flatnonzero((picture[:, 0] != 255).any(axis=1))
    assert 0 < len(rows) <= 50
    assert (draw(blank(20, 20), classified([0], 20, 20)) == 255).all()
