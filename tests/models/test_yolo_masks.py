"""YOLO with masks: its size, its kernels by hand, the three verbs, the awkward batches, and that it can learn."""

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.resnet import resnet18
from visionkit.build import build_model, load_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import Recipe
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import evaluation_loader
from visionkit.data.sample import render_sample
from visionkit.data.views import EvaluationView
from visionkit.engine.evaluate import detect_batches
from visionkit.errors import UsageError
from visionkit.formats.coco import read_coco
from visionkit.metrics.coco_map import coco_scores
from visionkit.models import yolo_masks
from visionkit.models.mask_kernels import FEATURES, KERNEL_SIZE, MaskKernels, object_masks, unpacked
from visionkit.models.yolo import Yolo
from visionkit.models.yolo_masks import CELLS, YoloMasks, YoloMasksOutputs, best_of_each
from visionkit.nn.freeze import freeze, select_units
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
def model() -> YoloMasks:
    """Three classes, in eval. Tests that change anything work on a copy."""
    torch.manual_seed(0)
    return YoloMasks(CspLight(), 3).eval()


def kernel(
    first: dict[tuple[int, int], float], last: dict[int, float], first_bias: float = 0, last_bias: float = 0
) -> Tensor:
    """[1, KERNEL_SIZE] of an object's network: weights by (hidden, input), inputs x and y being the last two."""
    found = torch.zeros(1, KERNEL_SIZE)
    weights, biases, outs, end = unpacked(found)
    for place, value in first.items():
        weights[0][place] = value
    biases += first_bias
    for hidden, value in last.items():
        outs[0, 0, hidden] = value
    end += last_bias
    return torch.cat([part.flatten(1) for part in (weights, biases, outs, end)], 1)


# What an object's network says ----------------------------------------------------------------------------------------


def test_kernels_have_the_numbers_of_two_layers() -> None:
    # (8 features, x, y) -> 8 -> 1: 10 * 8 weights, 8 biases, 8 weights, 1 bias.
    assert KERNEL_SIZE == 80 + 8 + 8 + 1
    assert [tuple(part.shape) for part in unpacked(torch.zeros(3, KERNEL_SIZE))] == [
        (3, 8, 10),
        (3, 8, 1),
        (3, 1, 8),
        (3, 1, 1),
    ]


def test_the_place_in_the_box_by_hand() -> None:
    # Hidden 0 is x, which is -3/4, -1/4, 1/4, 3/4 at the centres of 4 cells; below 0 it is cut off. The logit is
    # 8 times that, less 1.
    x = kernel({(0, 8): 1.0}, {0: 8.0}, last_bias=-1)
    y = kernel({(0, 9): 1.0}, {0: 8.0}, last_bias=-1)
    boxes = torch.tensor([[3.0, 5, 11, 7], [-4, 0, 90, 2]])
    across, down = object_masks(torch.zeros(FEATURES, 4, 4), 4, torch.cat((x, y)), boxes, 4)
    assert across.tolist() == [[-1.0, -1.0, 1.0, 5.0]] * 4
    assert down.T.tolist() == [[-1.0, -1.0, 1.0, 5.0]] * 4


def test_features_are_read_at_the_centres_of_cells_by_hand() -> None:
    # Feature 2 is 0, 1, 2, 3 in columns whose centres lie at 2, 6, 10, 14 px. A box from 4 to 12 in 2 cells has its
    # centres at 6 and 10: 1 and 2. One from 6 to 10: at 7 and 9, 1.25 and 1.75. Beyond the image its border counts.
    features = torch.zeros(FEATURES, 4, 4)
    features[2] = torch.arange(4.0)
    plain = kernel({(5, 2): 1.0}, {5: 1.0}).expand(3, -1)
    boxes = torch.tensor([[4.0, 0, 12, 16], [6, 0, 10, 16], [12, 0, 28, 16]])
    found = object_masks(features, 4, plain, boxes, 2)
    torch.testing.assert_close(found[:, 0], torch.tensor([[1.0, 2], [1.25, 1.75], [3, 3]]))
    torch.testing.assert_close(found[:, 0], found[:, 1])


