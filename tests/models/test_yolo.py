"""YOLO: its size, its three verbs, the awkward batches, and that it can learn."""

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.resnet import resnet18
from visionkit.errors import UsageError
from visionkit.models import yolo
from visionkit.models.yolo import BINS, LossWeights, Yolo, YoloOutputs
from visionkit.ops.anchors import anchor_points
from visionkit.ops.boxes import box_iou
from visionkit.types import Detections, Level, Target


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = (), ignore: Sequence[bool] = ()) -> Target:
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore or [False] * len(labels), dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def model() -> Yolo:
    """Three classes, in eval. Tests that change anything work on a copy."""
    torch.manual_seed(0)
    return Yolo(CspLight(), 3).eval()


def images(batch: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


def outputs_that_say(found: Sequence[tuple[int, int, float]], classes: int = 2) -> YoloOutputs:
    """Outputs of one 32-pixel image on a grid of 4 x 4 cells of stride 8: (point, class, score), all else at score 0.

    Each point's box reaches one stride, 8 pixels, to each side.
    """
    points, strides = anchor_points([(4, 4)], [8])
    class_logits = torch.full((1, 16, classes), -20.0)
    for point, label, score in found:
        class_logits[0, point, label] = math.log(score / (1 - score))
    side_logits = torch.full((1, 16, 4, BINS), -1e4)
    side_logits[..., 1] = 0
    return YoloOutputs(class_logits, side_logits.flatten(2), points, strides)


# Size and parts -------------------------------------------------------------------------------------------------------


def test_is_light() -> None:
    model = Yolo(CspLight(), 80).eval()
    parameters = sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 640, 640))
    gflops = counter.get_total_flops() / 1e9  # 2 a multiply-add
    said = f"{parameters / 1e6:.2f} M parameters, {gflops:.2f} GFLOPs at 640 with 80 classes"
    assert parameters <= 3.3e6, said
    assert gflops <= 9, said


def test_units_are_the_ten_of_the_backbone_then_neck_and_head(model: Yolo) -> None:
    names = [unit.name for unit in model.units]
    assert names[:10] == [f"backbone.{unit.name}" for unit in CspLight().units]
    assert names[10:] == [
        *("neck.top_down", "neck.down", "neck.bottom_up"),
        *("head.class_towers", "head.side_towers", "head.class_predictors", "head.side_predictors"),
    ]


@pytest.mark.parametrize("backbone", [CspLight, resnet18])
def test_every_parameter_belongs_to_exactly_one_unit(backbone: type[nn.Module]) -> None:
    model = Yolo(backbone(), 3)
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


def test_resnet_feeds_it_through_a_narrower_neck() -> None:
    model = Yolo(resnet18(), 5).eval()
    assert model.neck.levels == (Level(64, 8), Level(128, 16), Level(256, 32))
    outputs = model(images())
    assert outputs.class_logits.shape == (2, 84, 5)
    loss = model.loss(outputs, [target([[4, 4, 40, 40]], [2]), target()]).total
    assert loss.isfinite()


# forward --------------------------------------------------------------------------------------------------------------


def test_outputs_have_one_row_a_cell(model: Yolo) -> None:
    outputs = model(images(side=96))
    # 12^2 + 6^2 + 3^2 cells at strides 8, 16 and 32.
    assert outputs.class_logits.shape == (2, 189, 3)
    assert outputs.side_logits.shape == (2, 189, 4 * BINS)
    assert outputs.points.shape == (189, 2)
    assert outputs.strides.tolist() == [8] * 144 + [16] * 36 + [32] * 9


def test_rows_are_in_the_order_of_their_points(model: Yolo) -> None:
    # A bright spot moves what the network says at its own cells most.
    grey = torch.full((1, 3, 64, 128), 114, dtype=torch.uint8)
    spot = grey.clone()
    spot[..., 40:48, 96:104] = 255  # row 5, column 12 of the 8 x 16 cells of stride 8
    with torch.no_grad():
        change = (model(spot).side_logits - model(grey).side_logits)[0].abs().sum(-1)
    fine = change[: 8 * 16].view(8, 16)
    row, column = divmod(fine.argmax().item(), 16)
    assert abs(row - 5) <= 1
    assert abs(column - 12) <= 1


