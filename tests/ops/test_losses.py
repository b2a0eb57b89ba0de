"""Losses by hand, by loop, and by gradient."""

import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor

from visionkit.errors import ConfigError
from visionkit.ops.losses import (
    BOX_LOSSES,
    CLASS_LOSSES,
    LOSSES,
    NUMBER_LOSSES,
    QUALITY_LOSSES,
    SCORE_LOSSES,
    bce_loss,
    classification_loss,
    cross_entropy_loss,
    dice_loss,
    distribution_focal_loss,
    focal_loss,
    hinge_loss,
    named_loss,
    quality_focal_loss,
    smooth_l1_loss,
    softmax_focal_loss,
    varifocal_loss,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def boxes_around(centre: float, count: int, seed: int) -> Tensor:
    """f64 [N, 4], sides of 2 to 12 px."""
    generator = torch.Generator().manual_seed(seed)
    sides = 2 + 10 * torch.rand(count, 2, generator=generator, dtype=torch.double)
    corners = centre + 8 * torch.rand(count, 2, generator=generator, dtype=torch.double)
    return torch.cat((corners, corners + sides), 1)


def test_every_loss_has_one_name() -> None:
    of_boxes, of_numbers, of_masks = "iou giou diou ciou", "l1 smooth-l1 mse", "dice"
    of_classes = "bce focal quality-focal varifocal hinge cross-entropy softmax-focal"
    assert set(LOSSES) == set(f"{of_boxes} {of_numbers} {of_classes} {of_masks}".split())


def test_a_name_that_a_dict_lacks_is_refused_with_those_it_has() -> None:
    assert named_loss(QUALITY_LOSSES, "bce", "class_loss") is bce_loss
    with pytest.raises(ConfigError) as error:
        named_loss(QUALITY_LOSSES, "focal", "class_loss of yolo")
    choices = "bce, quality-focal, varifocal"
    assert str(error.value) == f"class_loss of yolo must be one of {choices}, got focal; choose one of these"


# Box ------------------------------------------------------------------------------------------------------------------


BESIDE = ([0.0, 0, 2, 2], [1.0, 0, 3, 2])  # half over the other: IoU 2 / (4 + 4 - 2) = 1/3
APART = ([0.0, 0, 1, 1], [3.0, 0, 4, 1])
WIDE = ([0.0, 0, 1, 1], [0.0, 0, 3, 1])  # IoU 1 / 3
ASPECT = 4 / math.pi**2 * (math.atan(3) - math.atan(1)) ** 2


@pytest.mark.parametrize(
    ("name", "pair", "expected"),
    [
        ("iou", BESIDE, 1 - 1 / 3),
        ("iou", APART, 1),
        ("giou", BESIDE, 1 - 1 / 3),  # the hull of 3 x 2 is filled
        ("giou", APART, 1 + (4 - 2) / 4),  # of the hull of 4 x 1 half is empty
        ("diou", BESIDE, 1 - 1 / 3 + 1 / 13),  # centres 1 apart, a hull of 3 x 2 has a squared diagonal of 9 + 4
        ("diou", APART, 1 + 9 / 17),  # 3 apart, 16 + 1
        ("ciou", BESIDE, 1 - 1 / 3 + 1 / 13),  # the same aspect
        # Centres 1 apart, diagonal 9 + 1; the aspect counts v times v / (1 - IoU + v).
        ("ciou", WIDE, 1 - 1 / 3 + 1 / 10 + ASPECT**2 / (1 - 1 / 3 + ASPECT)),
    ],
)
def test_box_loss_by_hand(name: str, pair: tuple[list[float], list[float]], expected: float) -> None:
    a, b = (torch.tensor([box]) for box in pair)
    assert BOX_LOSSES[name](a, b).item() == pytest.approx(expected, abs=1e-6)
    assert BOX_LOSSES[name](b, a).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_box_loss_is_0_for_the_truth_itself_batch_equals_loop_and_no_box(name: str) -> None:
    loss = BOX_LOSSES[name]
    boxes, truth = boxes_around(0, 10, 0).float(), boxes_around(2, 10, 1).float()
    torch.testing.assert_close(loss(truth, truth), torch.zeros(10), rtol=0, atol=1e-6)
    rows = [loss(boxes[i : i + 1], truth[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(loss(boxes, truth), torch.cat(rows))
    assert loss(boxes[:0], truth[:0]).shape == (0,)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_box_loss_and_its_gradient_are_torchvisions(name: str) -> None:
    peer = {
        "giou": torchvision.ops.generalized_box_iou_loss,
        "diou": torchvision.ops.distance_box_iou_loss,
        "ciou": torchvision.ops.complete_box_iou_loss,
    }[name]
    gradients = []
    for loss in (BOX_LOSSES[name], peer):
        boxes = boxes_around(0, 20, 0).requires_grad_()
        losses = loss(boxes, boxes_around(2, 20, 1))
        losses.sum().backward()
        gradients.append(torch.cat((losses.detach()[:, None], boxes.grad), 1))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


# Not ciou: the weight of its aspect takes no gradient.
@pytest.mark.parametrize("name", ["iou", "giou", "diou"])
def test_gradient_of_a_box_loss(name: str) -> None:
    boxes, truth = boxes_around(0, 5, 0).requires_grad_(), boxes_around(2, 5, 1)
    assert torch.autograd.gradcheck(BOX_LOSSES[name], (boxes, truth))


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_degenerate_boxes_have_finite_losses_and_gradients(name: str) -> None:
    point, line, inverted, huge = [5.0, 5, 5, 5], [0.0, 5, 9, 5], [9.0, 9, 2, 3], [-1e6, -1e6, 1e6, 1e6]
    every = torch.tensor([point, line, inverted, huge, [0, 0, 1e-6, 1e-6]])
    boxes = every.repeat_interleave(5, 0).requires_grad_()
    losses = BOX_LOSSES[name](boxes, every.repeat(5, 1))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert boxes.grad.isfinite().all()


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    # Differences 3, -0.5 and 0. Smooth L1 is a parabola up to 1: 3 - 1/2, 0.25 / 2, 0.
    [("l1", [3, 0.5, 0]), ("smooth-l1", [2.5, 0.125, 0]), ("mse", [9, 0.25, 0])],
)
def test_number_loss_by_hand(name: str, expected: list[float]) -> None:
    loss = NUMBER_LOSSES[name](torch.tensor([4.0, 0.5, 2]), torch.tensor([1.0, 1, 2]))
    assert loss.tolist() == pytest.approx(expected)


def test_smooth_l1_turns_at_beta() -> None:
    # beta 2: 1² / 4, then 3 - 1.
    assert smooth_l1_loss(torch.tensor([1.0, 3]), torch.zeros(2), beta=2).tolist() == pytest.approx([0.25, 2])
    assert smooth_l1_loss(torch.tensor([1.0, 3]), torch.zeros(2), beta=0).tolist() == [1, 3]


# Scores ---------------------------------------------------------------------------------------------------------------


LOG3 = math.log(3)  # the logit of 3/4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Logits log 3, log 3, 0 are 3/4, 3/4, 1/2; the targets 1, 0, 1.
        ("bce", [-math.log(3 / 4), -math.log(1 / 4), math.log(2)]),
        # alpha (1 - p)² = 1/4 * 1/16; (1 - alpha) p² = 3/4 * 9/16; 1/4 * 1/4
        ("focal", [-math.log(3 / 4) / 64, -math.log(1 / 4) * 27 / 64, math.log(2) / 16]),
        # |t - p|²: 1/16, 9/16, 1/4
        ("quality-focal", [-math.log(3 / 4) / 16, -math.log(1 / 4) * 9 / 16, math.log(2) / 4]),
        # 1; alpha p² = 3/4 * 9/16; 1
        ("varifocal", [-math.log(3 / 4), -math.log(1 / 4) * 27 / 64, math.log(2)]),
        # 1 - log 3 is below 0; 1 + log 3; 1 - 0
        ("hinge", [0, 1 + LOG3, 1]),
    ],
)
def test_score_loss_by_hand(name: str, expected: list[float]) -> None:
    loss = SCORE_LOSSES[name](torch.tensor([LOG3, LOG3, 0]), torch.tensor([1.0, 0, 1]))
    assert loss.tolist() == pytest.approx(expected, abs=1e-6)


def test_focal_without_focus_is_weighted_cross_entropy() -> None:
    logits, targets = drawn(6, 3), (drawn(6, 3, seed=1) > 0).double()
    expected = bce_loss(logits, targets) * (0.3 * targets + 0.7 * (1 - targets))
    torch.testing.assert_close(focal_loss(logits, targets, alpha=0.3, gamma=0), expected)


def test_quality_focal_is_focal_for_targets_of_0_and_1_and_least_for_the_score_itself() -> None:
    logits, targets = drawn(6, 3), (drawn(6, 3, seed=1) > 0).double()
    # With alpha 1/2 both kinds count half.
    torch.testing.assert_close(quality_focal_loss(logits, targets), 2 * focal_loss(logits, targets, alpha=0.5))
    torch.testing.assert_close(quality_focal_loss(logits, targets, beta=0), bce_loss(logits, targets))
    logits.requires_grad_()
    loss = quality_focal_loss(logits, logits.detach().sigmoid())
    loss.sum().backward()
    assert not loss.any()
    assert not logits.grad.any()


def test_varifocal_weighs_objects_by_their_quality_and_background_by_its_score() -> None:
    logits, targets = drawn(6, 3).requires_grad_(), drawn(6, 3, seed=1).sigmoid()
    torch.testing.assert_close(varifocal_loss(logits, targets), targets * bce_loss(logits, targets))
    nothing = torch.zeros_like(targets)
    torch.testing.assert_close(varifocal_loss(logits, nothing, gamma=0), 0.75 * bce_loss(logits, nothing))
    torch.testing.assert_close(
        varifocal_loss(logits, nothing, alpha=0.3, gamma=3), 0.3 * logits.sigmoid() ** 3 * bce_loss(logits, nothing)
    )
    # An object whose score is its quality has nothing to learn.
    varifocal_loss(logits, logits.detach().sigmoid()).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_focal_is_torchvisions() -> None:
    logits, targets = 3 * drawn(6, 3), (drawn(6, 3, seed=1) > 0).double()
    torch.testing.assert_close(focal_loss(logits, targets), torchvision.ops.sigmoid_focal_loss(logits, targets))


@pytest.mark.parametrize("gamma", [0.5, 2])
def test_sure_scores_have_finite_losses_and_gradients(gamma: float) -> None:
    # Of a float, 1 - sigmoid(100) is 0, and its logarithm endless.
    logits = torch.tensor([100.0, -100, 1e4, -1e4]).repeat(2).requires_grad_()
    targets = torch.tensor([1.0] * 4 + [0] * 4)
    for loss in (bce_loss, hinge_loss, quality_focal_loss, varifocal_loss, lambda x, t: focal_loss(x, t, gamma=gamma)):
        logits.grad = None
        losses = loss(logits, targets)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert logits.grad.isfinite().all()


# One of K classes -----------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand() -> None:
    # Logits log 1, log 2, log 5 are 1/8, 2/8, 5/8.
    logits = torch.tensor([1.0, 2, 5]).log().expand(3, 3)
    loss = cross_entropy_loss(logits, torch.tensor([0, 2, 255]))
    assert loss.tolist() == pytest.approx([math.log(8), math.log(8 / 5), 0])
    # Smoothed by 0.3: each class takes 0.1, and the label's keeps 0.7 beside.
    smoothed = cross_entropy_loss(logits[:1], torch.tensor([0]), label_smoothing=0.3).item()
    assert smoothed == pytest.approx(0.8 * math.log(8) + 0.1 * math.log(4) + 0.1 * math.log(8 / 5))


def test_cross_entropy_of_a_map_is_that_of_its_pixels_and_ignored_ones_take_no_gradient() -> None:
    logits = drawn(2, 4, 3, 5).requires_grad_()
    labels = torch.randint(4, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    labels[0, 1] = 255
    loss = cross_entropy_loss(logits, labels)
    pixels = cross_entropy_loss(logits.movedim(1, -1).reshape(-1, 4), labels.flatten())
    torch.testing.assert_close(loss.flatten(), pixels)
    loss.sum().backward()
    assert not logits.grad[0, :, 1].any()
    assert logits.grad[1].any()
    assert cross_entropy_loss(torch.full((1, 4, 3, 5), 1e4), labels[:1]).isfinite().all()


def test_softmax_focal_by_hand() -> None:
    # p is 1/8 and 5/8: (7/8)² and (3/8)² of what cross-entropy has.
    logits = torch.tensor([1.0, 2, 5]).log().expand(3, 3)
    loss = softmax_focal_loss(logits, torch.tensor([0, 2, 255]))
    assert loss.tolist() == pytest.approx([49 / 64 * math.log(8), 9 / 64 * math.log(8 / 5), 0])
    # The labels are smoothed in the cross-entropy, as above; how easy one is, is how sure of its label.
    smoothed = softmax_focal_loss(logits[:1], torch.tensor([0]), label_smoothing=0.3).item()
    assert smoothed == pytest.approx(49 / 64 * (0.8 * math.log(8) + 0.1 * math.log(4) + 0.1 * math.log(8 / 5)))


def test_softmax_focal_without_focus_is_cross_entropy_and_ignores_as_it_does() -> None:
    logits, labels = drawn(6, 4).requires_grad_(), torch.tensor([0, 1, 2, 3, 255, 255])
    torch.testing.assert_close(softmax_focal_loss(logits, labels, gamma=0), cross_entropy_loss(logits, labels))
    softmax_focal_loss(logits, labels).sum().backward()
    assert logits.grad[:4].all(dim=1).all()
    assert not logits.grad[4:].any()
    sure = torch.tensor([[1e4, 0], [-1e4, 0]], requires_grad=True)
    losses = softmax_focal_loss(sure, torch.tensor([0, 0]))
    losses.sum().backward()
    assert losses.tolist() == [0, 1e4]
    assert sure.grad.isfinite().all()


# Masks ----------------------------------------------------------------------------------------------------------------


def test_dice_by_hand() -> None:
    probabilities = torch.tensor([[[1.0, 0.5], [0, 0]], [[0, 0], [0, 0]]])
    targets = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    # 2 (1 + 0.5) + 1 = 4 over (1 + 0.25) + 2 + 1 = 4.25; nothing to find and nothing found: 1 over 1.
    assert dice_loss(probabilities, targets).tolist() == pytest.approx([1 - 4 / 4.25, 0])
    # As in the paper: 3 / 3.25.
    assert dice_loss(probabilities[:1], targets[:1], smooth=0).tolist() == pytest.approx([1 - 3 / 3.25])
    wrong = dice_loss(torch.ones(1, 100, 100), torch.zeros(1, 100, 100)).item()
    assert wrong == pytest.approx(1 - 1 / 10_001)


# All of them ----------------------------------------------------------------------------------------------------------


def inputs(name: str, count: int = 4) -> tuple[Tensor, Tensor]:
    """Predictions f64 and targets that fit a loss."""
    if name in BOX_LOSSES:
        return boxes_around(0, count, 0), boxes_around(2, count, 1)
    if name in CLASS_LOSSES:
        return drawn(count, 5), torch.arange(count) % 5
    return drawn(count, 5).sigmoid(), (drawn(count, 5, seed=1) > 0).double()


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in BOX_LOSSES])
def test_gradient(name: str) -> None:
    predictions, targets = inputs(name)
    loss: Callable[[Tensor], Tensor] = lambda x: LOSSES[name](x, targets)  # noqa: E731
    assert torch.autograd.gradcheck(loss, predictions.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_is_its_rows_none_gives_none_and_half_precision_is_judged_in_single(name: str) -> None:
    predictions, targets = inputs(name)
    loss = LOSSES[name](predictions, targets)
    rows = [LOSSES[name](predictions[i : i + 1], targets[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(loss, torch.cat(rows))
    assert LOSSES[name](*inputs(name, 0)).shape[0] == 0
    if name not in BOX_LOSSES:  # boxes are decoded in single precision
        targets = targets.float() if targets.is_floating_point() else targets
        assert LOSSES[name](predictions.bfloat16(), targets).dtype == torch.float32


# Distribution ---------------------------------------------------------------------------------------------------------


def dfl_by_loop(logits: list[list[float]], distances: list[float]) -> float:
    """One anchor: four lists of R logits, four distances within the bins."""
    losses = []
    for side, distance in zip(logits, distances, strict=True):
        log_sum = math.log(sum(math.exp(logit) for logit in side))
        below = math.floor(distance)
        losses.append(
            (below + 1 - distance) * (log_sum - side[below]) + (distance - below) * (log_sum - side[below + 1])
        )
    return sum(losses) / 4


def test_distribution_loss_by_hand() -> None:
    # Even over 4 bins: log 4 wherever the truth lies.
    even = torch.zeros(1, 16)
    assert distribution_focal_loss(even, torch.tensor([[0.0, 1, 1.25, 2.9]])).item() == pytest.approx(math.log(4))
    # All four sides say: 3/4 on bin 1, 1/4 on bin 2. The truth 1.25 asks for just that: the entropy is left.
    said = torch.tensor([1e-9, 0.75, 0.25, 1e-9]).log().repeat(4)[None]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert distribution_focal_loss(said, torch.full((1, 4), 1.25)).item() == pytest.approx(entropy, abs=1e-6)


def test_distribution_loss_equals_the_loop_and_a_batch_its_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4 * 16, generator=generator)
    distances = 14.9 * torch.rand(20, 4, generator=generator)
    ours = distribution_focal_loss(logits, distances)
    by_loop = [dfl_by_loop(x.view(4, 16).tolist(), d.tolist()) for x, d in zip(logits, distances, strict=True)]
    torch.testing.assert_close(ours, torch.tensor(by_loop))
    rows = [distribution_focal_loss(logits[i : i + 1], distances[i : i + 1]) for i in range(20)]
    torch.testing.assert_close(ours, torch.cat(rows))


def test_distances_beyond_the_bins_are_clipped_to_them() -> None:
    logits = torch.randn(1, 4 * 4, generator=torch.Generator().manual_seed(0))
    beyond = distribution_focal_loss(logits, torch.tensor([[-5.0, 3, 99, -0.1]]))
    within = distribution_focal_loss(logits, torch.tensor([[0.0, 2.999, 2.999, 0]]))
    torch.testing.assert_close(beyond, within)


def test_distribution_loss_pulls_towards_the_two_bins_around_the_truth() -> None:
    logits = torch.zeros(1, 16, requires_grad=True)
    distribution_focal_loss(logits, torch.full((1, 4), 1.25)).sum().backward()
    assert logits.grad is not None
    # A side's gradient is softmax - target = 1/4 - (0, 0.75, 0.25, 0), by 4 sides.
    torch.testing.assert_close(logits.grad[0, :4], torch.tensor([0.25, -0.5, 0, 0.25]) / 4)


def test_no_positive_point_gives_a_loss_of_0_that_still_has_a_gradient() -> None:
    logits = torch.zeros(0, 64, requires_grad=True)
    loss = distribution_focal_loss(logits, torch.zeros(0, 4)).sum()
    loss.backward()
    assert loss.item() == 0


# Classes --------------------------------------------------------------------------------------------------------------


def test_classification_loss_by_hand() -> None:
    # At logit 0, p = 1/2 and each class costs log 2, whatever its target; two classes: 2 log 2. Weight 0 removes a row.
    logits = torch.zeros(3, 2)
    targets = torch.tensor([[0.0, 0], [1, 0.3], [0, 0]])
    loss = classification_loss(logits, targets, torch.tensor([1.0, 0.5, 0]))
    torch.testing.assert_close(loss, math.log(2) * torch.tensor([2.0, 1, 0]))


def test_classification_loss_takes_another_loss() -> None:
    # At logit 0 the score 1/2 is 1/2 off its target of 1: a quarter of log 2 each, of two classes, by a weight of 3.
    loss = classification_loss(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([3.0]), quality_focal_loss)
    assert loss.item() == pytest.approx(3 * 2 * math.log(2) / 4)


def test_classification_loss_is_least_where_the_score_is_the_target() -> None:
    logit = torch.tensor([[math.log(0.3 / 0.7)]], requires_grad=True)
    classification_loss(logit, torch.tensor([[0.3]]), torch.ones(1)).sum().backward()
    torch.testing.assert_close(logit.grad, torch.zeros(1, 1), rtol=0, atol=1e-7)


def test_gradient_of_the_classification_loss_is_weighted_score_less_target() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets, weights = torch.rand(5, 3), torch.tensor([1.0, 0, 1, 2, 0.5])
    classification_loss(logits, targets, weights).sum().backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - targets) * weights[:, None])


def test_half_precision_logits_are_judged_in_single_precision() -> None:
    logits = torch.randn(4, 8).bfloat16()
    loss = classification_loss(logits, torch.zeros(4, 8), torch.ones(4))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, classification_loss(logits.float(), torch.zeros(4, 8), torch.ones(4)))
    assert distribution_focal_loss(logits, torch.zeros(4, 4)).dtype == torch.float32


def test_no_anchor() -> None:
    assert classification_loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0)).shape == (0,)