def test_masks_as_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(FEATURES, 6, 9, generator=generator)
    kernels = torch.randn(3, KERNEL_SIZE, generator=generator)
    boxes = torch.tensor([[2.0, 3, 30, 20], [-5, -5, 40, 30], [10, 10, 10.5, 11]])
    found = object_masks(features, 4, kernels, boxes, 3)

    def read(channel: int, px: float, py: float) -> float:
        """Between the four cells around a place, of which those beyond the map are those at its border."""
        u, v = min(max(px / 4 - 0.5, 0), 8), min(max(py / 4 - 0.5, 0), 5)
        return sum(
            max(0, 1 - abs(u - i)) * max(0, 1 - abs(v - j)) * features[channel, j, i].item()
            for i in range(9)
            for j in range(6)
        )

    for r, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        numbers = kernels[r].tolist()
        weights, biases, outs, end = numbers[:80], numbers[80:88], numbers[88:96], numbers[96]
        for row in range(3):
            for column in range(3):
                x, y = (column + 0.5) / 3, (row + 0.5) / 3
                inputs = [read(c, x1 + x * (x2 - x1), y1 + y * (y2 - y1)) for c in range(8)] + [2 * x - 1, 2 * y - 1]
                logit = end
                for h in range(8):
                    before = sum(weights[10 * h + i] * inputs[i] for i in range(10)) + biases[h]
                    logit += outs[h] * max(0, before)
                assert found[r, row, column].item() == pytest.approx(logit, abs=1e-4)


def test_no_object_has_no_mask_and_one_is_as_among_many() -> None:
    features = torch.randn(FEATURES, 4, 4, generator=torch.Generator().manual_seed(0))
    kernels = torch.randn(5, KERNEL_SIZE, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[0.0, 0, 8, 8]]) + torch.arange(5)[:, None]
    together = object_masks(features, 4, kernels, boxes, 7)
    assert object_masks(features, 4, kernels[:0], boxes[:0], 7).shape == (0, 7, 7)
    for r in range(5):
        alone = object_masks(features, 4, kernels[r : r + 1], boxes[r : r + 1], 7)
        torch.testing.assert_close(alone, together[r : r + 1])


def test_masks_have_gradients_to_features_and_kernels() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(FEATURES, 3, 3, generator=generator).requires_grad_()
    kernels = torch.randn(2, KERNEL_SIZE, generator=generator).requires_grad_()
    object_masks(features, 4, kernels, torch.tensor([[0.0, 0, 12, 12], [2, 2, 6, 6]]), 5).sum().backward()
    assert features.grad is not None
    assert kernels.grad is not None
    assert features.grad.abs().amax((1, 2)).min() > 0
    assert kernels.grad[:, -1].tolist() == [25, 25]  # the last bias is in every one of 5 * 5 logits


