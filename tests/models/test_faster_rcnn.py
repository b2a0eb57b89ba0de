"""Faster R-CNN and its parts: proposals, regions, the three verbs, the awkward batches, and that it can learn."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.resnet import resnet18
from visionkit.errors import ConfigError, UsageError
from visionkit.models.faster_rcnn import FasterRcnn, FasterRcnnOutputs
from visionkit.models.roi_head import DELTA_WEIGHTS, RoiHead, RoiOutputs, RoiSettings, light_tower
from visionkit.models.rpn import ProposalSettings, RegionProposals, RpnOutputs
from visionkit.nn.single_map import SingleMap
from visionkit.ops.box_coding import encode_deltas
from visionkit.ops.boxes import box_iou
from visionkit.types import Level, Target


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = (), ignore: Sequence[bool] = ()) -> Target:
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore or [False] * len(labels), dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def model() -> FasterRcnn:
    """Three classes, in eval. Tests that change anything work on a copy."""
    torch.manual_seed(0)
    return FasterRcnn(CspLight(), 3).eval()


def images(batch: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


# Proposals ------------------------------------------------------------------------------------------------------------

ANCHORS = torch.tensor([[0.0, 0, 20, 20], [0.0, 0, 20, 18], [40.0, 40, 60, 60], [50.0, 50, 90, 90], [10.0, 10, 10, 30]])


def rpn(**settings: object) -> RegionProposals:
    return RegionProposals([Level(8, 8), Level(8, 16)], [(8,), (16,)], settings=ProposalSettings(**settings))  # type: ignore[arg-type]


def outputs_of_anchors(logits: Sequence[float], counts: tuple[int, ...] = (5,)) -> RpnOutputs:
    return RpnOutputs(torch.tensor([logits]), torch.zeros(1, 5, 4), ANCHORS, counts)


def test_proposals_by_hand() -> None:
    # Anchor 1 lies in anchor 0 with IoU 360 / 400 = 0.9; anchor 3 is cut at 64 px; anchor 4 is empty.
    said = outputs_of_anchors([3.0, 2, 1, 4, 5])
    (found,) = rpn().propose(said, [(64, 64)], learning=False)
    assert found.tolist() == [[50, 50, 64, 64], [0, 0, 20, 20], [40, 40, 60, 60]]


def test_proposals_of_different_levels_do_not_suppress_each_other() -> None:
    (found,) = rpn().propose(outputs_of_anchors([3.0, 2, 1, 4, 5], (1, 4)), [(64, 64)], learning=False)
    assert found.tolist() == [[50, 50, 64, 64], [0, 0, 20, 20], [0, 0, 20, 18], [40, 40, 60, 60]]


def test_limits_of_learning_and_of_predicting() -> None:
    proposals = rpn(before_nms=(5, 2), after_nms=(2, 5))
    said = outputs_of_anchors([3.0, 2, 1, 4, -5])
    (learning,) = proposals.propose(said, [(64, 64)], learning=True)
    assert learning.tolist() == [[50, 50, 64, 64], [0, 0, 20, 20]]  # three survive suppression, two are wanted
    (predicting,) = proposals.propose(said, [(64, 64)], learning=False)
    assert predicting.tolist() == [[50, 50, 64, 64], [0, 0, 20, 20]]  # only two entered it
    # sigmoid(1) = 0.73, sigmoid(3) = 0.95
    (sure,) = rpn(score=0.9).propose(said, [(64, 64)], learning=False)
    assert sure.tolist() == [[50, 50, 64, 64], [0, 0, 20, 20]]


def test_rpn_loss_by_hand() -> None:
    # The truth is anchor 0 moved by 2 px: IoU 18 / 22 = 0.82, positive, and 0.74 with anchor 1 likewise (324 / 436).
    # Anchors 2, 3 and 4 are background. Logits are 0: each costs log 2. Deltas are 0: wanted is dx = 2 / 20 = 0.1 for
    # both, below 1/9, so 0.1² / (2 / 9) = 0.045; and dh for anchor 1: dy = 1 / 18, log(20 / 18) = 0.1054.
    truth = target([[2, 0, 22, 20]], [0])
    objectness, box = rpn(sampled=10).loss(outputs_of_anchors([0.0] * 5), [truth])
    assert objectness.item() == pytest.approx(0.693147, abs=1e-5)
    expected = (0.1**2 + 0.1**2 + (1 / 18) ** 2 + 0.1053605**2) * 9 / 2 / 5
    assert box.item() == pytest.approx(expected, abs=1e-6)


def test_rpn_loss_of_boxes_by_hand() -> None:
    # As above: anchor 0 shares 18 x 20 px with the truth, anchor 1 18 x 18; of their hull of 22 x 20 px the second pair
    # leaves 440 - (360 + 400 - 324) = 4 empty.
    _, box = rpn(sampled=10, box_loss="giou").loss(outputs_of_anchors([0.0] * 5), [target([[2, 0, 22, 20]], [0])])
    expected = (1 - 360 / 440) + (1 - 324 / 436 + 4 / 440)
    assert box.item() == pytest.approx(expected / 5, abs=1e-6)


def test_rpn_loss_of_an_image_without_a_truth_is_all_background() -> None:
    objectness, box = rpn(sampled=4).loss(outputs_of_anchors([0.0, 0, 0, 0, 0]), [target()])
    assert objectness.item() == pytest.approx(0.693147, abs=1e-5)
    assert box.item() == 0


# Regions --------------------------------------------------------------------------------------------------------------


def head(classes: int = 2, **settings: object) -> RoiHead:
    torch.manual_seed(0)
    tower = light_tower(4, 7, features=8)
    return RoiHead([Level(4, 8)], classes, tower, 8, settings=RoiSettings(**settings))  # type: ignore[arg-type]


REGIONS = torch.tensor([[0.0, 0, 20, 20], [30.0, 30, 50, 50], [0.0, 0, 20, 20]])


def region_outputs() -> RoiOutputs:
    """Two regions in image 0, one in image 1; two classes."""
    return RoiOutputs(REGIONS, torch.tensor([0, 0, 1]), torch.zeros(3, 3), torch.zeros(3, 2, 4))


def test_region_loss_by_hand() -> None:
    # Region 0 is the truth of class 1 moved by 2 px, IoU 0.82; the others are background. Each costs log 3.
    class_loss, box_loss = head().loss(region_outputs(), [target([[2, 0, 22, 20]], [1]), target()])
    assert class_loss.item() == pytest.approx(1.098612, abs=1e-5)
    # dx = 10 * 2 / 20 = 1, beyond 1/9: 1 - 1/18.
    assert box_loss.item() == pytest.approx((1 - 1 / 18) / 3, abs=1e-6)


def test_region_loss_of_boxes_by_hand() -> None:
    # Region 0 says itself, and shares 18 x 20 of 22 x 20 px with its truth.
    _, box_loss = head(box_loss="giou").loss(region_outputs(), [target([[2, 0, 22, 20]], [1]), target()])
    assert box_loss.item() == pytest.approx((1 - 18 / 22) / 3, abs=1e-6)


def test_a_loss_of_boxes_is_that_of_both_stages_and_only_known_ones_are_taken() -> None:
    model = FasterRcnn(CspLight(), 3, box_loss="giou")
    assert model.rpn.settings.box_loss == model.head.settings.box_loss == "giou"
    for part, name in ((rpn, "region proposals"), (head, "the R-CNN head")):
        with pytest.raises(ConfigError) as error:
            part(box_loss="huber")
        choices = "iou, giou, diou, ciou, l1, smooth-l1, mse"
        assert str(error.value) == f"box_loss of {name} must be one of {choices}, got huber; choose one of these"


def test_regions_in_a_crowd_do_not_count() -> None:
    crowd = target([[25, 25, 60, 60]], [0], [True])
    outputs = region_outputs()
    outputs.class_logits[1] = torch.tensor([100.0, 0, -100])
    class_loss, _ = head().loss(outputs, [crowd, target()])
    assert class_loss.item() == pytest.approx(1.098612, abs=1e-5)  # of regions 0 and 2


def test_a_box_is_learnt_for_its_class_only() -> None:
    outputs = region_outputs()
    outputs.deltas.requires_grad_()
    head().loss(outputs, [target([[2, 0, 22, 20]], [1]), target()])[1].backward()
    assert outputs.deltas.grad is not None
    assert outputs.deltas.grad.abs().sum(2).gt(0).tolist() == [[False, True], [False, False], [False, False]]


def test_sampled_regions_hold_the_truth_and_a_share_of_background() -> None:
    truth = target([[2, 2, 22, 22], [40, 40, 60, 60]], [0, 1], [False, True])
    proposals = torch.tensor([[0.0, 30, 10, 60]] * 50 + [[3.0, 3, 22, 22]] * 50 + [[42.0, 42, 58, 58]] * 50)
    (drawn,) = head(sampled=8).sample([proposals], [truth])
    overlap = box_iou(drawn[:, None], truth.boxes)
    assert (overlap[:, 0] >= 0.5).tolist() == [True] * 2 + [False] * 6  # a quarter of 8
    assert (overlap[:, 1] == 0).all()  # nothing out of the crowd
    # Without a proposal near it, there still is the truth.
    (only,) = head(sampled=8).sample([torch.zeros(0, 4)], [truth])
    assert only.tolist() == [[2, 2, 22, 22]]


def test_decisions_by_hand() -> None:
    # Region 1's box of class 0 is [28, 30, 52, 50]; logits log(p): 0.7, 0.2 and 0.1 for background.
    outputs = region_outputs()
    outputs.class_logits[:] = torch.tensor([0.1, 0.1, 0.8]).log()
    outputs.class_logits[1] = torch.tensor([0.7, 0.2, 0.1]).log()
    outputs.deltas[1, 0] = encode_deltas(torch.tensor([28.0, 30, 52, 50]), REGIONS[1], DELTA_WEIGHTS)
    options = {"iou": 0.5, "max_det": 10, "candidates": 100}
    first, second = head().predict(outputs, [(64, 64), (64, 64)], score=0.15, **options)
    torch.testing.assert_close(first.boxes, torch.tensor([[28.0, 30, 52, 50], [30, 30, 50, 50]]))
    torch.testing.assert_close(first.scores, torch.tensor([0.7, 0.2]))
    assert first.labels.tolist() == [0, 1]
    assert second.boxes.shape == (0, 4)
    # Cut to an image of 40 x 45 px.
    cut = head().predict(outputs, [(40, 45), (64, 64)], score=0.5, **options)[0]
    torch.testing.assert_close(cut.boxes, torch.tensor([[28.0, 30, 45, 40]]))
    # Beyond an image of 25 px nothing is left of it, even where everything is wanted.
    assert head().predict(outputs, [(25, 25), (64, 64)], score=0.0, **options)[0].boxes.max() <= 25


# The model ------------------------------------------------------------------------------------------------------------


def test_units_are_the_ten_of_the_backbone_then_neck_proposals_and_head(model: FasterRcnn) -> None:
    names = [unit.name for unit in model.units]
    assert names[:10] == [f"backbone.{unit.name}" for unit in CspLight().units]
    assert names[10:] == [
        *("neck.inner_blocks", "neck.layer_blocks"),
        *("rpn.tower", "rpn.objectness_predictor", "rpn.box_predictor"),
        *("head.tower", "head.class_predictor", "head.box_predictor"),
    ]
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


def test_shapes_do_not_depend_on_training(model: FasterRcnn) -> None:
    for training in (False, True):
        outputs = model.train(training)(images())
        assert isinstance(outputs, FasterRcnnOutputs)
        # 3 ratios x 2 sizes on 8² + 4² + 2² + 1 cells.
        assert outputs.proposals.logits.shape == (2, 6 * 85)
        assert outputs.proposals.counts == (6 * 64, 6 * 16, 6 * 4, 6)
        regions = len(outputs.regions.boxes)
        assert outputs.regions.class_logits.shape == (regions, 4)
        assert outputs.regions.deltas.shape == (regions, 3, 4)
    model.eval()


def test_with_targets_regions_are_drawn_by_the_seed_of_the_step(model: FasterRcnn) -> None:
    truth = [target([[4, 4, 40, 40]], [2]), target()]

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        boxes: Tensor = model(images(), targets=truth).regions.boxes
        return boxes

    first = drawn(5)
    assert len(first) <= 2 * 64
    assert torch.equal(drawn(5), first)
    assert not torch.equal(drawn(6), first)


def test_a_batch_is_its_images_one_by_one(model: FasterRcnn) -> None:
    with torch.no_grad():
        together = model.predict(model(images()), score=0.2)
        alone = [model.predict(model(images()[b : b + 1]), score=0.2)[0] for b in range(2)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=1e-2)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-4)


AWKWARD = {
    "no truth at all": [target(), target()],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
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
    model = FasterRcnn(CspLight(), 3).train()
    for sizes in (None, [(64, 64), (40, 52)]):
        losses = model.loss(model(images(), sizes, truth), truth)
        assert set(losses.parts) == {"objectness", "proposal", "class", "box"}
        assert all(part.isfinite() for part in losses.parts.values())
        losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_loss_without_drawn_regions_is_that_of_all_proposals(model: FasterRcnn) -> None:
    assert model.loss(model(images()), [target([[4, 4, 40, 40]], [2]), target()]).total.isfinite()


@pytest.mark.parametrize("stride", [16, 32])
def test_a_single_level(stride: int) -> None:
    backbone = resnet18()
    neck = SingleMap(backbone.levels, stride)
    sizes = [(32, 64)]
    head = RoiHead(neck.levels, 3, light_tower(neck.levels[0].channels, 7), 256)
    single = FasterRcnn(backbone, 3, neck=neck, rpn=RegionProposals(neck.levels, sizes), head=head)
    truth = [target([[4, 4, 40, 40]], [2]), target()]
    assert single.loss(single(images(), targets=truth), truth).total.isfinite()


def test_sizes_that_do_not_fit_are_refused(model: FasterRcnn) -> None:
    with pytest.raises(UsageError, match=r"image size must be divisible by 32, got 64x48; use 64x64"):
        model(torch.zeros(1, 3, 64, 48))


def test_half_precision_outputs_are_decided_in_single_precision(model: FasterRcnn) -> None:
    truth = [target([[4, 4, 40, 40]], [1]), target()]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(images(), targets=truth)
    found = model.predict(outputs, score=0.1)[0]
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert model.loss(outputs, truth).total.dtype == torch.float32


def test_learns_one_image_by_heart() -> None:
    torch.manual_seed(0)
    image = torch.full((3, 64, 64), 60.0)
    image[:, 8:40, 6:30] = torch.tensor([230.0, 40, 40])[:, None, None]
    image[:, 20:56, 36:60] = torch.tensor([40.0, 220, 60])[:, None, None]
    # Twice, with some noise: the norms need more than the 2 x 2 values of one image's coarsest map.
    batch = (image + 8 * torch.randn(2, 3, 64, 64)).clamp(0, 255)
    truth = target([[6, 8, 30, 40], [36, 20, 60, 56]], [0, 1])

    model = FasterRcnn(CspLight(), 2).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # at the usual 0.03, the statistics need hundreds of steps to arrive
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for step in range(60):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = model.loss(model(batch, targets=[truth, truth]), [truth, truth]).total
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 4

    with torch.inference_mode():
        for found in model.eval().predict(model(batch), score=0.5):
            assert sorted(found.labels.tolist()) == [0, 1]
            assert box_iou(found.boxes, truth.boxes[found.labels]).min() > 0.7
