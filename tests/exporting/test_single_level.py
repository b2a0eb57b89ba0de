"""A detector on one map, and an image in which nothing is proposed, in what is traced of them."""

import pytest
import torch
from sure_models import in_torch, pictures, sure_model
from torch import nn

from visionkit.exporting.onnx_file import graph_of
from visionkit.exporting.parity import DetectionParity
from visionkit.models.faster_rcnn import FasterRcnn
from visionkit.models.mask_rcnn import MaskRcnn
from visionkit.predict.backend import RawDetections

LIMITS = (torch.tensor([0.05]), torch.tensor([0.5]), torch.tensor([60]))


@pytest.mark.parametrize("head", ["faster-rcnn", "mask-rcnn"])
@torch.no_grad()
def test_on_one_map_what_is_traced_decides_as_the_model_does(head: str) -> None:
    model, _ = sure_model(head, single_level=True)
    images = pictures(2)
    boxes, scores, labels, image, *masks = graph_of(model)(torch.from_numpy(images), *LIMITS)
    theirs = [
        RawDetections(*(value[image == b].numpy() for value in (boxes, scores, labels, *masks))) for b in range(2)
    ]
    parity = DetectionParity(iou=0.5, most=60)
    parity.add(in_torch(model).run(images, score=0.05, iou=0.5, max_det=60), theirs)
    facts = parity.facts()
    assert facts["matched"] >= 10
    assert facts["unmatched"] == facts["on_edge"] == 0
    assert facts["largest_score_difference"] < 1e-5
    assert facts["smallest_iou"] > 0.999


@pytest.mark.parametrize("head", ["faster-rcnn", "mask-rcnn"])
@torch.no_grad()
def test_where_nothing_is_proposed_nothing_is_found(head: str) -> None:
    """No tensor of the graph is empty then: there are its spare regions, which are of no image."""
    model, _ = sure_model(head)
    assert isinstance(model, FasterRcnn | MaskRcnn)
    nn.init.zeros_(model.rpn.box_predictor.weight)
    nn.init.constant_(model.rpn.box_predictor.bias, -100)  # each side shrinks to its e^-100th part
    images = torch.from_numpy(pictures(2))
    assert len(model(images.permute(0, 3, 1, 2)).regions.boxes) == 0
    boxes, scores, labels, image, *masks = graph_of(model)(images, *LIMITS)
    assert (boxes.shape, scores.shape, labels.shape, image.shape) == ((0, 4), (0,), (0,), (0,))
    assert all(value.shape[0] == 0 for value in masks)
    found = in_torch(model).run(pictures(2), score=0.05, iou=0.5, max_det=60)
    assert [len(one.scores) for one in found] == [0, 0]
