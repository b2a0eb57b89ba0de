"""With torchvision's weights our detectors say what torchvision's say, of small pictures; of whole ones
`test_torchvision_parity` asks them."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from tests.reference_data import reference_data
from tests.torchvision_pairs import labels_of, torchvision_says, with_something_to_say
from visionkit.errors import CheckpointError
from visionkit.models.torchvision_models import TORCHVISION_MODELS, TorchvisionName
from visionkit.models.torchvision_names import from_torchvision, our_name
from visionkit.nn.fold import folded
from visionkit.ops.boxes import box_iou
from visionkit.predict.masks import decoded_mask, pasted_masks

LABELS = 8  # torchvision's, background counted
SIDE = 160
MEASURED = 3
"""Of the photos, so many decide the weights."""


def photos() -> tuple[Tensor, list[tuple[int, int]]]:
    """u8 [12, 3, SIDE, SIDE] and H and W of each: photos in the upper left, noise where there is none: in a flat area
    all places say the same, and what comes first of equals is chance in torchvision."""
    paths = sorted(reference_data("photos").glob("*.jpg"))
    assert len(paths) == 12
    images, sizes = torch.randint(256, (len(paths), 3, SIDE, SIDE), dtype=torch.uint8), []
    for image, path in zip(images, paths, strict=True):
        pixels = cv2.imread(str(path))
        height, width = (round(side * SIDE / max(pixels.shape)) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        image[:, :height, :width] = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)
        sizes.append((height, width))
    return images, sizes


def detections(name: TorchvisionName) -> int:
    """At most so many an image."""
    return 25 if name.startswith("mask") else 300 if name.startswith("retinanet") else 100


def pair(name: TorchvisionName) -> tuple[Any, Any, Tensor, list[tuple[int, int]]]:
    """torchvision's model and ours with the same weights, images and their sizes.

    The wide heads take most of the time: of ResNet's they are given the best 60 proposals an image, and 25 detections
    to say masks of, by both.
    """
    torch.manual_seed(1)
    images, sizes = photos()
    labels = labels_of(name, LABELS)
    ours: Any = TORCHVISION_MODELS[name](len(labels)).eval()
    theirs = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, num_classes=LABELS)
    if "rcnn_resnet50" in name:
        theirs.rpn._post_nms_top_n = {"training": 60, "testing": 60}
        theirs.roi_heads.detections_per_img = detections(name)
        ours.rpn.settings = replace(ours.rpn.settings, after_nms=(60, 60))
    theirs = with_something_to_say(theirs, [(ours.normalize(images[:MEASURED]), sizes[:MEASURED])])
    ours.load_state_dict(from_torchvision(theirs.state_dict(), labels))
    return theirs, ours, images, sizes


def rows(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """[N, 6] of score, label and box, best first.

    Scores in single precision are often equal, and those of regions beyond the last pixel of a coarse map always are.
    Which of equals comes first, or is the last that max_det admits, is chance in torchvision (its sort is not stable):
    here they are in the order of label and box, without those that are equal to the last.
    """
    found = torch.cat((scores[:, None], labels[:, None].float(), boxes), 1)
    found = found[scores > scores.min() + 1e-6]
    return torch.tensor(sorted(found.tolist(), key=lambda row: (-round(row[0], 6), *row[1:])))


@pytest.mark.parametrize("name", TORCHVISION_MODELS)
def test_same_boxes_in_the_same_order(name: TorchvisionName) -> None:
    theirs, ours, images, sizes = pair(name)
    expected = torchvision_says(theirs, ours.normalize(images), sizes)
    with torch.no_grad():
        outputs = ours(images, sizes)
        all_pairs = {"candidates": 100_000} if "rcnn" in name else {}
        found = ours.predict(outputs, max_det=detections(name), **all_pairs)
    first_label = labels_of(name, LABELS)[0]
    # Nearly all that may be: enough of them survive suppression.
    counts = [len(one.scores) for one in found]
    assert sum(counts) >= 0.5 * len(sizes) * detections(name), counts
    for one, other in zip(found, expected, strict=True):
        assert len(one.scores) == len(other["scores"])
        mine = rows(one.boxes, one.scores, one.labels + first_label)
        wanted = rows(other["boxes"], other["scores"], other["labels"])
        assert torch.equal(mine[:, 1], wanted[:, 1])
        torch.testing.assert_close(mine[:, 0], wanted[:, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(mine[:, 2:], wanted[:, 2:], rtol=0, atol=1e-3)
        if "masks" in other:
            # A detection is found again by its label and box; the last may be one of equals.
            sure = one.scores > one.scores.min() + 1e-6
            boxes = torch.cat((one.labels[:, None] + 1, one.boxes), 1)[sure]
            difference = (boxes[:, None] - torch.cat((other["labels"][:, None], other["boxes"]), 1)).abs().amax(2)
            assert difference.amin(1).max() < 1e-3
            masks = other["masks"][difference.argmin(1), 0]
            assert 0.1 < (masks > 0.5).float().mean() < 0.9
            assert one.masks is not None
            torch.testing.assert_close(one.masks[sure], masks, rtol=0, atol=1e-4)
            # On whole pixels, as torchvision pastes them, they are the same masks.
            boxes, size = other["boxes"][difference.argmin(1)], (SIDE, SIDE)
            wanted = paste_masks_in_image(masks[:, None], boxes, size)[:, 0].numpy() > 0.5
            for rle, mask in zip(pasted_masks(one.masks[sure].numpy(), rounded(boxes), *size), wanted, strict=True):
                pasted = decoded_mask(rle)
                assert (pasted & mask).sum() >= 0.999 * (pasted | mask).sum()


def rounded(boxes: Tensor) -> NDArray[np.float32]:
    """Boxes [N, 4] as torchvision rounds them before it pastes masks of 28 cells: with a cell more on each side, from
    the whole pixel before to the one behind; given back without the cells."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * 30 / 28
    low, high = (centre - half).trunc(), (centre + half).trunc() + 1
    centre, half = (low + high) / 2, (high - low) / 2 * 28 / 30
    return torch.cat((centre - half, centre + half), 1).numpy()


