"""What `test_torchvision_models` asks of small pictures, of whole ones: as torchvision's own transform makes them, with
all 91 labels, all proposals and all detections.

That takes minutes a model, so it waits to be asked for; a number is a shorter side in pixels, 1 is torchvision's own:

    VISIONKIT_WHOLE_PARITY=1 pytest -s -n0 tests/models/test_torchvision_parity.py [-k maskrcnn]
"""

import os
from dataclasses import dataclass
from typing import Any

import cv2
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from tests.reference_data import reference_data
from tests.torchvision_pairs import Images, labels_of, torchvision_says, with_something_to_say
from visionkit.models.torchvision_models import TORCHVISION_MODELS, TorchvisionName
from visionkit.models.torchvision_names import from_torchvision
from visionkit.types import Detections

WHOLE = os.environ.get("VISIONKIT_WHOLE_PARITY", "")
LABELS = 91
MEASURED = 2
"""Of the photos, so many decide the weights."""

STAGES = ("rpn.", "roi_heads.box_predictor.", "")
"""Of so many classes none scores enough at first: what masks are said of follows from the scores."""

BOX, SCORE = 1e-3, 1e-5
"""Most that a corner in pixels and a score may differ by."""

MASK = 0.999
"""Least IoU of masks on whole pixels."""

ALL_PAIRS = 1_000_000
PASTED = 20
"""Masks that are pasted at once: each is as large as the image."""


def pair(name: TorchvisionName) -> tuple[Any, Any, list[Images]]:
    """torchvision's model and ours with the same weights, and the tensors that torchvision's makes of the photos, which
    ours takes as they are; noise for padding: in a flat area all places say the same."""
    torch.manual_seed(1)
    side = int(WHOLE)
    sizes = {"min_size": side, "max_size": 2 * side} if side > 1 else {}
    theirs = getattr(torchvision.models.detection, name)(
        weights=None, weights_backbone=None, num_classes=LABELS, **sizes
    ).eval()
    photos = []
    for path in sorted(reference_data("photos").glob("*.jpg")):
        pixels = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)
        images, _ = theirs.transform([pixels / 255])
        ((height, width),) = images.image_sizes
        x = torch.randn_like(images.tensors)
        x[..., :height, :width] = images.tensors[..., :height, :width]
        photos.append((x, images.image_sizes))
    assert len(photos) == 12
    labels = labels_of(name, LABELS)
    ours: Any = TORCHVISION_MODELS[name](len(labels)).eval()
    ours.normalize = nn.Identity()  # torchvision's transform did it
    theirs = with_something_to_say(theirs, photos[:MEASURED], STAGES)
    ours.load_state_dict(from_torchvision(theirs.state_dict(), labels))
    return theirs, ours, photos


@dataclass
class Differences:
    """The largest there are, and of how many boxes."""

    boxes: int = 0
    box: float = 0.0
    score: float = 0.0
    mask: float = 1.0
    moved: int = 0

    def add(
        self, one: Detections, other: dict[str, Tensor], first_label: int, size: tuple[int, int], most: int
    ) -> None:
        """Compare what was found in an image, box by box.

        The scores must be the same one after another, and each box must be one of torchvision's, with its label and its
        score. So the order is the same but among scores that are equal as far as they are compared: these are in no
        order, and which of them is the last that is admitted is chance.
        """
        assert len(one.scores) == len(other["scores"])
        torch.testing.assert_close(one.scores, other["scores"], rtol=0, atol=SCORE)
        sure = (one.scores > one.scores[-1] + SCORE) if len(one.scores) == most else one.scores > 0
        far = (one.boxes[sure, None] - other["boxes"]).abs().amax(2)
        far[one.labels[sure, None] + first_label != other["labels"]] = torch.inf
        nearest, place = far.min(1)
        assert len(place.unique()) == len(place)
        score = (one.scores[sure] - other["scores"][place]).abs()
        assert float(nearest.max()) <= BOX
        assert float(score.max()) <= SCORE
        self.boxes += len(one.scores)
        self.box, self.score = max(self.box, float(nearest.max())), max(self.score, float(score.max()))
        self.moved += int((place != sure.nonzero().squeeze(1)).sum())
        if one.masks is not None:
            pairs = zip(
                *(values.split(PASTED) for values in (one.masks[sure], one.boxes[sure])),
                *(other[key][place].split(PASTED) for key in ("masks", "boxes")),
                strict=True,
            )
            for masks, boxes, their_masks, their_boxes in pairs:
                mine = paste_masks_in_image(masks[:, None], boxes, size)[:, 0] > 0.5
                theirs = paste_masks_in_image(their_masks, their_boxes, size)[:, 0] > 0.5
                assert 0.05 < float((their_masks > 0.5).float().mean()) < 0.95
                either = (mine | theirs).sum((1, 2))
                overlap = torch.where(either > 0, (mine & theirs).sum((1, 2)) / either.clamp(min=1), 1)
                self.mask = min(self.mask, float(overlap.min()))
            assert self.mask >= MASK


@pytest.mark.skipif(
    not WHOLE.isdecimal(), reason="takes minutes a model; set VISIONKIT_WHOLE_PARITY to 1, or to a shorter side in px"
)
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TORCHVISION_MODELS)
@torch.no_grad()
def test_same_boxes_in_the_same_order(name: TorchvisionName) -> None:
    theirs, ours, photos = pair(name)
    most = 300 if name.startswith("retinanet") else 100
    all_pairs = {"candidates": ALL_PAIRS} if "rcnn" in name else {}
    differences = Differences()
    for x, sizes in photos:
        (expected,) = torchvision_says(theirs, x, sizes)
        (found,) = ours.predict(ours(x, sizes), max_det=most, **all_pairs)
        differences.add(found, expected, labels_of(name, LABELS)[0], sizes[0], most)
    print(f"\n{name}: {differences}")
    # Nearly all that may be: enough of them survive suppression.
    assert differences.boxes >= 0.5 * len(photos) * most
