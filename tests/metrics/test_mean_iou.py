"""Mean IoU and its like: by hand, and against loops over pixels."""

import json
import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.metrics.intervals import FEWEST_IMAGES, RESAMPLES, image_counts
from visionkit.metrics.mean_iou import MapCounts, boundary_width, near_boundary

K = 4
TABLE = ClassTable(tuple(range(K)), ("sky", "road", "car", "tree"))


def maps(seed: int, shape: tuple[int, int] = (23, 31)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Truth and prediction in patches, which agree here and there; the last class is in neither."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, K - 1, (2, 4, 5), dtype=np.uint8)
    truth, predicted = (cv2.resize(c, shape[::-1], interpolation=cv2.INTER_NEAREST) for c in coarse)
    predicted = np.where(random.random(shape) < 0.6, truth, predicted)
    truth[random.random(shape) < 0.1] = 255
    return np.asarray(truth, np.uint8), np.asarray(predicted, np.uint8)


def loops(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> dict[str, float | None]:
    """Every score from its definition, pixel by pixel."""
    pixels = [(int(t), int(p)) for truth, said in pairs for t, p in zip(truth.flat, said.flat, strict=True) if t != 255]
    iou, accuracy, boundary, weight = {}, {}, {}, {}
    for c in range(K):
        either = sum(c in pair for pair in pixels)
        true = sum(t == c for t, _ in pixels)
        both = sum(t == p == c for t, p in pixels)
        weight[c] = true
        if either:
            iou[c] = both / either
        if true:
            accuracy[c] = both / true
        near = [boundary_loops(truth, said, c) for truth, said in pairs]
        if sum(n[1] for n in near):
            boundary[c] = sum(n[0] for n in near) / sum(n[1] for n in near)
    mean = lambda values: sum(values.values()) / len(values) if values else None  # noqa: E731
    total = sum(weight.values())
    return {
        "mIoU": mean(iou),
        "pixel_accuracy": sum(t == p for t, p in pixels) / total if total else None,
        "mean_accuracy": mean(accuracy),
        "frequency_weighted_iou": sum(weight[c] * iou[c] for c in iou) / total if total else None,
        "boundary_iou": mean(boundary),
    }


def boundary_loops(truth: NDArray[np.uint8], said: NDArray[np.uint8], c: int) -> tuple[int, int]:
    height, width = truth.shape
    d = max(1, round(0.02 * math.hypot(height, width)))
    said = np.where(truth == 255, 255, said)  # what no one judges is of no class

    def near(labels: NDArray[np.uint8], y: int, x: int) -> bool:
        if labels[y, x] != c:
            return False
        around = [(y + dy, x + dx) for dy in range(-d, d + 1) for dx in range(-d, d + 1)]
        return any(not (0 <= v < height and 0 <= u < width) or labels[v, u] != c for v, u in around)

    places = [(y, x) for y in range(height) for x in range(width)]
    found = [(near(truth, *place), near(said, *place)) for place in places]
    return sum(a and b for a, b in found), sum(a or b for a, b in found)


@pytest.mark.parametrize("seeds", [(0,), (1, 2, 3)])
def test_every_score_is_that_of_loops_over_pixels(seeds: tuple[int, ...]) -> None:
    counts = MapCounts(TABLE, boundaries=True)
    pairs = [maps(seed, (23 + 40 * (seed % 2), 31)) for seed in seeds]
    for truth, predicted in pairs:
        counts.add(truth, predicted)
    scores = counts.scores()
    for name, value in loops(pairs).items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-12), name
    assert scores.images == len(seeds)
    assert scores.per_class["tree"].IoU is None
    assert scores.per_class["tree"].accuracy is None
    assert scores.per_class["tree"].boundary_iou is None


def test_scores_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 1, 1, 3]], np.uint8)
    counts = MapCounts(TABLE)
    counts.add(truth, predicted)
    scores = counts.scores()
    # sky: 2 of 3 | road: 3 of 3 + 2 | car: 0 of 1 | tree: predicted where nothing is judged, so in neither
    assert [scores.per_class[name].IoU for name in TABLE.names] == [2 / 3, 3 / 5, 0, None]
    assert [scores.per_class[name].accuracy for name in TABLE.names] == [2 / 3, 1, 0, None]
    assert scores.mIoU == pytest.approx((2 / 3 + 3 / 5 + 0) / 3)
    assert scores.pixel_accuracy == pytest.approx(5 / 7)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 3 * 3 / 5 + 0) / 7)
    assert scores.boundary_iou is None
    assert scores.per_class["road"].pixels == 3
    assert scores.per_class["road"].predicted_pixels == 5


def test_a_class_that_is_only_predicted_counts_as_wrong() -> None:
    counts = MapCounts(TABLE)
    counts.add(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 3]], np.uint8))
    scores = counts.scores()
    assert scores.per_class["tree"].IoU == 0
    assert scores.per_class["tree"].accuracy is None
    assert scores.mIoU == pytest.approx((3 / 4 + 0) / 2)


def test_a_prediction_of_no_class_is_wrong_where_it_is_judged() -> None:
    counts = MapCounts(TABLE)
    counts.add(np.zeros((1, 2), np.uint8), np.array([[0, 255]], np.uint8))
    assert counts.scores().pixel_accuracy == 0.5
    assert counts.scores().mIoU == 0.5


