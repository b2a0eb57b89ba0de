"""R-CNN, the original: fitted on the regions of a few pictures, it finds what others show; and the awkward pictures."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from visionkit.backbones.csp_light import CspLight
from visionkit.backbones.lenet import lenet5
from visionkit.backbones.resnet import resnet50
from visionkit.imaging.letterbox import Frame
from visionkit.models import rcnn as module
from visionkit.models.rcnn import Rcnn
from visionkit.models.rcnn_regions import TrainingRegions
from visionkit.ops.boxes import box_iou
from visionkit.types import Batch, Level, Target, Unit

COLOURS = torch.tensor([[220, 40, 40], [40, 60, 220]], dtype=torch.uint8)


def target(boxes: Sequence[Sequence[float]] = (), labels: Sequence[int] = (), ignore: Sequence[bool] = ()) -> Target:
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(ignore or [False] * len(labels), dtype=torch.bool),
    )


def blocks(number: int, classes: Sequence[int] = (0, 1)) -> tuple[Tensor, Target, Tensor]:
    """A grey picture of 64 x 64 with a block in each half; its truth; and proposals near, around and beside them."""
    draw = torch.Generator().manual_seed(number)
    picture = torch.randint(100, 140, (3, 64, 64), generator=draw, dtype=torch.uint8)
    boxes, labels, proposals = [], [], []
    for left in (0, 32):
        w, h = torch.randint(14, 24, (2,), generator=draw).tolist()
        x, y = left + int(torch.randint(32 - w, (1,), generator=draw)), int(torch.randint(64 - h, (1,), generator=draw))
        label = classes[int(torch.randint(len(classes), (1,), generator=draw))]
        picture[:, y : y + h, x : x + w] = COLOURS[label][:, None, None]
        boxes.append([x, y, x + w, y + h])
        labels.append(label)
        for _ in range(12):
            proposals.append((torch.tensor([x, y, x + w, y + h]) + torch.randint(-4, 5, (4,), generator=draw)).tolist())
    for _ in range(30):
        x, y = torch.randint(44, (2,), generator=draw).tolist()
        w, h = torch.randint(6, 20, (2,), generator=draw).tolist()
        proposals.append([x, y, x + w, y + h])
    return picture, target(boxes, labels), torch.tensor(proposals, dtype=torch.float32)


def batch(numbers: Sequence[int], classes: Sequence[int] = (0, 1)) -> Batch:
    pictures, targets, proposals = zip(*(blocks(number, classes) for number in numbers), strict=True)
    frame = Frame(64, 64, 1, 1, 0, 0)
    return Batch(torch.stack(pictures), targets, (frame,) * len(numbers), tuple(numbers), proposals)


class Shallow(nn.Module):
    """Random features that tell colours and places apart, as trained ones do: one layer over cells of 8 pixels."""

    levels = (Level(48, 8),)
    units = (Unit("patches", ("patches",)),)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, stride=8)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.patches(images).relu()]


def fresh(classes: int = 2) -> Rcnn:
    torch.manual_seed(0)
    return Rcnn(Shallow(), classes, warp=32).eval()


@pytest.fixture(scope="module")
def model() -> Rcnn:
    model = fresh()
    fitting = model.fit([batch(range(8)), batch(range(8, 12))])
    assert (fitting.images, fitting.proposals, fitting.objects) == (12, 12 * 54, 24)
    assert list(fitting.seconds) == ["reading", "proposals", "features", "svm", "boxes", "probabilities"]
    assert all(seconds >= 0 for seconds in fitting.seconds.values())
    return model


def test_it_finds_the_blocks_of_pictures_that_it_has_not_seen(model: Rcnn) -> None:
    unseen = batch(range(100, 108))
    found = model.predict(model(unseen.images, proposals=unseen.proposals), score=0.0)
    for detections, truth in zip(found, unseen.targets, strict=True):
        best = detections.boxes[:2], detections.labels[:2]
        overlap = box_iou(truth.boxes[:, None], best[0][None])
        assert overlap.amax(1).min() > 0.5
        assert truth.labels.tolist() == best[1][overlap.argmax(1)].tolist()
        assert detections.scores[:2].min() > 0.5


def test_regressed_boxes_lie_better_than_proposals(model: Rcnn) -> None:
    unseen = batch(range(100, 108))
    assert unseen.proposals is not None
    near = [boxes[:24] for boxes in unseen.proposals]  # those that were drawn about the objects
    outputs = model(unseen.images, proposals=near)
    truth = torch.cat([t.boxes.repeat_interleave(12, 0) for t in unseen.targets])
    labels = torch.cat([t.labels.repeat_interleave(12) for t in unseen.targets])
    regressed = module.decode_deltas(outputs.deltas, outputs.boxes[:, None])[torch.arange(len(labels)), labels]
    assert box_iou(regressed, truth).mean() > box_iou(outputs.boxes, truth).mean() + 0.03


def test_a_score_is_how_often_such_a_region_is_an_object(model: Rcnn) -> None:
    seen = batch(range(12))
    assert seen.proposals is not None
    outputs = model(seen.images, proposals=seen.proposals)
    scores = model.head.probabilities(outputs.margins)
    for label in range(2):
        hits = sum(
            int((box_iou(boxes[:, None], t.boxes[t.labels == label][None]).amax(1) >= 0.5).sum())
            for boxes, t in zip(seen.proposals, seen.targets, strict=True)
            if (t.labels == label).any()
        )
        assert scores[:, label].sum().item() == pytest.approx(hits, rel=0.05)


def test_fitting_again_gives_the_same(model: Rcnn) -> None:
    again = fresh()
    again.fit([batch(range(8)), batch(range(8, 12))])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_fitting_leaves_the_backbone_as_it_was(model: Rcnn) -> None:
    backbone = fresh().state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, backbone[name]), name
    assert not any(child.training for child in model.modules())


def test_a_batch_is_its_images_one_by_one(model: Rcnn) -> None:
    unseen = batch(range(100, 103))
    assert unseen.proposals is not None
    together = model.predict(model(unseen.images, proposals=unseen.proposals), score=0.01)
    for b, one in enumerate(together):
        (alone,) = model.predict(model(unseen.images[b : b + 1], proposals=unseen.proposals[b : b + 1]), score=0.01)
        torch.testing.assert_close(one.boxes, alone.boxes, rtol=0, atol=1e-2)
        torch.testing.assert_close(one.scores, alone.scores, rtol=0, atol=1e-4)


def test_without_proposals_nothing_is_found(model: Rcnn) -> None:
    nothing = [torch.zeros(0, 4), torch.zeros(0, 4)]
    found = model.predict(model(batch([0, 1]).images, proposals=nothing), score=0.0)
    assert [len(one.scores) for one in found] == [0, 0]


def test_where_none_are_given_it_searches_itself(model: Rcnn) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'visionkit[rcnn]'")
    unseen = batch(range(100, 104))
    outputs = model(unseen.images)
    assert outputs.image.bincount(minlength=4).min() > 5
    for detections, truth in zip(model.predict(outputs, score=0.0), unseen.targets, strict=True):
        assert box_iou(truth.boxes[:, None], detections.boxes[None]).amax(1).min() > 0.5


def test_detections_are_cut_to_the_part_of_the_image_that_is_no_padding(model: Rcnn) -> None:
    unseen = batch([100])
    (found,) = model.predict(model(unseen.images, [(40, 30)], proposals=unseen.proposals), score=0.0)
    assert found.boxes[:, 2].max() <= 30
    assert found.boxes[:, 3].max() <= 40


# What it is fitted on -------------------------------------------------------------------------------------------------


def test_which_regions_are_negatives_positives_and_near() -> None:
    known = TrainingRegions(2)
    proposals = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [0, 0, 10, 2], [52, 52, 58, 58]])
    truth = target([[0, 0, 10, 10], [50, 50, 60, 60]], [1, 0], [False, True])
    features = torch.arange(12.0).reshape(6, 2)
    known.add(proposals, truth, features)
    # IoU with the object of class 1: 1, 0.8, 0.4, 0.2, 0. The last lies in a crowd, and is nothing.
    assert known.overlapping(1, 0.5).tolist() == [True, True, False, False, False]
    assert known.negatives(1, 0.3).tolist() == [False, False, False, True, False]
    assert known.negatives(0, 0.3).tolist() == [True, True, True, True, False]
    assert known.objects(1).tolist() == [[10, 11]]  # the object's own features, no proposal's
    assert known.objects(0).tolist() == []
    assert (known.images, known.proposals, known.truths) == (1, 5, 1)


def test_features_lose_what_all_share_and_are_scaled_to_a_mean_length() -> None:
    known = TrainingRegions(1)
    known.add(torch.tensor([[0.0, 0, 2, 2]]), target([[0, 0, 2, 2]], [0]), torch.tensor([[13.0, 4], [17, 9]]))
    known.add(torch.tensor([[0.0, 0, 2, 2]]), target(), torch.tensor([[7.0, -4]]))
    mean, scale = known.standardise(10.0)
    # The proposals' mean is (10, 0); what is left of them, (3, 4) and (-3, -4), has length 5. Objects are made alike.
    assert mean.tolist() == [10, 0]
    assert scale.item() == 2
    assert [features.tolist() for features in known.features] == [[[6, 8]], [[-6, -8]]]
    assert known.objects(0).tolist() == [[14, 18]]


def test_box_regressors_solve_ridge_regression() -> None:
    known = TrainingRegions(1)
    # Proposals 10 px wide about an object that lies x px further right: dx is x / 10; the feature is x.
    for x in (0.0, 1.0, 2.0):
        known.add(torch.tensor([[0.0, 0, 10, 10]]), target([[x, 0, 10 + x, 10]], [0]), torch.tensor([[x], [0.0]]))
    weight, bias = known.box_regressor(0, ridge=0.0)
    assert weight.tolist() == [pytest.approx([0.1], abs=1e-6), *([pytest.approx([0], abs=1e-6)] * 3)]
    assert bias.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)
    # About their means the features are -1, 0, 1 and dx -0.1, 0, 0.1: 0.2 / (2 + 2), and 0.1 - 0.05 * 1.
    weight, bias = known.box_regressor(0, ridge=2.0)
    assert weight[0].item() == pytest.approx(0.05)
    assert bias[0].item() == pytest.approx(0.05)


AWKWARD = {
    "no truth at all": [target(), target()],
    "one image without": [target([[4, 4, 40, 40]], [2]), target()],
    "a pixel": [target([[10, 10, 11, 11]], [0]), target([[63, 63, 64, 64]], [1])],
    "a crowd alone": [target([[0, 0, 64, 64]], [1], [True]), target()],
    "500 objects": [
        target([[x, y, x + 2.5, y + 2.5] for x in range(0, 50, 2) for y in range(0, 40, 2)], [1] * 500),
        target(),
    ],
}


@pytest.mark.parametrize("truth", AWKWARD.values(), ids=AWKWARD)
@pytest.mark.parametrize("empty", [False, True], ids=["proposals", "none"])
def test_awkward_truths_give_finite_weights(truth: list[Target], empty: bool) -> None:
    model = fresh(3)
    given = batch([0, 1])
    proposals = (torch.zeros(0, 4),) * 2 if empty else given.proposals
    model.fit([Batch(given.images, tuple(truth), given.frames, given.image_ids, proposals)])
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    found = model.predict(model(given.images, proposals=given.proposals), score=0.0)
    assert all(one.scores.isfinite().all() and one.boxes.isfinite().all() for one in found)


def test_images_of_mixed_sizes_give_finite_weights_and_are_fitted_as_what_they_show() -> None:
    """A second batch is the first one, with noise behind each image: no region lies there."""
    model, larger = fresh(2), fresh(2)
    given = batch([0, 1])
    wide = torch.randint(256, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wide[..., :64, :64] = given.images
    targets = [replace(truth, boxes=truth.boxes.clamp(max=40)) for truth in given.targets]
    proposals = tuple(boxes.clamp(max=40) for boxes in given.proposals or ())
    inside = replace(given, targets=tuple(targets), proposals=proposals)
    model.fit([batch([2, 3]), inside])
    larger.fit([batch([2, 3]), replace(inside, images=wide)])
    for name, tensor in model.state_dict().items():
        assert tensor.isfinite().all()
        torch.testing.assert_close(larger.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)


def test_a_class_that_was_not_seen_is_not_found() -> None:
    model = fresh(3)
    model.fit([batch(range(4))])
    unseen = batch([100])
    (found,) = model.predict(model(unseen.images, proposals=unseen.proposals), score=0.01)
    assert 2 not in found.labels.tolist()


def test_units_are_the_backbones_and_class_rows_cover_the_classes() -> None:
    model, larger = fresh(2), fresh(5)
    in_units = [p for u in model.units for name in u.modules for p in model.get_submodule(name).parameters()]
    assert set(in_units) == set(model.parameters())
    own, other = model.state_dict(), larger.state_dict()
    assert set(model.class_rows) == {name for name in own if own[name].shape != other[name].shape}


@pytest.mark.parametrize(("make", "features"), [(CspLight, 4 * 192), (resnet50, 2048), (lenet5, 4 * 120)])
def test_wide_maps_are_averaged_whole(make: type, features: int) -> None:
    model = Rcnn(make(), 2, warp=32).eval()
    assert model.head.svm_weight.shape == (2, features)
    (found,) = model.region_features(torch.zeros(1, 3, 64, 64), [torch.tensor([[0.0, 0, 20, 20]])])
    assert found.shape == (1, features)
