"""YOLO as the paper has it: equation 3 by hand and as a loop, its three verbs, and that it can learn."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.resnet import resnet18
from visionkit.errors import UsageError
from visionkit.models.yolov1 import (
    LossWeights,
    YoloV1,
    YoloV1Head,
    YoloV1Outputs,
    decode_in_cells,
    encode_in_cells,
)
from visionkit.ops.anchors import anchor_points
from visionkit.ops.boxes import box_iou
from visionkit.types import Detections, Level, Target

PARTS = ("centre", "size", "object", "background", "class")


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = (), ignore: Sequence[bool] = ()) -> Target:
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore or [False] * len(labels), dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def model() -> YoloV1:
    """Three classes, in eval. Tests that change anything work on a copy."""
    torch.manual_seed(0)
    return YoloV1(CspLight(), 3).eval()


def images(batch: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


def grid(rows: int, columns: int, class_scores: Tensor, cell_boxes: Tensor) -> YoloV1Outputs:
    """Outputs on cells of 32 px; class_scores [B, A, K], cell_boxes [B, A, N, 5]."""
    points, _ = anchor_points([(rows, columns)], [32])
    return YoloV1Outputs(class_scores, cell_boxes, points, 32, (32 * rows, 32 * columns))


def losses(outputs: YoloV1Outputs, *targets: Target) -> dict[str, float]:
    parts = YoloV1(CspLight(), outputs.class_scores.shape[-1]).loss(outputs, targets).parts
    return {name: value.item() for name, value in parts.items()}


def random_outputs(batch: int, rows: int, columns: int, classes: int = 3, boxes: int = 2) -> YoloV1Outputs:
    generator = torch.Generator().manual_seed(rows)
    shape = (batch, rows * columns)
    return grid(
        rows,
        columns,
        torch.randn(*shape, classes, generator=generator),
        0.4 + 0.3 * torch.randn(*shape, boxes, 5, generator=generator),
    )


# Parts ----------------------------------------------------------------------------------------------------------------


def test_units_are_the_ten_of_the_backbone_then_the_head(model: YoloV1) -> None:
    names = [unit.name for unit in model.units]
    assert names[:10] == [f"backbone.{unit.name}" for unit in CspLight().units]
    assert names[10:] == ["head.tower", "head.box_predictors", "head.class_predictors"]


@pytest.mark.parametrize("backbone", [CspLight, resnet18])
def test_every_parameter_belongs_to_exactly_one_unit(backbone: type[nn.Module]) -> None:
    model = YoloV1(backbone(), 3)
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


def test_the_head_is_the_papers_four_convolutions_and_a_linear_end(model: YoloV1) -> None:
    assert [module.kernel_size for module in model.head.tower.modules() if isinstance(module, nn.Conv2d)] == 4 * [
        (3, 3)
    ]
    slopes = [module.negative_slope for module in model.head.tower.modules() if isinstance(module, nn.LeakyReLU)]
    assert slopes == 4 * [0.1]
    # Two boxes of five numbers, and three classes.
    assert model.head.box_predictors.out_channels == 10
    assert model.head.class_predictors.out_channels == 3


@pytest.mark.parametrize("boxes", [1, 3])
def test_any_number_of_boxes_a_cell(boxes: int) -> None:
    learner = YoloV1(CspLight(), 3, boxes=boxes)
    outputs = learner(images())
    assert outputs.cell_boxes.shape == (2, 4, boxes, 5)
    learner.loss(outputs, [target([[4, 4, 40, 40]], [0]), target()]).total.backward()
    assert learner.predict(outputs, score=-1, iou=1)[0].boxes.shape == (4 * boxes * 3, 4)


# Coding ---------------------------------------------------------------------------------------------------------------


def test_coding_by_hand() -> None:
    # The cell 32..64 x 0..32, centre (48, 16). The box's centre (40, 24) lies a quarter from its left side, three
    # quarters from its top. Width 112 = 448 / 4 and height 28 = 448 / 16, whose roots are 1/2 and 1/4.
    box, point = torch.tensor([-16.0, 10, 96, 38]), torch.tensor([48.0, 16])
    code = encode_in_cells(box, point, 32)
    assert code.tolist() == [0.25, 0.75, 0.5, 0.25]
    assert decode_in_cells(code, point, 32).tolist() == box.tolist()


def test_decode_undoes_encode() -> None:
    torch.manual_seed(0)
    points, _ = anchor_points([(5, 7)], [32])
    corner = 200 * torch.rand(35, 2)
    boxes = torch.cat((corner, corner + 200 * torch.rand(35, 2)), -1)
    boxes[0, 2:] = boxes[0, :2]  # of no size
    torch.testing.assert_close(decode_in_cells(encode_in_cells(boxes, points, 32), points, 32), boxes)


def test_a_negative_root_is_an_empty_side_and_an_inverted_box_a_root_of_0() -> None:
    point = torch.tensor([16.0, 16])
    assert decode_in_cells(torch.tensor([0.5, 0.5, -0.5, 0.25]), point, 32).tolist() == [16, 2, 16, 30]
    assert encode_in_cells(torch.tensor([20.0, 2, 12, 30]), point, 32).tolist() == [0.5, 0.5, 0, 0.25]


# forward --------------------------------------------------------------------------------------------------------------


def test_outputs_have_one_row_a_cell(model: YoloV1) -> None:
    outputs = model(torch.zeros(2, 3, 64, 96))
    assert outputs.class_scores.shape == (2, 6, 3)
    assert outputs.cell_boxes.shape == (2, 6, 2, 5)
    assert outputs.boxes().shape == (2, 6, 2, 4)
    assert outputs.points.tolist() == [[16, 16], [48, 16], [80, 16], [16, 48], [48, 48], [80, 48]]
    assert (outputs.stride, outputs.size) == (32, (64, 96))


def test_rows_are_in_the_order_of_their_points() -> None:
    # Without the tower, which would spread it, a spot in row 2, column 6 of 4 x 8 cells is said by that cell alone.
    head = YoloV1Head(Level(128, 32), 1)
    head.tower = nn.Identity()
    spot = torch.zeros(1, 128, 4, 8)
    spot[:, :, 2, 6] = 1
    change = (head(spot).cell_boxes - head(torch.zeros_like(spot)).cell_boxes).abs().sum((0, 2, 3))
    assert change.nonzero().tolist() == [[2 * 8 + 6]]
    assert head(spot).points[2 * 8 + 6].tolist() == [6.5 * 32, 2.5 * 32]


def test_a_fresh_head_says_nothing_is_there(model: YoloV1) -> None:
    with torch.no_grad():
        outputs = model(images())
    # Biases: the cell's middle, sides of 0.4^2 * 448 = 72 px, no confidence, each of three classes at 1/3.
    expected = torch.tensor([0.5, 0.5, 0.4, 0.4, 0]).expand_as(outputs.cell_boxes)
    torch.testing.assert_close(outputs.cell_boxes, expected, rtol=0, atol=0.1)
    torch.testing.assert_close(outputs.class_scores, torch.full((2, 4, 3), 1 / 3), rtol=0, atol=0.1)
    assert all(len(found.scores) == 0 for found in model.predict(outputs))


def test_a_size_that_does_not_fit_is_refused_with_one_that_does(model: YoloV1) -> None:
    with pytest.raises(UsageError) as error:
        model(torch.zeros(1, 3, 333, 500))
    assert str(error.value) == "image size must be divisible by 32, got 333x500; use 352x512"


def test_an_object_means_the_same_numbers_in_a_larger_image() -> None:
    # Sizes are shares of 448 px, not of the image: 0.25^2 * 448 = 28 px in one cell as in four.
    code = torch.tensor([0.5, 0.5, 0.25, 0.25, 1])
    small = grid(1, 1, torch.zeros(1, 1, 1), code.view(1, 1, 1, 5))
    large = grid(2, 2, torch.zeros(1, 4, 1), code.expand(1, 4, 1, 5))
    assert small.boxes()[0, 0].tolist() == large.boxes()[0, 0].tolist() == [[2, 2, 30, 30]]


def test_training_mode_changes_nothing_but_the_norms(model: YoloV1) -> None:
    in_training = copy.deepcopy(model).train()
    for module in in_training.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    expected, outputs = model(images()), in_training(images())
    assert type(outputs) is type(expected) is YoloV1Outputs
    assert torch.equal(outputs.class_scores, expected.class_scores)
    assert torch.equal(outputs.cell_boxes, expected.cell_boxes)
    truth = [target([[4, 4, 40, 40]], [0]), target()]
    assert torch.equal(in_training.loss(outputs, truth).total, model.loss(expected, truth).total)
    found, wanted = in_training.predict(outputs, score=0), model.predict(expected, score=0)
    assert all(torch.equal(ours.boxes, theirs.boxes) for ours, theirs in zip(found, wanted, strict=True))


def test_a_batch_equals_its_images_one_by_one(model: YoloV1) -> None:
    batch = images(3)
    with torch.no_grad():
        together = model(batch)
        alone = [model(image[None]) for image in batch]
    for name in ("class_scores", "cell_boxes"):
        expected = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(together, name), expected, rtol=1e-4, atol=1e-5)


# loss -----------------------------------------------------------------------------------------------------------------


# One image of one cell. The truth, 28 x 7 px around its middle, is (1/2, 1/2, 1/4, 1/8) in the cell, of class 0 of two.
TRUTH = target([[2, 12.5, 30, 19.5]], [0])
# 112 x 112 px around the middle: it holds the truth, IoU 196 / 12544 = 1/64.
WIDE = [0.5, 0.5, 0.5, 0.5, 0.4]
# 28 x 28 px, 8 px to the right: overlap 20 * 7 = 140, union 784 + 196 - 140 = 840, IoU 1/6.
SHIFTED = [0.75, 0.5, 0.25, 0.25, 2 / 3]


def one_cell(*boxes: list[float], scores: Sequence[float] = (0.3, 0.9)) -> YoloV1Outputs:
    return grid(1, 1, torch.tensor([[scores]]), torch.tensor([[boxes]]))


@pytest.mark.parametrize("boxes", [(WIDE, SHIFTED), (SHIFTED, WIDE)])
def test_loss_by_hand(boxes: tuple[list[float], list[float]]) -> None:
    # The shifted box overlaps more: it alone is responsible, wherever it stands.
    assert losses(one_cell(*boxes), TRUTH) == pytest.approx(
        {
            "centre": 5 * 0.25**2,
            "size": 5 * (1 / 4 - 1 / 8) ** 2,  # of the height; the width fits
            "object": (2 / 3 - 1 / 6) ** 2,  # the confidence asked for is the IoU
            "background": 0.5 * 0.4**2,  # the other box
            "class": 0.7**2 + 0.9**2,
        }
    )


def test_without_objects_every_confidence_is_pushed_to_0() -> None:
    # 1/2 (0.4^2 + (2/3)^2); the classes of an empty cell do not count.
    expected = dict.fromkeys(PARTS, 0.0) | {"background": 0.5 * (0.16 + 4 / 9)}
    assert losses(one_cell(WIDE, SHIFTED), target()) == pytest.approx(expected)


def test_the_first_of_equals_is_responsible() -> None:
    # Both have a side without length, so IoU 0; the first learns coordinates, the second is background.
    found = losses(one_cell([0.5, 0.5, -1, 0.5, 0.2], [0.5, 0.5, -1, 0.5, 0.6]), TRUTH)
    assert found["object"] == pytest.approx(0.2**2)
    assert found["background"] == pytest.approx(0.5 * 0.6**2)
    # The root is asked for directly: 1/4 for -1 and 1/8 for 1/2. No square root of a prediction is ever taken.
    assert found["size"] == pytest.approx(5 * (1.25**2 + 0.375**2))


def test_losses_are_averaged_over_the_images() -> None:
    both = one_cell(WIDE, SHIFTED)
    both = grid(1, 1, both.class_scores.repeat(2, 1, 1), both.cell_boxes.repeat(2, 1, 1, 1))
    with_object, without = losses(one_cell(WIDE, SHIFTED), TRUTH), losses(one_cell(WIDE, SHIFTED), target())
    expected = {name: (with_object[name] + without[name]) / 2 for name in PARTS}
    assert losses(both, TRUTH, target()) == pytest.approx(expected)


def test_weights_multiply_their_losses() -> None:
    outputs = one_cell(WIDE, SHIFTED)
    plain = YoloV1(CspLight(), 2, weights=LossWeights(1, 1)).loss(outputs, [TRUTH]).parts
    weighted = YoloV1(CspLight(), 2, weights=LossWeights(3, 4)).loss(outputs, [TRUTH]).parts
    factors = {"centre": 3, "size": 3, "object": 1, "background": 4, "class": 1}
    assert {name: (weighted[name] / plain[name]).item() for name in PARTS} == pytest.approx(factors)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (a, b))
    return width * height / max(area_a + area_b - width * height, 1e-7)


def loss_by_loop(outputs: YoloV1Outputs, targets: Sequence[Target], rows: int, columns: int) -> dict[str, float]:
    """Equation 3 of the paper, cell by cell and box by box."""
    total = dict.fromkeys(PARTS, 0.0)
    for b, truth in enumerate(targets):
        objects = list(zip(truth.boxes.tolist(), truth.labels.tolist(), truth.ignore.tolist(), strict=True))
        for cell in range(rows * columns):
            row, column = divmod(cell, columns)
            owner, crowded = None, False
            for box, label, ignore in objects:
                x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                home = column == min(max(x // 32, 0), columns - 1) and row == min(max(y // 32, 0), rows - 1)
                area = (box[2] - box[0]) * (box[3] - box[1])
                if ignore:
                    middle_x, middle_y = 32 * column + 16, 32 * row + 16
                    crowded |= home or (box[0] <= middle_x < box[2] and box[1] <= middle_y < box[3])
                elif home and (owner is None or area > owner[2]):
                    owner = (box, label, area, x, y)
            overlaps = []
            for code in outputs.cell_boxes[b, cell].tolist():
                x, y = 32 * (column + code[0]), 32 * (row + code[1])
                w, h = (448 * max(root, 0) ** 2 for root in code[2:4])
                overlaps.append(iou((x - w / 2, y - h / 2, x + w / 2, y + h / 2), owner[0]) if owner else 0.0)
            responsible = overlaps.index(max(overlaps)) if owner else None
            for n, code in enumerate(outputs.cell_boxes[b, cell].tolist()):
                if owner and n == responsible:
                    box, _, _, x, y = owner
                    total["centre"] += 5 * ((code[0] - (x / 32 - column)) ** 2 + (code[1] - (y / 32 - row)) ** 2)
                    for root, side in ((code[2], box[2] - box[0]), (code[3], box[3] - box[1])):
                        total["size"] += 5 * (root - (side / 448) ** 0.5) ** 2
                    total["object"] += (code[4] - overlaps[n]) ** 2
                elif not crowded:
                    total["background"] += 0.5 * code[4] ** 2
            if owner:
                for k, score in enumerate(outputs.class_scores[b, cell].tolist()):
                    total["class"] += (score - (k == owner[1])) ** 2
    return {name: value / len(targets) for name, value in total.items()}


@pytest.mark.parametrize("boxes", [1, 2, 3])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 3), (2, 5)])
def test_loss_equals_the_loop(rows: int, columns: int, boxes: int) -> None:
    generator = torch.Generator().manual_seed(10 * rows + boxes)
    targets = []
    for count in (0, 1, 4, 12):  # twelve objects on nine cells: some share one
        centre = torch.rand(count, 2, generator=generator) * torch.tensor([32.0 * columns, 32 * rows])
        half = 2 + 40 * torch.rand(count, 2, generator=generator)
        targets.append(
            Target(
                torch.cat((centre - half, centre + half), -1),
                torch.randint(3, (count,), generator=generator),
                torch.rand(count, generator=generator) < 0.25,
            )
        )
    outputs = random_outputs(len(targets), rows, columns, boxes=boxes)
    assert losses(outputs, *targets) == pytest.approx(loss_by_loop(outputs, targets, rows, columns), rel=1e-4)


def test_of_several_objects_in_a_cell_the_largest_is_learnt() -> None:
    outputs = one_cell(WIDE, SHIFTED)
    small, large = [14.0, 14, 18, 18], TRUTH.boxes[0].tolist()
    expected = losses(outputs, TRUTH)
    assert losses(outputs, target([small, large], [1, 0])) == pytest.approx(expected)
    assert losses(outputs, target([large, small], [0, 1])) == pytest.approx(expected)
    # Of equally large ones the first.
    assert losses(outputs, target([large, large], [0, 1])) == pytest.approx(expected)


def test_ignored_objects_are_neither_learnt_nor_background() -> None:
    # Four cells of 32 px in a row; every confidence is 1, so a box that is background costs 1/2.
    outputs = grid(1, 4, torch.zeros(1, 4, 2), torch.tensor([0.5, 0.5, 0.25, 0.25, 1]).expand(1, 4, 2, 5))
    nothing = dict.fromkeys(PARTS, 0.0)
    assert losses(outputs, target()) == pytest.approx(nothing | {"background": 4.0})
    # 10..90 covers the middles 16, 48 and 80 of three cells.
    assert losses(outputs, target([[10, 0, 90, 32]], [0], [True])) == pytest.approx(nothing | {"background": 1.0})
    # A small one covers none, but its centre is in the second cell.
    assert losses(outputs, target([[34, 2, 38, 6]], [0], [True])) == pytest.approx(nothing | {"background": 3.0})
    # An object within the region is learnt all the same: its box fits, IoU 1, and only its class is wrong, by 1. Its
    # cell's other box is left alone.
    both = target([[34, 2, 62, 30], [32, 0, 64, 32]], [1, 0], [False, True])
    assert losses(outputs, both) == pytest.approx(nothing | {"background": 3.0, "class": 1.0})


AWKWARD = {
    "no truth at all": [target(), target()],
    "only crowds": [target([[0, 0, 64, 64]], [0], [True]), target([[5, 5, 9, 9]], [1], [True])],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
    "tiny boxes between the cells": [
        target([[31.5, 31.5, 32.5, 32.5], [31.9, 31.9, 32.1, 32.1]], [0, 1]),
        target([[0, 0, 0.5, 0.5]], [2]),
    ],
    "a box of no size": [target([[20, 20, 20, 20]], [0]), target([[20, 20, 10, 10]], [0])],
    "twice the same box": [target([[4, 4, 40, 40]] * 2, [0, 1]), target([[4, 4, 40, 40]] * 2, [1, 1])],
    "a centre beyond the image": [target([[-900, -900, 90, 90]], [0]), target([[60, 60, 70, 70]], [0])],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_batches_give_finite_losses_and_gradients(model: YoloV1, truth: list[Target]) -> None:
    learner = copy.deepcopy(model).train()
    found = learner.loss(learner(images()), truth)
    assert tuple(found.parts) == PARTS
    found.total.backward()
    assert found.total.isfinite()
    # Also where there is nothing to localise: the optimizer finds a gradient at every parameter.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


def test_gradients_flow_where_the_loss_asks_and_nowhere_else() -> None:
    outputs = one_cell(WIDE, SHIFTED)
    outputs.cell_boxes.requires_grad_()
    outputs.class_scores.requires_grad_()
    YoloV1(CspLight(), 2).loss(outputs, [TRUTH]).total.backward()
    assert outputs.cell_boxes.grad is not None
    assert outputs.class_scores.grad is not None
    wide, shifted = outputs.cell_boxes.grad[0, 0].tolist()
    # Twice each weight times each error. The IoU is a target: through it no box moves.
    assert wide == pytest.approx([0, 0, 0, 0, 2 * 0.5 * 0.4])
    assert shifted == pytest.approx([2 * 5 * 0.25, 0, 0, 2 * 5 * 0.125, 2 * (2 / 3 - 1 / 6)])
    assert outputs.class_scores.grad[0, 0].tolist() == pytest.approx([-2 * 0.7, 2 * 0.9])


def test_half_precision_outputs_are_judged_in_single_precision(model: YoloV1) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(images())
    assert outputs.cell_boxes.dtype == outputs.class_scores.dtype == torch.bfloat16
    assert outputs.boxes().dtype == torch.float32
    found = model.predict(outputs, score=0)[0]
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    parts = model.loss(outputs, [target([[4, 4, 40, 40]], [1]), target()]).parts
    assert {part.dtype for part in parts.values()} == {torch.float32}


# predict --------------------------------------------------------------------------------------------------------------


def predict(outputs: YoloV1Outputs, **options: float) -> Detections:
    (detections,) = YoloV1(CspLight(), outputs.class_scores.shape[-1]).predict(outputs, **options)
    return detections


def test_predict_by_hand() -> None:
    # Two cells. The first: a box of 28 x 28 px at its middle and one of 112 x 28, which the image 0..64 cuts; the
    # second's boxes are unsure.
    first = [[0.5, 0.5, 0.25, 0.25, 0.9], [0.5, 0.5, 0.5, 0.25, 0.5]]
    second = [[0.5, 0.5, 0.25, 0.25, 0.1]] * 2
    outputs = grid(1, 2, torch.tensor([[[0.8, 0.2], [0.9, 0.9]]]), torch.tensor([[first, second]]))
    found = predict(outputs, score=0.3)
    # Scores: confidence times class, 0.9 * 0.8 and 0.5 * 0.8; 0.9 * 0.2 is too low.
    assert found.scores.tolist() == pytest.approx([0.72, 0.4])
    assert found.labels.tolist() == [0, 0]
    assert found.boxes.tolist() == [[2, 2, 30, 30], [0, 2, 64, 30]]


def test_scores_and_boxes_keep_their_bounds() -> None:
    # Regressed numbers need not: two negatives make no detection, numbers above 1 no score above 1.
    box = [0.5, 0.5, 2.0, 2.0]
    outputs = grid(1, 1, torch.tensor([[[1.5, -0.5]]]), torch.tensor([[[[*box, 1.2], [*box, -0.9]]]]))
    found = predict(outputs, score=0.01)
    assert found.scores.tolist() == [1]
    assert found.labels.tolist() == [0]
    assert found.boxes.tolist() == [[0, 0, 32, 32]]


def test_predict_suppresses_within_a_class() -> None:
    # Both boxes of the cell are the same; each may be either class.
    box = [0.5, 0.5, 0.25, 0.25]
    outputs = grid(1, 1, torch.tensor([[[0.9, 0.8]]]), torch.tensor([[[[*box, 0.9], [*box, 0.8]]]]))
    found = predict(outputs, score=0.1, iou=0.5)
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.81, 0.72])
    assert len(predict(outputs, score=0.1, iou=0.5, max_det=1).scores) == 1


def test_predict_nothing_without_gradient(model: YoloV1) -> None:
    found = model.predict(model(images()), score=0.9)[0]
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.int64
    assert not model.predict(model(images()), score=0)[0].boxes.requires_grad


# Learning -------------------------------------------------------------------------------------------------------------


def test_learns_four_images_by_heart() -> None:
    torch.manual_seed(0)
    colours = torch.tensor([[230.0, 40, 40], [40, 220, 60]])
    pictures, truths = torch.full((4, 3, 64, 64), 60.0), []
    for i, picture in enumerate(pictures):
        # One block in the left half and one in the right, of both classes in turn.
        boxes = torch.tensor([[2 + i, 3 + 2 * i, 24 + i, 27 + 3 * i], [34 + i, 20 - 3 * i, 60 - i, 52 - 2 * i]])
        labels = torch.tensor([i % 2, (i // 2) % 2])
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels, strict=True):
            picture[:, y1:y2, x1:x2] = colours[label][:, None, None]
        truths.append(Target(boxes.float(), labels, torch.tensor([False, False])))
    # Each three times, with some noise: the norms need more than the 2 x 2 values of four images' maps.
    pictures, truths = pictures.repeat(3, 1, 1, 1), 3 * truths
    pictures += 8 * torch.randn(pictures.shape)

    model = YoloV1(CspLight(), 2).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # at the usual 0.03, the statistics need hundreds of steps to arrive
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, total_iters=100)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(model(pictures), truths).total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        schedule.step()

    # Each truth once, nothing else: AP at IoU 0.7 is 1.
    with torch.inference_mode():
        for found, truth in zip(model.eval().predict(model(pictures), score=0.5, iou=0.5), truths, strict=True):
            overlap = box_iou(found.boxes[:, None], truth.boxes)
            assert overlap.shape == (2, 2)
            assert overlap.amax(0).min() > 0.7
            assert found.labels.tolist() == truth.labels[overlap.argmax(1)].tolist()
