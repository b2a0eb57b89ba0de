"""Task-aligned matching, against numbers by hand and against the paper written as a loop."""

import pytest
import torch
from torch import Tensor

from visionkit.ops.anchors import anchor_points
from visionkit.ops.matching import BACKGROUND, IGNORE, POSITIVE, Matches, match_task_aligned

# Points (4, 4), (12, 4), (4, 12), (12, 12) of a 16-pixel image.
POINTS, STRIDES = anchor_points([(2, 2)], [8])


def match(
    boxes: Tensor,
    gt_boxes: list[list[float]],
    *,
    scores: Tensor | None = None,
    labels: list[int] | None = None,
    ignore: list[bool] | None = None,
    points: Tensor = POINTS,
    strides: Tensor = STRIDES,
    top: int = 10,
) -> Matches:
    """Match one image, with one class and even scores where the test is not about them."""
    return match_image(
        scores=torch.full((len(points), 1), 0.5) if scores is None else scores,
        boxes=boxes,
        points=points,
        strides=strides,
        gt_boxes=torch.tensor(gt_boxes).reshape(-1, 4),
        gt_labels=torch.tensor(labels or [0] * len(gt_boxes), dtype=torch.int64),
        gt_ignore=torch.tensor(ignore or [False] * len(gt_boxes), dtype=torch.bool),
        top=top,
    )


def match_image(scores: Tensor, boxes: Tensor, *, top: int = 13, **scene: Tensor) -> Matches:
    """The matches of a batch of one, without its first dimension."""
    image = torch.zeros(len(scene["gt_boxes"]), dtype=torch.int64)
    matches = match_task_aligned(scores[None], boxes[None], **scene, gt_image=image, top=top)
    return Matches(matches.gt_index[0], matches.label[0], matches.quality[0])


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area_a + area_b - width * height)


def match_by_loop(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    strides: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_ignore: Tensor,
    top: int,
) -> tuple[list[int], list[int], list[float]]:
    """gt_index, label and quality, in double precision, point by point as the docstring says it."""
    count = len(points)
    where = list(zip(points.tolist(), strides.tolist(), strict=True))
    wanted_by: list[list[int]] = [[] for _ in range(count)]
    alignment: dict[tuple[int, int], float] = {}
    overlap: dict[tuple[int, int], float] = {}
    for g, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
        if gt_ignore[g]:
            continue
        candidates = [i for i, ((x, y), _) in enumerate(where) if x1 < x < x2 and y1 < y < y2]
        if not candidates:
            centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
            candidates = [i for i, ((x, y), s) in enumerate(where) if max(abs(x - centre_x), abs(y - centre_y)) < s]
        for i in candidates:
            overlap[g, i] = iou(boxes[i].tolist(), [x1, y1, x2, y2])
            alignment[g, i] = scores[i, gt_labels[g]].item() * overlap[g, i] ** 6
        for i in sorted(candidates, key=lambda i: -alignment[g, i])[:top]:
            if alignment[g, i] > 0:
                wanted_by[i].append(g)
    owner = [max(wanted, key=lambda g: overlap[g, i]) if wanted else None for i, wanted in enumerate(wanted_by)]

    label, quality = [BACKGROUND] * count, [0.0] * count
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for crowd in gt_boxes[gt_ignore].tolist():
            width, height = min(x2, crowd[2]) - max(x1, crowd[0]), min(y2, crowd[3]) - max(y1, crowd[1])
            if width > 0 and height > 0 and width * height > 0.5 * (x2 - x1) * (y2 - y1):
                label[i] = IGNORE
    for i, g in enumerate(owner):
        if g is not None:
            owned = [j for j in range(count) if owner[j] == g]
            largest = max(alignment[g, j] for j in owned)
            label[i] = POSITIVE
            quality[i] = alignment[g, i] / largest * max(overlap[g, j] for j in owned)
    return [g or 0 for g in owner], label, quality


# By hand --------------------------------------------------------------------------------------------------------------


def test_a_truth_takes_the_points_inside_it() -> None:
    # The left half of the image holds points 0 and 2; each predicts it, cut at the bottom, by half or not at all.
    boxes = torch.tensor([[0.0, 0, 8, 8], [0.0, 0, 8, 16], [0.0, 0, 8, 16], [0.0, 0, 8, 16]])
    matches = match(boxes, [[0.0, 0, 8, 16]])
    assert matches.label.tolist() == [POSITIVE, BACKGROUND, POSITIVE, BACKGROUND]
    # Alignments 0.5 * 0.5^6 and 0.5 * 1^6: scaled so that the best has the largest IoU, 1, the other has 0.5^6.
    torch.testing.assert_close(matches.quality, torch.tensor([0.5**6, 0, 1, 0]))