def test_folded_in_channels_last_it_finds_the_same_boxes() -> None:
    """99 % of those of torchvision that are sure at all, at IoU 0.95; in fp32."""
    theirs, ours, images, sizes = pair("fasterrcnn_resnet50_fpn")
    expected = torchvision_says(theirs, ours.normalize(images), sizes)
    quick = folded(ours).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quick.modules())
    with torch.no_grad():
        x = images.contiguous(memory_format=torch.channels_last)
        found = quick.predict(quick(x, sizes), max_det=detections("fasterrcnn_resnet50_fpn"))
    overlaps = []
    for one, other in zip(found, expected, strict=True):
        sure = other["scores"] >= 0.3
        alike = other["labels"][sure][:, None] == one.labels + 1
        overlaps.append((box_iou(other["boxes"][sure][:, None], one.boxes) * alike).amax(1))
    assert len(torch.cat(overlaps)) > 200
    assert (torch.cat(overlaps) >= 0.95).float().mean() >= 0.99


# Names ----------------------------------------------------------------------------------------------------------------


def test_names_of_old_checkpoints() -> None:
    assert our_name("backbone.fpn.inner_blocks.2.bias") == "neck.inner_blocks.2.0.bias"
    assert our_name("rpn.head.conv.weight") == our_name("rpn.head.conv.0.0.weight") == "rpn.tower.0.0.weight"
    assert our_name("head.regression_head.conv.6.bias") == "head.box_tower.3.0.bias"


def test_a_name_that_is_not_known() -> None:
    message = "the weights have a tensor 'roi_heads.keypoint_head.0.weight', which no known detector of torchvision has"
    with pytest.raises(CheckpointError, match=message):
        from_torchvision({"roi_heads.keypoint_head.0.weight": torch.zeros(1)}, [1])


def test_rows_of_an_rcnn_head() -> None:
    # Row r of the classes says r, row r of the boxes too: torchvision's labels 0 (background), 1, 2.
    state = {
        f"roi_heads.box_predictor.{predictor}.{kind}": torch.arange(float(rows))
        for predictor, rows in (("cls_score", 3), ("bbox_pred", 12))
        for kind in ("weight", "bias")
    }
    ours = from_torchvision(state, [2, 1])
    assert ours["head.class_predictor.weight"].tolist() == [2, 1, 0]
    assert ours["head.box_predictor.bias"].tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    with pytest.raises(CheckpointError, match=r"the weights have labels 0 to 2, got 3; name labels they have"):
        from_torchvision(state, [1, 3])


def test_rows_of_a_retinanet_head() -> None:
    # Two anchors of three labels; the boxes belong to no class.
    state = {
        **{f"head.classification_head.cls_logits.{kind}": torch.arange(6.0) for kind in ("weight", "bias")},
        **{f"head.regression_head.bbox_reg.{kind}": torch.arange(8.0) for kind in ("weight", "bias")},
    }
    ours = from_torchvision(state, [2, 1])
    assert ours["head.class_predictor.bias"].tolist() == [2, 1, 5, 4]
    assert ours["head.box_predictor.weight"].tolist() == list(range(8))
