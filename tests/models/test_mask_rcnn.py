"""Mask R-CNN: its mask head, the three verbs, the awkward batches, and that it can learn."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from visionkit.backbones.csp_light import CspLight
from visionkit.models.mask_head import MaskHead, MaskOutputs
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.nn.freeze import select_units
from visionkit.types import Level, Target


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = (), masks: Tensor | None = None) -> Target:
    """Where no masks are given, each object fills its box."""
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.zeros(len(labels), dtype=torch.bool),
        masks=torch.ones(len(labels), 56, 56, dtype=torch.uint8) if masks is None else masks,
    )


def images(batch: int = 2, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def model() -> MaskRcnn:
    torch.manual_seed(0)
    return MaskRcnn(CspLight(), 3).eval()


# The mask head --------------------------------------------------------------------------------------------------------


def mask_head() -> MaskHead:
    torch.manual_seed(0)
    return MaskHead([Level(4, 8)], 2, 8, depth=1)


def test_mask_loss_by_hand() -> None:
    # A region of class 1 on the left half of its object: all 28² cells are inside. Logits of class 1 are 0 in the upper
    # half (log 2 each) and 2 in the lower one (log(1 + e^-2) = 0.126928); those of class 0 do not count.
    logits = torch.full((1, 2, 28, 28), 50.0)
    logits[0, 1, :14], logits[0, 1, 14:] = 0, 2
    logits.requires_grad_()
    outputs = MaskOutputs(torch.tensor([[0.0, 0, 8, 16]]), torch.tensor([0]), logits)
    loss = mask_head().loss(outputs, [target([[0, 0, 16, 16]], [1])])
    assert loss.item() == pytest.approx((0.693147 + 0.126928) / 2, abs=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].abs().sum() == 0
    assert logits.grad[0, 1].abs().min() > 0


def test_truths_are_counted_over_the_batch_and_unknown_masks_left_out() -> None:
    # Region 0 learns from the only object of the second image, whose mask is its left half; region 1 from the second
    # object of the first, of which no mask is known.
    half = torch.zeros(1, 56, 56, dtype=torch.uint8)
    half[:, :, :28] = 1
    unknown = torch.ones(2, 56, 56, dtype=torch.uint8)
    unknown[1] = 0
    targets = [target([[0, 0, 9, 9], [20, 20, 30, 30]], [0, 0], unknown), target([[0, 0, 16, 16]], [1], half)]
    logits = torch.full((2, 2, 28, 28), 30.0)
    outputs = MaskOutputs(torch.tensor([[0.0, 0, 16, 16], [20, 20, 30, 30]]), torch.tensor([2, 1]), logits)
    # Right in the left half, wrong by 30 in the right one.
    assert mask_head().loss(outputs, targets).item() == pytest.approx(15, abs=1e-4)


def test_no_region_has_a_loss_of_zero() -> None:
    nothing = MaskOutputs(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, 28, 28))
    assert mask_head().loss(nothing, [target()]).item() == 0
    assert mask_head()([torch.zeros(1, 4, 8, 8)], torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape[0] == 0


# The model ------------------------------------------------------------------------------------------------------------


def test_units_end_with_the_mask_head_and_hold_every_parameter(model: MaskRcnn) -> None:
    assert [u.name for u in model.units][-3:] == ["mask.tower", "mask.enlarge", "mask.predictor"]
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


def test_all_but_head_leaves_both_heads_to_learn(model: MaskRcnn) -> None:
    frozen = select_units(model.units, ["all-but-head"])
    left = [unit.name for number, unit in enumerate(model.units) if number not in frozen]
    assert left == [
        *("head.tower", "head.class_predictor", "head.box_predictor"),
        *("mask.tower", "mask.enlarge", "mask.predictor"),
    ]


def test_class_rows_fit_the_tensors(model: MaskRcnn) -> None:
    state = model.state_dict()
    assert set(model.class_rows) > {"mask.predictor.weight", "head.class_predictor.bias"}
    for name, rows in model.class_rows.items():
        assert state[name].shape[rows.dim] == rows.length(3)


def test_masks_are_those_of_the_detections(model: MaskRcnn) -> None:
    with torch.no_grad():
        outputs = model(images())
        found = model.predict(outputs, score=0.0, max_det=20)
        without = model.predict(outputs, score=0.0, max_det=20, masks=False)
    assert outputs.masks is None
    for b, (one, plain) in enumerate(zip(found, without, strict=True)):
        assert plain.masks is None
        assert torch.equal(one.boxes, plain.boxes)
        assert one.masks is not None
        assert one.masks.shape == (len(one.scores), 28, 28)
        # The second detection by itself: the mask of its class, read in its image.
        logits = model.mask(outputs.maps, one.boxes[1:2], torch.tensor([b]))
        torch.testing.assert_close(one.masks[1], logits[0, one.labels[1]].sigmoid(), rtol=0, atol=1e-5)


def test_nothing_found_has_no_masks(model: MaskRcnn) -> None:
    with torch.no_grad():
        found = model.predict(model(images()), score=1.0)
    assert [one.masks.shape for one in found if one.masks is not None] == [(0, 28, 28), (0, 28, 28)]


def test_while_learning_masks_are_said_of_regions_that_hold_an_object(model: MaskRcnn) -> None:
    truth = [target(), target([[4, 4, 40, 40]], [2])]
    outputs = model(images(), targets=truth)
    assert outputs.masks is not None
    assert 1 <= len(outputs.masks.boxes) <= 16  # a quarter of 64
    assert outputs.masks.gt_index.unique().tolist() == [0]


AWKWARD = {
    "no truth at all": [target(), target()],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
    "no mask known": [target([[4, 4, 40, 40]], [2], torch.zeros(1, 56, 56, dtype=torch.uint8)), target()],
    "a pixel": [target([[10, 10, 11, 11]], [0]), target([[63, 63, 64, 64]], [1])],
    "an empty box": [target([[10, 10, 10, 10]], [0]), target()],
    "only a crowd": [replace(target([[0, 0, 64, 64]], [0]), ignore=torch.tensor([True])), target()],
    "500 objects": [
        target([[x, y, x + 2.5, y + 2.5] for x in range(0, 50, 2) for y in range(0, 40, 2)], [1] * 500),
        target(),
    ],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD)
def test_awkward_truths_give_finite_losses_and_gradients(truth: list[Target]) -> None:
    torch.manual_seed(0)
    model = MaskRcnn(CspLight(), 3).train()
    for sizes in (None, [(64, 64), (40, 52)]):
        losses = model.loss(model(images(), sizes, truth), truth)
        assert set(losses.parts) == {"objectness", "proposal", "class", "box", "mask"}
        assert all(part.isfinite() for part in losses.parts.values())
        losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_learns_one_picture_by_heart() -> None:
    # Two objects of which one fills the upper left half of its box, below the diagonal, and one its middle.
    torch.manual_seed(0)
    model = MaskRcnn(CspLight(), 2).train()
    picture = images(1)
    y, x = torch.meshgrid(torch.arange(56), torch.arange(56), indexing="ij")
    masks = torch.stack((x + y < 56, (x - 28).abs() < 12)).to(torch.uint8)
    truth = [target([[4, 4, 36, 36], [30, 34, 60, 62]], [0, 1], masks)]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    first = 0.0
    for step in range(40):
        torch.manual_seed(step)
        losses = model.loss(model(picture, targets=truth), truth)
        first = first or losses.parts["mask"].item()
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert losses.parts["mask"].item() < 0.5 * first
    with torch.no_grad():
        (found,) = model.eval().predict(model(picture), score=0.3, max_det=2)
    assert sorted(found.labels.tolist()) == [0, 1]
    assert found.masks is not None
    # Boxes are not yet exact, so masks on them are somewhat displaced.
    for label, mask in zip(found.labels.tolist(), found.masks, strict=True):
        inside = masks[label, ::2, ::2].bool()
        assert mask[inside].mean() > mask[~inside].mean() + 0.3