def test_only_the_top_points_are_taken() -> None:
    # One truth over all four points; IoU with it 1, 3/4, 1/2, 1/4.
    boxes = torch.tensor([[0.0, 0, 16, 16], [0.0, 0, 16, 12], [0.0, 0, 16, 8], [0.0, 0, 16, 4]])
    for top in (1, 2, 3, 4, 10):
        matches = match(boxes, [[0.0, 0, 16, 16]], top=top)
        assert matches.label.tolist() == [POSITIVE if i < top else BACKGROUND for i in range(4)]


def test_the_score_of_the_truths_own_class_counts() -> None:
    # Equal boxes; points 0 and 1 are sure of class 0 and class 1. The truth is of class 1.
    boxes = torch.tensor([[0.0, 0, 16, 16]] * 4)
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.8], [0.2, 0.2], [0.2, 0.2]])
    matches = match(boxes, [[0.0, 0, 16, 16]], scores=scores, labels=[1], top=1)
    assert matches.label.tolist() == [BACKGROUND, POSITIVE, BACKGROUND, BACKGROUND]


def test_a_point_wanted_twice_goes_to_the_truth_it_overlaps_most() -> None:
    # Both truths hold point 0. Its box is the second truth's; all others see nothing.
    boxes = torch.tensor([[0.0, 0, 8, 8], [90.0, 90, 91, 91], [90.0, 90, 91, 91], [90.0, 90, 91, 91]])
    matches = match(boxes, [[0.0, 0, 16, 16], [0.0, 0, 8, 8]])
    assert matches.label.tolist() == [POSITIVE, BACKGROUND, BACKGROUND, BACKGROUND]
    assert matches.gt_index.tolist() == [1, 0, 0, 0]
    assert matches.quality.tolist() == [1, 0, 0, 0]


def test_quality_is_scaled_over_the_points_a_truth_got_not_those_it_wanted() -> None:
    # Truth 0 covers all, truth 1 the left half. Point 0 fits truth 1 (IoU 1) better than truth 0 (IoU 1/2);
    # what is left to truth 0 is point 1 with IoU 1/4: its quality is that.
    nowhere = [90.0, 90, 91, 91]
    boxes = torch.tensor([[0.0, 0, 8, 16], [0.0, 0, 16, 4], nowhere, nowhere])
    matches = match(boxes, [[0.0, 0, 16, 16], [0.0, 0, 8, 16]])
    assert matches.gt_index.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(matches.quality, torch.tensor([1, 0.25, 0, 0]))


def test_a_truth_between_the_cells_takes_points_within_a_stride_of_its_centre() -> None:
    # 7..9 holds no point; its centre (8, 8) is 4 from each, less than the stride of 8. IoU 4 / 256.
    everything = torch.tensor([[0.0, 0, 16, 16]] * 4)
    matches = match(everything, [[7.0, 7, 9, 9]])
    assert matches.label.tolist() == [POSITIVE] * 4
    # However small the IoU (its 6th power is 1.5e-11), the best quality is that IoU.
    torch.testing.assert_close(matches.quality, torch.full((4,), 4 / 256))


@pytest.mark.parametrize("side", [0.5, 1, 4, 16, 64, 256])
def test_the_best_quality_is_the_truths_largest_iou_whatever_its_size(side: float) -> None:
    # A fresh network says boxes of 15 strides: 120 pixels here.
    points, strides = anchor_points([(40, 40)], [8])
    boxes = torch.cat((points - 60, points + 60), -1)
    x1 = 161.0
    gt = [x1, x1, x1 + side, x1 + side]
    matches = match(boxes, [gt], points=points, strides=strides)
    ious = [iou(boxes[i].tolist(), gt) for i in (matches.label == POSITIVE).nonzero().flatten().tolist()]
    assert matches.quality.max().item() == pytest.approx(max(ious), rel=1e-4)


def test_a_prediction_that_misses_the_truth_is_not_positive() -> None:
    # Point 0 is inside the truth but predicts a box elsewhere: nothing to reward.
    elsewhere = torch.tensor([[10.0, 10, 16, 16]] * 4)
    matches = match(elsewhere, [[0.0, 0, 8, 8]])
    assert matches.label.tolist() == [BACKGROUND] * 4
    assert matches.quality.sum().item() == 0


# No truth, crowds -----------------------------------------------------------------------------------------------------


def test_an_image_without_truths_is_background() -> None:
    matches = match(torch.rand(4, 4), [])
    assert matches.label.tolist() == [BACKGROUND] * 4
    assert matches.gt_index.tolist() == [0] * 4
    assert matches.quality.tolist() == [0] * 4


def test_no_points() -> None:
    matches = match(torch.zeros(0, 4), [[0.0, 0, 8, 8]], points=torch.zeros(0, 2), strides=torch.zeros(0))
    assert matches.label.shape == matches.gt_index.shape == matches.quality.shape == (0,)


