"""The parts of graphs, run by PyTorch, against the functions of the models that they stand for."""

import pytest
import torch
from sure_models import CLASSES, SIDE, in_torch, pictures, sure_model

from visionkit.exporting.decisions import best_of_images, best_rows, suppressed
from visionkit.exporting.frames import anchors_on, channels_first, cut, edges, rows_of
from visionkit.exporting.one_stage import batch_masks
from visionkit.exporting.onnx_file import graph_of
from visionkit.exporting.parity import DetectionParity
from visionkit.exporting.two_stage import levels_read, region_features
from visionkit.models.mask_kernels import FEATURES, KERNEL_SIZE, object_masks
from visionkit.models.yolo_masks import CELLS
from visionkit.ops.anchors import anchor_boxes, anchor_shapes, rows_of_anchors
from visionkit.ops.boxes import clip_boxes
from visionkit.ops.roi import assign_levels, roi_features
from visionkit.predict.backend import RawDetections


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def boxes_in(count: int, side: float, seed: int = 0) -> torch.Tensor:
    """f32 [N, 4]; some reach beyond the image."""
    corner, size = random(count, 2, seed=seed) * side, random(count, 2, seed=seed + 1) * side
    return torch.cat((corner - size / 3, corner + size), 1)


# Decisions ------------------------------------------------------------------------------------------------------------


def thresholds(most: int, iou: float, score: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.tensor([most]), torch.tensor([iou]), torch.tensor([score])


def test_suppression_is_by_group_and_class() -> None:
    # Two boxes that overlap by 8 / 12 and one apart, in two groups and two classes.
    boxes = torch.tensor([[[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]]]).expand(2, 3, 4)
    scores = torch.tensor([[[0.9, 0.8, 0.1], [0.0, 0.7, 0.0]], [[0.3, 0.6, 0.5], [0.0, 0.0, 0.0]]])
    found = suppressed(boxes, scores, *thresholds(9, 0.5, 0.2))
    # Group 0: class 0 keeps box 0, which removes box 1; class 1 has box 1 alone. Group 1: box 1 removes box 0.
    assert found.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 0, 2]]
    assert suppressed(boxes, scores, *thresholds(1, 0.5, 0.2)).tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1]]
    assert len(suppressed(boxes, scores, *thresholds(9, 0.7, 0.2))) == 6  # 0.667 is no longer too much
    assert suppressed(boxes, scores, *thresholds(9, 0.5, 1.0)).shape == (0, 3)


def test_each_image_keeps_its_best() -> None:
    image = torch.tensor([0, 1, 0, 1, 0])
    scores = torch.tensor([0.2, 0.9, 0.8, 0.1, 0.5])
    # Best first: 1 of image 1, then 2, 4 and 0 of image 0, then 3 of image 1. Two of each: not 0.
    assert best_of_images(image, scores, torch.tensor([2]), 2).tolist() == [1, 2, 4, 3]
    assert best_of_images(image[:0], scores[:0], torch.tensor([2]), 2).tolist() == []


def test_rows_too_short_are_filled_with_places_beyond() -> None:
    scores, places = best_rows(torch.tensor([[0.125, 0.25], [0.5, -0.5]]), 3)
    assert scores[:, :2].tolist() == [[0.25, 0.125], [0.5, -0.5]]
    assert scores[:, 2].tolist() == [-torch.inf] * 2
    assert places[:, :2].tolist() == [[1, 0], [0, 1]]
    assert (places[:, 2] >= 2).all()


# Frames ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [(16, 24), (5, 3), (1, 1)])  # the coarse maps of retinanet end beyond the image
def test_anchors_stand_where_those_of_the_models_do(cells: tuple[int, int]) -> None:
    cell = anchor_shapes([16, 20], [0.5, 1])
    (expected,) = anchor_boxes([cells], [cell], (320, 192))
    assert torch.equal(anchors_on(torch.zeros(1, 7, *cells), cell, torch.zeros(1, 320, 192, 3)), expected)


def test_predictions_come_in_the_order_of_anchors() -> None:
    predictions = random(2, 3 * 4, 5, 6)
    assert torch.equal(rows_of(predictions, 4), rows_of_anchors(predictions, 4))


def test_boxes_are_cut_at_the_edges() -> None:
    boxes = boxes_in(50, 100)
    assert torch.equal(cut(boxes, edges(torch.zeros(1, 60, 90, 3))), clip_boxes(boxes, (60, 90)))


