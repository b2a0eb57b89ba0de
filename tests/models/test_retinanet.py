"""RetinaNet: its three verbs by hand, the awkward batches, and that it can learn."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.errors import UsageError
from visionkit.models.retinanet import RetinaNet, RetinaNetOutputs, octave_sizes
from visionkit.ops.boxes import box_iou
from visionkit.types import Target


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = (), ignore: Sequence[bool] = ()) -> Target:
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore or [False] * len(labels), dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    """Two classes, in eval. Tests that change anything work on a copy."""
    torch.manual_seed(0)
    return RetinaNet(CspLight(), 2).eval()


def images(batch: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


# Anchors 0 and 1 are of the fine level, 2 and 3 of the coarse one.
ANCHORS = torch.tensor([[0.0, 0, 20, 20], [40.0, 0, 60, 20], [0.0, 0, 20, 18], [30.0, 30, 90, 90]])


def outputs_that_say(scores: Sequence[Sequence[float]], size: tuple[int, int] = (64, 64)) -> RetinaNetOutputs:
    """One image, a row of scores an anchor, each box its anchor."""
    return RetinaNetOutputs(torch.tensor([scores]).logit(), torch.zeros(1, 4, 4), ANCHORS, (2, 2), (size,))


NOTHING = [0.01, 0.01]


def test_three_sizes_an_octave() -> None:
    # 32 * 2^(1/3) = 40.3, 32 * 2^(2/3) = 50.8
    assert octave_sizes([32, 64], whole=True) == [[32, 40, 50], [64, 80, 101]]
    assert octave_sizes([32])[0] == pytest.approx([32, 40.3175, 50.7968], abs=1e-4)


def test_shapes(model: RetinaNet) -> None:
    for training in (False, True):
        outputs = model.train(training)(images())
        # 9 anchors on 8² + 4² + 2² + 1 + 1 cells.
        assert outputs.class_logits.shape == (2, 9 * 86, 2)
        assert outputs.deltas.shape == (2, 9 * 86, 4)
        assert outputs.anchors.shape == (9 * 86, 4)
        assert outputs.counts == (576, 144, 36, 9, 9)
    model.eval()


def test_a_fresh_network_finds_every_class_rare(model: RetinaNet) -> None:
    # Focal Loss, section 4.1: the prior is 0.01.
    assert model(images()).class_logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3)


def test_decisions_by_hand(model: RetinaNet) -> None:
    # Anchor 2 lies in anchor 0 by 0.9; anchor 3 is cut at 64 px.
    said = outputs_that_say([[0.9, 0.2], [0.01, 0.01], [0.8, 0.3], [0.01, 0.6]])
    (found,) = model.predict(said, score=0.1)
    assert found.boxes.tolist() == [[0, 0, 20, 20], [30, 30, 64, 64], [0, 0, 20, 18]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert found.labels.tolist() == [0, 1, 1]
    assert model.predict(said, score=0.1, max_det=1)[0].scores.tolist() == pytest.approx([0.9])
    # The best of each level: 0.9 of the fine one, 0.8 of the coarse one, which is the same object.
    assert model.predict(said, score=0.1, candidates=1)[0].scores.tolist() == pytest.approx([0.9])
    assert model.predict(said, score=0.1, candidates=1, iou=0.95)[0].scores.tolist() == pytest.approx([0.9, 0.8])


def test_no_decisions(model: RetinaNet) -> None:
    (found,) = model.predict(outputs_that_say([NOTHING] * 4), score=0.1)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


def test_loss_by_hand(model: RetinaNet) -> None:
    # The truth is anchor 1 exactly; all scores are 0.5. Of the 8 pairs one is positive and costs 0.25 * 0.5² * log 2,
    # the others 0.75 * 0.5² * log 2 each; over one positive anchor. The box is right.
    losses = model.loss(outputs_that_say([[0.5, 0.5]] * 4), [target([[40, 0, 60, 20]], [1])])
    assert losses.parts["class"].item() == pytest.approx((0.25 + 7 * 0.75) * 0.25 * math.log(2), abs=1e-6)
    assert losses.parts["box"].item() == 0
    # In a crowd, anchors 0 and 2 do not count: 4 pairs are left.
    crowd = target([[40, 0, 60, 20], [0, 0, 22, 22]], [1, 0], [False, True])
    losses = model.loss(outputs_that_say([[0.5, 0.5]] * 4), [crowd])
    assert losses.parts["class"].item() == pytest.approx((0.25 + 3 * 0.75) * 0.25 * math.log(2), abs=1e-6)


def test_other_losses_by_hand() -> None:
    model = RetinaNet(CspLight(), 2, class_loss="bce", box_loss="giou")
    # The truth is anchor 1 moved by 2 px, which share 18 of 22 columns; all 8 pairs cost log 2; one positive anchor.
    losses = model.loss(outputs_that_say([[0.5, 0.5]] * 4), [target([[42, 0, 62, 20]], [1])])
    assert losses.parts["class"].item() == pytest.approx(8 * math.log(2), abs=1e-5)
    assert losses.parts["box"].item() == pytest.approx(1 - 18 / 22, abs=1e-6)


def test_an_anchor_between_the_limits_does_not_count(model: RetinaNet) -> None:
    # IoU of anchor 3 with the truth: 60 * 27 / 3600 = 0.45, but it is the best there is: positive all the same.
    truth = target([[30, 30, 90, 57]], [0])
    losses = model.loss(outputs_that_say([[0.5, 0.5]] * 4), [truth])
    assert losses.parts["class"].item() == pytest.approx((0.25 + 7 * 0.75) * 0.25 * math.log(2), abs=1e-6)
    # Anchor 0 and 2 with a truth of anchor 0's upper 0.45: 0.45 and, 9 / 18, 0.5: the second is positive, the first
    # lies between.
    losses = model.loss(outputs_that_say([[0.5, 0.5]] * 4), [target([[0, 0, 20, 9]], [0])])
    assert losses.parts["class"].item() == pytest.approx((0.25 + 5 * 0.75) * 0.25 * math.log(2), abs=1e-6)


def test_the_batch_shares_one_normaliser(model: RetinaNet) -> None:
    # Two positive anchors in one image, none in the other: 2 of 16 pairs are positive, over 2.
    one = outputs_that_say([[0.5, 0.5]] * 4)
    both = RetinaNetOutputs(
        one.class_logits.repeat(2, 1, 1), one.deltas.repeat(2, 1, 1), ANCHORS, one.counts, one.sizes * 2
    )
    truths = [target([[40, 0, 60, 20], [30, 30, 90, 90]], [1, 0]), target()]
    expected = (2 * 0.25 + 14 * 0.75) * 0.25 * math.log(2) / 2
    assert model.loss(both, truths).parts["class"].item() == pytest.approx(expected, abs=1e-6)


AWKWARD = {
    "no truth at all": [target(), target()],
    "one image without": [target([[4, 4, 40, 40]], [1]), target()],
    "a pixel": [target([[10, 10, 11, 11]], [0]), target([[63, 63, 64, 64]], [1])],
    "an empty box": [target([[10, 10, 10, 10]], [0]), target()],
    "only a crowd": [target([[0, 0, 64, 64]], [0], [True]), target()],
    "beyond the image": [target([[-30, -30, 90, 90]], [0]), target()],
    "500 objects": [
        target([[x, y, x + 2.5, y + 2.5] for x in range(0, 50, 2) for y in range(0, 40, 2)], [1] * 500),
        target(),
    ],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD)
def test_awkward_truths_give_finite_losses_and_gradients(truth: list[Target]) -> None:
    torch.manual_seed(0)
    model = RetinaNet(CspLight(), 2).train()
    losses = model.loss(model(images(), [(64, 64), (40, 52)]), truth)
    assert all(part.isfinite() for part in losses.parts.values())
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_detections_are_cut_to_each_image(model: RetinaNet) -> None:
    found = model.predict(model(images(), [(64, 64), (40, 52)]), score=0.005)[1]
    assert len(found.boxes)
    assert (found.boxes[:, 2] <= 52).all()
    assert (found.boxes[:, 3] <= 40).all()


def test_units_and_class_rows(model: RetinaNet) -> None:
    assert [unit.name for unit in model.units][10:] == [
        *("neck.inner_blocks", "neck.layer_blocks", "neck.extra_blocks"),
        *("head.class_tower", "head.box_tower", "head.class_predictor", "head.box_predictor"),
    ]
    state = model.state_dict()
    for name, rows in model.class_rows.items():
        assert len(state[name]) == rows.length(2)


def test_sizes_that_do_not_fit_are_refused(model: RetinaNet) -> None:
    with pytest.raises(UsageError, match=r"image size must be divisible by 32, got 64x48; use 64x64"):
        model(torch.zeros(1, 3, 64, 48))


def test_half_precision_outputs_are_decided_in_single_precision(model: RetinaNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(images())
    found = model.predict(outputs, score=0.005)[0]
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert model.loss(outputs, [target([[4, 4, 40, 40]], [1]), target()]).total.dtype == torch.float32


def test_learns_one_image_by_heart() -> None:
    torch.manual_seed(0)
    image = torch.full((3, 64, 64), 60.0)
    image[:, 8:40, 6:30] = torch.tensor([230.0, 40, 40])[:, None, None]
    image[:, 20:56, 36:60] = torch.tensor([40.0, 220, 60])[:, None, None]
    # Twice, with some noise: the norms need more than the 2 x 2 values of one image's coarsest map.
    batch = (image + 8 * torch.randn(2, 3, 64, 64)).clamp(0, 255)
    truth = target([[6, 8, 30, 40], [36, 20, 60, 56]], [0, 1])

    model = RetinaNet(CspLight(), 2).train()
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
        for found in model.eval().predict(model(batch), score=0.5):
            best = [found.labels.tolist().index(label) for label in (0, 1)]  # boxes come best first
            assert box_iou(found.boxes[best], truth.boxes).min() > 0.7