def test_predictions_mostly_inside_a_crowd_are_ignored() -> None:
    # The crowd is the left half. Shares of the boxes inside it: all, 6/10, 4/10, none.
    boxes = torch.tensor([[0.0, 0, 8, 8], [2.0, 0, 12, 8], [4.0, 0, 14, 8], [8.0, 0, 16, 8]])
    matches = match(boxes, [[0.0, 0, 8, 16]], ignore=[True])
    assert matches.label.tolist() == [IGNORE, IGNORE, BACKGROUND, BACKGROUND]
    assert matches.quality.sum().item() == 0


def test_a_truth_inside_a_crowd_is_learnt_all_the_same() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [8.0, 0, 16, 8], [0.0, 8, 8, 16], [8.0, 8, 16, 16]])
    # The crowd stands first: gt_index speaks of the caller's rows, not of those left without crowds.
    matches = match(boxes, [[0.0, 0, 16, 16], [0.0, 0, 8, 8]], ignore=[True, False])
    assert matches.label.tolist() == [POSITIVE, IGNORE, IGNORE, IGNORE]
    assert matches.gt_index.tolist() == [1, 0, 0, 0]


# Against the loop -----------------------------------------------------------------------------------------------------


def random_scene(seed: int, truths: int, crowds: int) -> dict[str, Tensor]:
    """Noisy predictions around the points of three levels, and truths of all sizes, some between the cells."""
    generator = torch.Generator().manual_seed(seed)
    points, strides = anchor_points([(8, 8), (4, 4), (2, 2)], [8, 16, 32])
    reach = strides[:, None] * 3 * torch.rand(len(points), 4, generator=generator)
    corner = 60 * torch.rand(truths, 2, generator=generator)
    size = 60 * torch.rand(truths, 2, generator=generator) ** 3 + 0.5
    return {
        "scores": torch.rand(len(points), 3, generator=generator),
        "boxes": torch.cat((points - reach[:, :2], points + reach[:, 2:]), -1),
        "points": points,
        "strides": strides,
        "gt_boxes": torch.cat((corner, corner + size), -1),
        "gt_labels": torch.randint(3, (truths,), generator=generator),
        "gt_ignore": torch.arange(truths) < crowds,
    }


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("truths", "crowds", "top"), [(1, 0, 10), (8, 0, 10), (30, 3, 10), (5, 2, 3)])
def test_equals_the_loop(seed: int, truths: int, crowds: int, top: int) -> None:
    scene = random_scene(seed, truths, crowds)
    matches = match_image(**scene, top=top)
    gt_index, label, quality = match_by_loop(**scene, top=top)
    assert matches.label.tolist() == label
    assert matches.gt_index.tolist() == gt_index
    torch.testing.assert_close(matches.quality, torch.tensor(quality), rtol=1e-3, atol=1e-6)


def test_a_batch_equals_its_images_one_by_one() -> None:
    # The second image has no truth, the last only crowds; the truths of the third and first stand mixed.
    scenes = [random_scene(0, 6, 1), random_scene(1, 0, 0), random_scene(2, 9, 0), random_scene(3, 2, 2)]
    image = torch.repeat_interleave(torch.arange(4), torch.tensor([len(s["gt_labels"]) for s in scenes]))
    order = torch.randperm(len(image), generator=torch.Generator().manual_seed(0))
    rows = {name: torch.cat([s[name] for s in scenes])[order] for name in ("gt_boxes", "gt_labels", "gt_ignore")}
    scores, boxes = (torch.stack([s[name] for s in scenes]) for name in ("scores", "boxes"))
    points, strides = scenes[0]["points"], scenes[0]["strides"]
    batch = match_task_aligned(scores, boxes, points, strides, **rows, gt_image=image[order])
    for b, scene in enumerate(scenes):
        alone = match_image(**scene)
        positive = alone.label == POSITIVE
        assert torch.equal(batch.label[b], alone.label)
        assert torch.equal(batch.quality[b], alone.quality)
        taken = rows["gt_boxes"][batch.gt_index[b, positive]]
        assert torch.equal(taken, scene["gt_boxes"][alone.gt_index[positive]])


def test_the_order_of_truths_does_not_matter() -> None:
    scene = random_scene(0, truths=12, crowds=2)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = {**scene, **{name: scene[name][order] for name in ("gt_boxes", "gt_labels", "gt_ignore")}}
    plain, mixed = match_image(**scene), match_image(**shuffled)
    positive = plain.label == POSITIVE
    assert torch.equal(plain.label, mixed.label)
    assert torch.equal(plain.quality, mixed.quality)
    assert torch.equal(plain.gt_index[positive], order[mixed.gt_index[positive]])


def test_matching_takes_no_gradient() -> None:
    scene = random_scene(0, truths=3, crowds=1)
    scene["scores"].requires_grad_()
    scene["boxes"].requires_grad_()
    matches = match_image(**scene)
    assert not matches.quality.requires_grad