def test_adding_images_is_adding_their_pixels() -> None:
    one, together = MapCounts(TABLE), MapCounts(TABLE)
    pairs = [maps(seed) for seed in range(4)]
    for truth, predicted in pairs:
        one.add(truth, predicted)
    together.add(np.hstack([t for t, _ in pairs]), np.hstack([p for _, p in pairs]))
    assert (one.confusion == together.confusion).all()
    assert one.scores().mIoU == together.scores().mIoU


@pytest.mark.parametrize("truth", [np.zeros((0, 0), np.uint8), np.full((3, 4), 255, np.uint8)])
def test_with_nothing_to_judge_nothing_is_defined(truth: NDArray[np.uint8]) -> None:
    counts = MapCounts(TABLE, boundaries=bool(truth.size))
    counts.add(truth, np.zeros_like(truth))
    content = counts.scores().to_json()
    assert json.loads(json.dumps(content))["mIoU"] is None
    names = ("mIoU", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "boundary_iou")
    assert [content[name] for name in names] == [None] * 5
    assert content["task"] == "segment"


def test_what_is_right_everywhere_scores_one() -> None:
    truth, _ = maps(0)
    counts = MapCounts(TABLE, boundaries=True)
    counts.add(truth, np.where(truth == 255, 0, truth).astype(np.uint8))
    scores = counts.scores()
    assert (scores.mIoU, scores.pixel_accuracy, scores.frequency_weighted_iou, scores.boundary_iou) == (1, 1, 1, 1)


def test_the_boundary_ends_where_no_one_judges() -> None:
    # Sky, a column that no one judges, road; all that is judged is right. In the column more sky is said, so the sky's
    # own contour lies a column further right than the truth's, and the road's where it is.
    truth = np.repeat(np.array([[0, 0, 0, 0, 255, 1, 1, 1, 1]], np.uint8), 9, axis=0)
    predicted = np.where(truth == 255, 0, truth).astype(np.uint8)
    counts = MapCounts(TABLE, boundaries=True)
    counts.add(truth, predicted)
    assert [row.boundary_iou for row in counts.scores().per_class.values()] == [1, 1, None, None]
    # Of 4 x 9 pixels of sky 2 x 7 touch neither its contour nor the image's border, 22 do. One of these is said to be
    # road: 21 are left, and its three neighbours further in touch a contour now, which in truth they do not: 21 of 25.
    predicted[4, 3] = 1
    wrong = MapCounts(TABLE, boundaries=True)
    wrong.add(truth, predicted)
    assert wrong.scores().per_class["sky"].boundary_iou == pytest.approx(21 / 25)


def test_the_boundary_of_a_square_by_hand() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    assert near_boundary(mask, 1).sum() == 25 - 9  # the outermost ring
    assert near_boundary(mask, 2).sum() == 25 - 1
    assert near_boundary(np.ones((5, 5), bool), 1).sum() == 25 - 9  # the image ends there
    assert boundary_width(360, 480) == 12  # 0.02 of 600


def test_a_shifted_contour_costs_more_of_the_boundary_than_of_the_area() -> None:
    truth, predicted = np.zeros((2, 200, 200), np.uint8)
    truth[40:160, 40:160] = 1
    predicted[40:160, 43:163] = 1
    counts = MapCounts(TABLE, boundaries=True)
    counts.add(truth, predicted)
    road = counts.scores().per_class["road"]
    assert road.IoU == pytest.approx(117 / 123)
    assert road.boundary_iou is not None
    assert road.boundary_iou < 0.75


def test_intervals_by_hand() -> None:
    # 40 images of a pixel each, sky in all; in 20 it is found, in the others road is said. A draw's share of right
    # pixels has a standard deviation of sqrt(0.5 * 0.5 / 40) = 0.079. The sky's IoU is that share, the road's is 0: the
    # mean is half of it.
    counts = MapCounts(TABLE, intervals=True)
    for number in range(40):
        counts.add(np.zeros((1, 1), np.uint8), np.full((1, 1), number % 2, np.uint8))
    intervals = counts.scores().interval95
    assert intervals is not None
    low, high = intervals["pixel_accuracy"] or (np.nan, np.nan)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.079, 0.5 + 1.96 * 0.079), abs=0.03)
    assert intervals["mIoU"] == pytest.approx((low / 2, high / 2))


def test_draws_of_images_are_what_counting_them_anew_gives() -> None:
    pairs = [maps(seed) for seed in range(25)]
    whole = MapCounts(TABLE, intervals=True)
    for truth, predicted in pairs:
        whole.add(truth, predicted)
    draws = []
    for drawn in image_counts(25, seed=0, resamples=RESAMPLES)[:: RESAMPLES // 20]:
        counts = MapCounts(TABLE)
        for (truth, predicted), times in zip(pairs, drawn, strict=True):
            for _ in range(times):
                counts.add(truth, predicted)
        draws.append(counts.scores().mIoU)
    low, high = (whole.scores().interval95 or {})["mIoU"] or (np.nan, np.nan)
    # Of 20 draws one lies outside, as a rule; 4 would be a rare chance.
    assert sum(not low <= (draw or 0) <= high for draw in draws) <= 4
    assert min(draws) < whole.scores().mIoU < max(draws)  # type: ignore[type-var, operator]


def test_few_images_have_no_intervals() -> None:
    counts = MapCounts(TABLE, intervals=True)
    for _ in range(FEWEST_IMAGES - 1):
        counts.add(*maps(0))
    assert counts.scores().interval95 == {"mIoU": None, "pixel_accuracy": None}
    assert MapCounts(TABLE).scores().interval95 is None