def test_a_fresh_branch_starts_with_one_network_for_all_objects() -> None:
    torch.manual_seed(0)
    branch = MaskKernels(branch_levels()).eval()
    maps = [torch.randn(1, level.channels, 64 // level.stride, 64 // level.stride) for level in branch_levels()]
    kernels, features = branch(maps)
    assert kernels.shape == (1, 84, KERNEL_SIZE)
    assert features.shape == (1, FEATURES, 16, 16)
    spread, size = kernels.std(1).mean(), kernels.abs().mean()
    assert 0 < spread < 0.3 * size


def branch_levels() -> tuple[Level, ...]:
    return Yolo(CspLight(), 3).neck.levels


# Which points learn ---------------------------------------------------------------------------------------------------


def test_the_best_of_each_truth_come_first() -> None:
    truth = torch.tensor([4, 4, 4, 1, 1, 7])
    quality = torch.tensor([0.5, 0.9, 0.7, 0.1, 0.2, 0.3])
    # First places: 1 (0.9), 5 (0.3), 4 (0.2); second places: 2 (0.7), 3 (0.1); third: 0.
    order = [1, 5, 4, 2, 3, 0]
    for most in range(8):
        assert best_of_each(truth, quality, most).tolist() == sorted(order[:most])
    nothing = torch.zeros(0, dtype=torch.int64)
    assert best_of_each(nothing, torch.zeros(0), 3).shape == (0,)


def test_a_step_learns_a_bounded_number_of_masks(model: YoloMasks, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(*given: object) -> Tensor:
        found: Tensor = object_masks(*given)  # type: ignore[arg-type]
        counts.append(len(found))
        return found

    monkeypatch.setattr(yolo_masks, "object_masks", counted)
    truth = [target(), target([[4, 4, 40, 40]], [2])]
    model.loss(model(images()), truth)
    assert counts[0] == 0
    assert 1 <= counts[1] <= 13  # as many as a truth takes
    counts.clear()
    # 576 objects and 336 points an image.
    many = target([[x, y, x + 9, y + 9] for x in range(0, 120, 5) for y in range(0, 120, 5)], [1] * 576)
    model.loss(model(images(side=128)), [many, target()])
    assert counts == [2 * yolo_masks.MOST_LEARNT, 0]


# The model ------------------------------------------------------------------------------------------------------------


def test_is_hardly_larger_than_without_masks() -> None:
    plain, with_masks = (sum(p.numel() for p in make(CspLight(), 80).parameters()) for make in (Yolo, YoloMasks))
    assert with_masks <= 1.15 * plain, f"{with_masks} parameters, {plain} without masks"


@pytest.mark.parametrize("backbone", [CspLight, resnet18])
def test_units_end_with_the_mask_branch_and_hold_every_parameter(backbone: type[nn.Module]) -> None:
    model = YoloMasks(backbone(), 3)
    names = [u.name for u in model.units]
    assert names[:-4] == [u.name for u in Yolo(backbone(), 3).units]
    assert names[-4:] == ["mask.tower", "mask.enlarge", "mask.kernel_towers", "mask.kernel_predictors"]
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert len(in_units) == len(set(in_units))
    assert set(in_units) == set(model.parameters())


def test_a_backbone_without_its_levels_is_refused_by_its_own_name() -> None:
    from visionkit.build import BACKBONES

    with pytest.raises(UsageError, match=r"^model yolo-masks needs a backbone with maps of stride 8, 16, 32, but"):
        YoloMasks(BACKBONES["lenet5"](), 2)


def test_boxes_are_those_of_yolo_with_its_weights(model: YoloMasks) -> None:
    plain = Yolo(CspLight(), 3).eval()
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if not name.startswith("mask.")})
    with torch.no_grad():
        outputs, expected = model(images()), plain(images())
    with_masks = model.predict(outputs, score=0.005, max_det=20)
    without = model.predict(outputs, score=0.005, max_det=20, masks=False)
    for ours, boxes_alone, theirs in zip(
        with_masks, without, plain.predict(expected, score=0.005, max_det=20), strict=True
    ):
        assert len(theirs.scores) == 20
        assert boxes_alone.masks is None
        for found in (ours, boxes_alone):
            assert torch.equal(found.boxes, theirs.boxes)
            assert torch.equal(found.scores, theirs.scores)
            assert torch.equal(found.labels, theirs.labels)
    # Candidates are bounded alike.
    (few,) = model.predict(model(images(1)), score=0.001, candidates=5)
    (few_boxes,) = model.predict(model(images(1)), score=0.001, candidates=5, masks=False)
    assert torch.equal(few.boxes, few_boxes.boxes)


def test_a_batch_equals_its_images_one_by_one(model: YoloMasks) -> None:
    batch = images(3)
    with torch.no_grad():
        together = model(batch)
        alone = [model(image[None]) for image in batch]
        masks = [one.masks for one in model.predict(together, score=0.0, max_det=10)]
        masks_alone = [one.masks for said in alone for one in model.predict(said, score=0.0, max_det=10)]
    for name in ("kernels", "features", "class_logits", "side_logits"):
        torch.testing.assert_close(
            getattr(together, name), torch.cat([getattr(one, name) for one in alone]), rtol=1e-4, atol=1e-5
        )
    for ours, theirs in zip(masks, masks_alone, strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.shape == (10, CELLS, CELLS)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_nothing_found_has_no_masks(model: YoloMasks) -> None:
    with torch.no_grad():
        found = model.predict(model(images()), score=1.0)
    assert [one.masks.shape for one in found if one.masks is not None] == [(0, CELLS, CELLS)] * 2


def test_half_precision_outputs_are_judged_and_decided_in_single_precision(model: YoloMasks) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(images())
    assert outputs.kernels.dtype == torch.bfloat16
    found = model.predict(outputs, score=0.005)[0]
    assert found.masks is not None
    assert found.masks.dtype == torch.float32
    assert model.loss(outputs, [target([[4, 4, 40, 40]], [1]), target()]).total.dtype == torch.float32


# loss -----------------------------------------------------------------------------------------------------------------


def sure_of(model: YoloMasks, logit: float) -> YoloMasksOutputs:
    """What the model says of an image, but every mask has this logit in all its cells."""
    outputs: YoloMasksOutputs = model(images(1))
    with torch.no_grad():
        outputs.kernels[:] = kernel({}, {}, last_bias=logit)
    return outputs


@pytest.mark.parametrize(("box", "inside"), [((0, 0, 64, 64), 0.5), ((8, 8, 16, 16), 1.0)])
def test_mask_losses_by_hand(
    model: YoloMasks, box: Sequence[float], inside: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both points say the same box, and the truth is the left half of 0..64: it fills half of the cells of that, and all
    # of those of 8..16.
    boxes, half = torch.tensor([box, box], dtype=torch.float32), torch.ones(1, 56, 56, dtype=torch.uint8)
    half[:, :, 28:] = 0
    nowhere = torch.zeros(2, dtype=torch.int64)
    learnt = yolo_masks._Learnt(nowhere, nowhere, boxes, nowhere, torch.tensor([0.5, 0.5]))
    monkeypatch.setattr(yolo_masks, "_points_to_learn", lambda *given: learnt)
    with torch.no_grad():
        losses = model.loss(sure_of(model, 2.0), [target([[0, 0, 64, 64]], [0], half)]).parts
    # -log p = log(1 + e^-2) = 0.126928 inside, -log(1 - p) = 2.126928 outside; p = 0.880797.
    assert losses["mask"].item() == pytest.approx(0.126928 * inside + 2.126928 * (1 - inside), abs=1e-5)
    cells, p = 28 * 28, 0.880797
    dice = 1 - (2 * p * inside * cells + 1) / (p * p * cells + inside * cells + 1)
    assert losses["dice"].item() == pytest.approx(dice, abs=1e-5)


def test_losses_of_boxes_are_those_of_yolo(model: YoloMasks) -> None:
    truth = [target([[4, 4, 40, 40]], [2]), target()]
    outputs = model(images())
    parts = model.loss(outputs, truth).parts
    assert list(parts) == ["class", "box", "distribution", "mask", "dice"]
    for name, value in Yolo(CspLight(), 3).loss(outputs, truth).parts.items():
        assert torch.equal(parts[name], value)


def test_objects_without_a_known_mask_teach_none(model: YoloMasks) -> None:
    masks = torch.ones(2, 56, 56, dtype=torch.uint8)
    masks[1] = 0
    boxes, labels = [[4, 4, 30, 30], [34.0, 30, 60, 60]], [0, 1]
    outputs = model(images(1))
    outputs.kernels.retain_grad()
    parts = model.loss(outputs, [target(boxes, labels, masks)]).parts
    (parts["mask"] + parts["dice"]).backward()
    assert outputs.kernels.grad is not None
    learning = outputs.kernels.grad[0].abs().sum(1) > 0
    x, y = outputs.points[learning].T
    assert learning.any()
    assert x.max() < 32
    assert y.max() < 32


AWKWARD = {
    "no truth at all": [target(), target()],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
    "no mask known": [target([[4, 4, 40, 40]], [2], torch.zeros(1, 56, 56, dtype=torch.uint8)), target()],
    "a pixel": [target([[10, 10, 11, 11]], [0]), target([[63, 63, 64, 64]], [1])],
    "an empty box": [target([[10, 10, 10, 10]], [0]), target()],
    "only a crowd": [replace(target([[0, 0, 64, 64]], [0]), ignore=torch.tensor([True])), target()],
    "a box beyond the image": [target([[-900, -900, 900, 900]], [0]), target([[60, 60, 70, 70]], [0])],
    "500 objects": [
        target([[x, y, x + 2.5, y + 2.5] for x in range(0, 50, 2) for y in range(0, 40, 2)], [1] * 500),
        target(),
    ],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD)
def test_awkward_truths_give_finite_losses_and_gradients(model: YoloMasks, truth: list[Target]) -> None:
    learner = copy.deepcopy(model).train()
    losses = learner.loss(learner(images()), truth)
    assert all(part.isfinite() for part in losses.parts.values())
    losses.total.backward()
    # Also where there is no mask to learn: the optimizer finds a gradient at every parameter.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


def test_without_masks_to_learn_their_losses_are_0(model: YoloMasks) -> None:
    parts = model.loss(model(images()), [target(), target()]).parts
    assert parts["mask"].item() == parts["dice"].item() == 0


def test_frozen_but_for_masks_it_finds_the_same_boxes_and_learns_masks(model: YoloMasks) -> None:
    learner = copy.deepcopy(model).train()
    numbers = select_units(learner.units, ["backbone", "neck", "head"])
    freeze(learner, learner.units, numbers)
    truth = [target([[4, 4, 40, 40]], [2]), target()]
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(5):
        parts = learner.loss(learner(images()), truth).parts
        optimizer.zero_grad()
        (parts["mask"] + parts["dice"]).backward()
        optimizer.step()
        history.append((parts["mask"] + parts["dice"]).item())
    assert history[-1] < history[0]
    with torch.no_grad():
        before, after = model(images()), learner.eval()(images())
    assert torch.equal(before.class_logits, after.class_logits)
    assert torch.equal(before.side_logits, after.side_logits)
    assert not torch.equal(before.kernels, after.kernels)


# A file of it ---------------------------------------------------------------------------------------------------------


def test_a_loaded_model_says_the_same_masks(tmp_path: Path) -> None:
    table, recipe = ClassTable((3, 17), ("car", "cat")), Recipe(model="yolo-masks", imgsz=64)
    model = build_model(recipe, table).eval()
    save_model(tmp_path / "best.safetensors", model, table, recipe, {})
    loaded = load_model(tmp_path / "best.safetensors").model
    with torch.no_grad():
        ours, theirs = (one.predict(one(images()), score=0.001, max_det=5) for one in (model, loaded))
    for one, other in zip(ours, theirs, strict=True):
        for field in fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name))


# Learning -------------------------------------------------------------------------------------------------------------


def test_five_steps_lower_every_loss_of_masks() -> None:
    torch.manual_seed(0)
    model = YoloMasks(CspLight(), 2).train()
    y, x = torch.meshgrid(torch.arange(56), torch.arange(56), indexing="ij")
    masks = torch.stack((x + y < 56, (x - 28).abs() < 12)).to(torch.uint8)
    truth = [target([[4, 4, 36, 36], [30, 34, 60, 62]], [0, 1], masks)] * 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(6):
        losses = model.loss(model(images()), truth)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.total.item())
    assert history[5] < history[0]


def test_learns_one_rendered_picture_by_heart(tmp_path: Path) -> None:
    data = render_sample(tmp_path / "sample", images={"train": 1}, seed=2)
    truth = read_coco(data / "annotations" / "train.json", data / "images")
    view = EvaluationView(DetectionDataset(truth, masks=True), 256)
    (batch,) = evaluation_loader(view, batch=1, workers=0)
    assert batch.targets[0].masks is not None
    torch.manual_seed(0)
    model = YoloMasks(CspLight(), len(truth.classes)).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # at the usual 0.03, the statistics need hundreds of steps to arrive
    # Twice, the second time darker: one picture alone is normalised by its own statistics.
    pictures = torch.cat((batch.images.float(), 0.9 * batch.images))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(120):
        losses = model.loss(model(pictures), batch.targets * 2)
        optimizer.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    rows = detect_batches(model.eval(), [batch], truth.classes, device=torch.device("cpu"), amp=False, masks=True)
    scores = coco_scores(truth, rows, "segm")
    assert scores.AP is not None
    assert scores.AP > 0.8