# Regions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (2, 4), (8,), (16, 16), (8, 16, 16)])
def test_regions_are_read_from_the_same_levels(strides: tuple[int, ...]) -> None:
    sides = torch.tensor([0.0, 1, 13.9, 14, 14.1, 28, 56, 111.9999, 112, 223.99, 224, 448, 5000])
    squares = torch.stack((0 * sides, 0 * sides, sides, sides), 1)
    boxes = torch.cat((squares, boxes_in(500, 900)))
    assert torch.equal(levels_read(boxes, strides), assign_levels(boxes, strides))


def test_features_of_regions_are_in_their_order() -> None:
    maps = [random(2, 3, 128 // stride, 96 // stride, seed=stride) for stride in (4, 8, 16)]
    boxes = boxes_in(40, 120) * torch.linspace(0.1, 3, 40)[:, None]  # of all levels
    image = torch.arange(40) % 2
    expected = roi_features(maps, (4, 8, 16), boxes, image, size=5, sampling=2)
    found = region_features(maps, (4, 8, 16), boxes, image, 5, 2)
    assert len(assign_levels(boxes, (4, 8, 16)).unique()) == 3
    assert torch.equal(found, expected)
    # Regions of no image are read like those of the first.
    nowhere = region_features(maps, (4, 8, 16), boxes[:3], torch.tensor([-1, 1, -1]), 5, 2)
    assert torch.equal(nowhere, roi_features(maps, (4, 8, 16), boxes[:3], torch.tensor([0, 1, 0]), size=5, sampling=2))


def test_masks_of_a_batch_are_those_of_its_images() -> None:
    features = random(3, FEATURES, 24, 20)
    boxes, kernels = boxes_in(30, 90), random(30, KERNEL_SIZE, seed=5) - 0.5
    image = torch.arange(30) % 3
    found = batch_masks(features, 4, kernels, boxes, image)
    assert found.shape == (30, CELLS, CELLS)
    for b in range(3):
        expected = object_masks(features[b], 4, kernels[image == b], boxes[image == b], CELLS)
        torch.testing.assert_close(found[image == b], expected, atol=1e-4, rtol=0)
    assert batch_masks(features, 4, kernels[:0], boxes[:0], image[:0]).shape == (0, CELLS, CELLS)


# The whole, run by PyTorch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["yolo", "yolo-masks", "yolov1", "retinanet", "faster-rcnn", "mask-rcnn"])
@torch.no_grad()
def test_what_is_traced_decides_as_the_model_does(head: str) -> None:
    model, _ = sure_model(head)
    images = pictures(3)
    ours = in_torch(model).run(images, score=0.05, iou=0.5, max_det=60)
    boxes, scores, labels, image, *masks = graph_of(model)(
        torch.from_numpy(images), torch.tensor([0.05]), torch.tensor([0.5]), torch.tensor([60])
    )
    theirs = [
        RawDetections(*(value[image == b].numpy() for value in (boxes, scores, labels, *masks))) for b in range(3)
    ]
    parity = DetectionParity(iou=0.5, most=60)
    parity.add(ours, theirs)
    facts = parity.facts()
    assert facts["matched"] >= 10
    assert facts["unmatched"] == facts["on_edge"] == 0
    assert facts["largest_score_difference"] < 1e-5
    assert facts["smallest_iou"] > 0.999
    assert len(CLASSES) == 3
    assert images.shape[1] == SIDE


@pytest.mark.parametrize("head", ["yolo", "yolo-masks", "faster-rcnn", "mask-rcnn"])
@torch.no_grad()
def test_a_bound_of_candidates_cuts_the_tail_alone(head: str) -> None:
    """Models bound the pairs that enter suppression; graphs do not. What is left out scores less than all that enters,
    and so removes none of them: what a model decides on is what its graph says first."""
    model, _ = sure_model(head)
    for name, weight in model.named_parameters():
        if "class_predictors" in name:
            weight.mul_(0.1)  # scores of exactly 1 have no order
    images = torch.from_numpy(pictures(1))
    outputs = model(channels_first(images))
    (bounded,) = model.predict(outputs, score=0.05, iou=0.5, max_det=60, candidates=25)
    boxes, scores, labels, *_ = graph_of(model)(images, torch.tensor([0.05]), torch.tensor([0.5]), torch.tensor([60]))
    count = len(bounded.scores)
    assert 0 < count < len(scores)
    torch.testing.assert_close(scores[:count], bounded.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(boxes[:count], bounded.boxes, atol=1e-2, rtol=0)
    assert torch.equal(labels[:count], bounded.labels)