def test_a_fresh_head_finds_everything_rare_and_every_side_even(model: Yolo) -> None:
    with torch.no_grad():
        outputs = model(images())
    # Prior 0.01; the mean of 0..15 is 7.5 strides to each side.
    assert outputs.class_logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.05)
    sides = (outputs.boxes()[..., 2:] - outputs.boxes()[..., :2]) / outputs.strides[:, None]
    torch.testing.assert_close(sides, torch.full_like(sides, 15), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (333, 500, "image size must be divisible by 32, got 333x500; use 352x512"),
        (64, 65, "image size must be divisible by 32, got 64x65; use 64x96"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(
    model: Yolo, height: int, width: int, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        model(torch.zeros(1, 3, height, width))
    assert str(error.value) == message


def test_training_mode_changes_nothing_but_the_norms(model: Yolo) -> None:
    in_training = copy.deepcopy(model).train()
    for module in in_training.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    expected, outputs = model(images()), in_training(images())
    assert type(outputs) is type(expected) is YoloOutputs
    assert torch.equal(outputs.class_logits, expected.class_logits)
    assert torch.equal(outputs.side_logits, expected.side_logits)
    truth = [target([[4, 4, 40, 40]], [0]), target()]
    assert torch.equal(in_training.loss(outputs, truth).total, model.loss(expected, truth).total)
    found, wanted = in_training.predict(outputs, score=0.005), model.predict(expected, score=0.005)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours.boxes, theirs.boxes)


def test_a_batch_equals_its_images_one_by_one(model: Yolo) -> None:
    batch = images(3)
    with torch.no_grad():
        together = model(batch)
        alone = [model(image[None]) for image in batch]
    for name in ("class_logits", "side_logits"):
        torch.testing.assert_close(
            getattr(together, name), torch.cat([getattr(one, name) for one in alone]), rtol=1e-4, atol=1e-5
        )


# loss -----------------------------------------------------------------------------------------------------------------


def test_loss_by_hand() -> None:
    # One truth that is exactly what point 5, centre (12, 12), says: 4..20, so IoU and quality are 1. Its neighbours'
    # centres lie on its sides or beyond: only point 5 is positive.
    outputs = outputs_that_say([(5, 0, 0.5)])
    losses = Yolo(CspLight(), 2).loss(outputs, [target([[4, 4, 20, 20]], [0])]).parts
    # The box fits; the distribution is sure of bin 1, the true distance; score 0.5 for a target of 1 costs log 2.
    assert losses["class"].item() == pytest.approx(math.log(2), abs=1e-5)
    assert losses["box"].item() == pytest.approx(0, abs=1e-5)
    assert losses["distribution"].item() == pytest.approx(0, abs=1e-5)


def test_weights_multiply_their_losses(model: Yolo) -> None:
    outputs, truth = model(images(1)), [target([[4, 4, 40, 40]], [1])]
    plain = Yolo(CspLight(), 3, weights=LossWeights(1, 1, 1)).loss(outputs, truth).parts
    weighted = Yolo(CspLight(), 3, weights=LossWeights(2, 3, 4)).loss(outputs, truth)
    factors = {"class": 2, "box": 3, "distribution": 4}
    assert {name: (weighted.parts[name] / plain[name]).item() for name in plain} == pytest.approx(factors)
    assert weighted.total.item() == pytest.approx(sum(factors[name] * plain[name].item() for name in plain))


AWKWARD = {
    "no truth at all": [target(), target()],
    "only crowds": [target([[0, 0, 64, 64]], [0], [True]), target([[5, 5, 9, 9]], [1], [True])],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
    "tiny boxes between the cells": [
        target([[15.5, 15.5, 16.5, 16.5], [31.9, 31.9, 32.1, 32.1]], [0, 1]),
        target([[0, 0, 0.5, 0.5]], [2]),
    ],
    "twice the same box": [target([[4, 4, 40, 40]] * 2, [0, 1]), target([[4, 4, 40, 40]] * 2, [1, 1])],
    "a box beyond the bins and the image": [target([[-900, -900, 900, 900]], [0]), target([[60, 60, 70, 70]], [0])],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_batches_give_finite_losses_and_gradients(model: Yolo, truth: list[Target]) -> None:
    learner = copy.deepcopy(model).train()
    losses = learner.loss(learner(images()), truth)
    assert set(losses.parts) == {"class", "box", "distribution"}
    losses.total.backward()
    assert losses.total.isfinite()
    # Also where there is nothing to localise: the optimizer finds a gradient at every parameter.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


def test_a_single_image_learns_in_training_mode(model: Yolo) -> None:
    learner = copy.deepcopy(model).train()
    assert learner.loss(learner(images(1)), [target([[4, 4, 40, 40]], [2])]).total.isfinite()


def test_without_truths_every_score_is_pushed_to_0() -> None:
    outputs = outputs_that_say([(0, 0, 0.5), (3, 1, 0.5)])
    losses = Yolo(CspLight(), 2).loss(outputs, [target()]).parts
    # Two logits at p = 1/2 cost log 2 each, the rest nothing; no quality to divide by, so by 1.
    assert losses["class"].item() == pytest.approx(2 * math.log(2), abs=1e-4)
    assert losses["box"].item() == losses["distribution"].item() == 0


def test_a_crowd_takes_the_punishment_away() -> None:
    outputs = outputs_that_say([(0, 0, 0.5), (15, 1, 0.5)])
    # Point 0's box is -4..12, half of it in the image's upper left quarter 0..16: 144 / 256 is more than half.
    losses = Yolo(CspLight(), 2).loss(outputs, [target([[0, 0, 16, 16]], [0], [True])]).parts
    assert losses["class"].item() == pytest.approx(math.log(2), abs=1e-4)


def test_a_tiny_box_between_the_cells_is_learnt(model: Yolo) -> None:
    # The 4 x 4 truth lies between the points of all strides, and a fresh network's boxes are 120 wide and more.
    outputs = model(images(1))
    outputs.class_logits.retain_grad()
    outputs.side_logits.retain_grad()
    model.loss(outputs, [target([[30, 30, 34, 34]], [1])]).total.backward()
    assert outputs.class_logits.grad is not None
    assert outputs.side_logits.grad is not None
    learning = outputs.side_logits.grad.abs().sum(-1)[0] > 0
    assert learning.sum() == 12  # the four points around it at each of three strides
    # The class is asked for as much as the best box overlaps: gradient = score - IoU (about 16 / 120^2), divided by 1.
    score, asked = outputs.class_logits.detach().sigmoid(), 16 / 120**2
    pulled = (score - outputs.class_logits.grad)[0, learning].amax(0)
    assert pulled.tolist() == pytest.approx([0, asked, 0], abs=0.1 * asked)


def test_the_order_of_truths_does_not_matter(model: Yolo) -> None:
    boxes, labels = [[4, 4, 40, 40], [20, 10, 60, 30], [50, 50, 54, 54], [0, 0, 64, 64]], [0, 1, 2, 1]
    ignore = [False, False, False, True]
    outputs = model(images(1))
    plain = model.loss(outputs, [target(boxes, labels, ignore)]).parts
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        shuffled = target([boxes[i] for i in order], [labels[i] for i in order], [ignore[i] for i in order])
        mixed = model.loss(outputs, [shuffled]).parts
        assert {k: v.item() for k, v in mixed.items()} == pytest.approx({k: v.item() for k, v in plain.items()})


def test_no_gradient_flows_through_the_matching(model: Yolo, monkeypatch: pytest.MonkeyPatch) -> None:
    # The gradient is that of the loss with its targets held.
    truth = [target([[4, 4, 40, 40]], [2]), target([[20, 20, 60, 50]], [0])]

    def gradients() -> list[torch.Tensor]:
        learner = copy.deepcopy(model)
        learner.loss(learner(images()), truth).total.backward()
        return [p.grad for p in learner.parameters() if p.grad is not None]

    free = gradients()
    held = yolo._match_batch(model(images()), truth)
    monkeypatch.setattr(yolo, "_match_batch", lambda outputs, targets: held)
    assert len(free) > 100
    for ours, theirs in zip(free, gradients(), strict=True):
        assert torch.equal(ours, theirs)


# predict --------------------------------------------------------------------------------------------------------------


def predict(outputs: YoloOutputs, **options: float) -> Detections:
    (detections,) = Yolo(CspLight(), outputs.class_logits.shape[-1]).predict(outputs, **options)
    return detections


def test_predict_by_hand() -> None:
    # Points 0, 5 and 15 are the centres (4, 4), (12, 12), (28, 28); each box reaches 8 pixels to each side.
    found = predict(outputs_that_say([(0, 1, 0.3), (5, 0, 0.9), (15, 1, 0.6)]))
    torch.testing.assert_close(found.boxes, torch.tensor([[4.0, 4, 20, 20], [20, 20, 36, 36], [-4, -4, 12, 12]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6, 0.3]))
    assert found.labels.tolist() == [0, 1, 1]


def test_predict_keeps_what_reaches_the_score() -> None:
    outputs = outputs_that_say([(0, 0, 0.2), (5, 0, 0.5), (15, 0, 0.8)])
    assert len(predict(outputs, score=0.1).scores) == 3
    assert len(predict(outputs, score=0.3).scores) == 2
    assert len(predict(outputs, score=0.5).scores) == 2  # exactly the least score is enough
    assert len(predict(outputs, score=0.9).scores) == 0


def test_predict_suppresses_by_iou_within_a_class() -> None:
    # Points 5 and 6 are 8 apart: overlap 8 x 16 of two 16 x 16, IoU 128 / 384 = 1/3.
    same, other = [(5, 0, 0.9), (6, 0, 0.8)], [(5, 0, 0.9), (6, 1, 0.8)]
    assert len(predict(outputs_that_say(same), iou=0.4).scores) == 2
    assert predict(outputs_that_say(same), iou=0.3).scores.tolist() == pytest.approx([0.9])
    assert len(predict(outputs_that_say(other), iou=0.3).scores) == 2


def test_one_point_may_speak_for_several_classes() -> None:
    found = predict(outputs_that_say([(5, 0, 0.9), (5, 1, 0.8)]))
    assert found.labels.tolist() == [0, 1]
    assert torch.equal(found.boxes[0], found.boxes[1])


def test_predict_keeps_the_best_of_max_det_and_of_candidates() -> None:
    found = [(0, 0, 0.3), (3, 1, 0.7), (12, 0, 0.5), (15, 1, 0.9)]
    assert predict(outputs_that_say(found), max_det=3).scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert predict(outputs_that_say(found), candidates=2).scores.tolist() == pytest.approx([0.9, 0.7])
    # Two candidates that are the same object leave one.
    assert len(predict(outputs_that_say([(5, 0, 0.9), (6, 0, 0.8), (15, 0, 0.7)]), iou=0.3, candidates=2).scores) == 1


def test_predict_nothing() -> None:
    found = predict(outputs_that_say([]))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.int64


def test_predict_takes_no_gradient_and_leaves_the_outputs_alone(model: Yolo) -> None:
    outputs = model(images())
    before = outputs.class_logits.clone()
    assert not model.predict(outputs, score=0.005)[0].boxes.requires_grad
    assert torch.equal(outputs.class_logits, before)


def test_half_precision_outputs_are_decided_in_single_precision(model: Yolo) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(images())
    found = model.predict(outputs, score=0.005)[0]
    assert outputs.class_logits.dtype == torch.bfloat16
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert model.loss(outputs, [target([[4, 4, 40, 40]], [1]), target()]).total.dtype == torch.float32


# Learning -------------------------------------------------------------------------------------------------------------


def test_learns_one_image_by_heart() -> None:
    torch.manual_seed(0)
    red, green = [6.0, 8, 30, 40], [36.0, 20, 60, 56]
    image = torch.full((3, 64, 64), 60.0)
    image[:, 8:40, 6:30] = torch.tensor([230.0, 40, 40])[:, None, None]
    image[:, 20:56, 36:60] = torch.tensor([40.0, 220, 60])[:, None, None]
    # Twice, with some noise: the norms need more than the 2 x 2 values of one image's coarsest map.
    batch = (image + 8 * torch.randn(2, 3, 64, 64)).clamp(0, 255)
    truth = target([red, green], [0, 1])

    model = Yolo(CspLight(), 2).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # at the usual 0.03, the statistics need hundreds of steps to arrive
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(model(batch), [truth, truth]).total
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 4

    with torch.inference_mode():
        for found in model.eval().predict(model(batch), score=0.5, iou=0.5):
            assert sorted(found.labels.tolist()) == [0, 1]
            ious = box_iou(found.boxes, truth.boxes[found.labels])
            assert ious.min() > 0.8
