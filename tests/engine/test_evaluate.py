"""From network outputs to COCO results rows, with a model whose detections are known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.classes import ClassTable
from visionkit.engine.evaluate import (
    EVALUATION_MAX_DET,
    EVALUATION_SCORE,
    classify_batches,
    detect_batches,
)
from visionkit.imaging.letterbox import Frame
from visionkit.predict.masks import decoded_mask
from visionkit.types import Batch, ClassScores, Detections, Target

CLASSES = ClassTable((3, 17), ("car", "cat"))
CPU = torch.device("cpu")


class Says(nn.Module):
    """Finds the same things in every image: (x1, y1, x2, y2, score, label) in network pixels."""

    def __init__(self, *found: Sequence[float]) -> None:
        super().__init__()
        rows = torch.tensor(found).reshape(-1, 6)
        self.detections = Detections(rows[:, :4], rows[:, 4], rows[:, 5].long())
        self.asked: list[dict[str, Any]] = []

    def forward(self, images: Tensor, **given: Any) -> Tensor:
        assert torch.is_inference_mode_enabled()
        assert not images.requires_grad
        return images

    def predict(self, outputs: Tensor, **options: Any) -> list[Detections]:
        self.asked.append(options)
        return [self.detections] * len(outputs)


def batch(*image_ids: int, frame: Frame) -> Batch:
    images = torch.zeros(len(image_ids), 3, 64, 64, dtype=torch.uint8)
    return Batch(images, (), (frame,) * len(image_ids), image_ids)


# A picture of 128 x 64 in a square of 64: half its size, 16 network pixels of padding above and below.
HALF = Frame(width=128, height=64, scale_x=0.5, scale_y=0.5, left=0, top=16)


def rows_of(model: nn.Module, *batches: Batch, **options: Any) -> list[dict[str, Any]]:
    return detect_batches(model, batches, CLASSES, device=CPU, amp=False, **options)


def test_boxes_are_xywh_in_original_pixels_and_labels_are_category_ids() -> None:
    rows = rows_of(Says((8, 20, 24, 40, 0.75, 1)), batch(42, frame=HALF))
    # x1 = 8 / 0.5, y1 = (20 - 16) / 0.5, width = (24 - 8) / 0.5, height = (40 - 20) / 0.5
    assert rows == [{"image_id": 42, "category_id": 17, "bbox": [16, 8, 32, 40], "score": 0.75}]


def test_a_box_is_clipped_to_the_picture_and_one_in_the_padding_is_none() -> None:
    model = Says((0, 0, 64, 32, 0.5, 0), (10, 2, 20, 14, 0.9, 0))
    rows = rows_of(model, batch(1, frame=HALF))
    assert [row["bbox"] for row in rows] == [[0, 0, 128, 32]]  # y from (0 - 16) / 0.5, clipped to 0


def test_all_that_coco_may_rank_is_kept() -> None:
    model = Says()
    assert rows_of(model, batch(1, frame=HALF), batch(2, frame=HALF)) == []
    # Nothing of suppression: that is the model's own.
    asked = {"score": EVALUATION_SCORE, "max_det": EVALUATION_MAX_DET, "masks": False}
    assert model.asked == [asked, asked]
    assert EVALUATION_SCORE <= 0.001
    assert EVALUATION_MAX_DET >= 100  # COCO's own limit


def test_an_overlap_that_is_asked_for_wins() -> None:
    model = Says()
    rows_of(model, batch(1, frame=HALF), iou=0.3)
    assert model.asked[0]["iou"] == 0.3


def test_masks_are_asked_for_by_name_and_pasted_in_original_pixels() -> None:
    model = Says((8, 20, 24, 40, 0.75, 1), (-4, 20, 8, 40, 0.5, 0))
    found = model.detections
    model.detections = replace(found, masks=torch.ones(2, 4, 4))
    first, second = rows_of(model, batch(1, frame=HALF), masks=True)
    assert model.asked[0]["masks"] is True
    # The box x 16 to 48, y 8 to 48, with corners rounded off; the second one keeps what is in the picture: x -8 to 16.
    mask, cut = decoded_mask(first["segmentation"]), decoded_mask(second["segmentation"])
    assert mask.shape == cut.shape == (64, 128)
    assert np.flatnonzero(mask[28]).tolist() == list(range(16, 48))
    assert np.flatnonzero(mask[:, 32]).tolist() == list(range(8, 48))
    assert np.flatnonzero(cut[28]).tolist() == list(range(16))
    rows_of(model, batch(1, frame=HALF))
    assert model.asked[1]["masks"] is False


def test_images_are_counted_and_rows_follow_them() -> None:
    counts: list[int] = []
    model = Says((8, 20, 24, 40, 0.75, 1), (8, 20, 24, 40, 0.5, 0))
    rows = rows_of(model, batch(7, 5, frame=HALF), batch(6, frame=HALF), on_images=counts.append)
    assert counts == [2, 1]
    assert [(row["image_id"], row["category_id"]) for row in rows] == [
        (7, 17), (7, 3), (5, 17), (5, 3), (6, 17), (6, 3),
    ]  # fmt: skip


def test_no_batch_gives_no_row() -> None:
    assert rows_of(Says((8, 20, 24, 40, 0.75, 1))) == []


# Classifiers ----------------------------------------------------------------------------------------------------------


class Shades(nn.Module):
    """Says a picture is a cat as surely as it is bright."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2, 3)) / 255

    def predict(self, outputs: Tensor, **options: Any) -> list[ClassScores]:
        assert options == {"score": 0.0, "max_det": 2}
        return [ClassScores(*torch.stack((1 - cat, cat)).sort(descending=True)) for cat in outputs]


def test_truth_and_probabilities_in_the_order_of_labels() -> None:
    told: list[int] = []
    frame, whole = Frame(8, 8, 1.0, 1.0, 0, 0), torch.tensor([[0.0, 0, 8, 8]])

    def pictures(*of: tuple[int, int]) -> Batch:
        """(brightness, label) of each."""
        images = torch.stack([torch.full((3, 8, 8), brightness, dtype=torch.uint8) for brightness, _ in of])
        targets = tuple(Target(whole, torch.tensor([label]), torch.tensor([False])) for _, label in of)
        return Batch(images, targets, (frame,) * len(of), tuple(range(len(of))))

    batches = [pictures((255, 1), (51, 1)), pictures((0, 0))]
    labels, found = classify_batches(Shades(), batches, CLASSES, device=CPU, amp=False, on_images=told.append)
    assert labels.tolist() == [1, 1, 0]
    torch.testing.assert_close(torch.from_numpy(found), torch.tensor([[0.0, 1.0], [0.8, 0.2], [1.0, 0.0]]))
    assert told == [2, 1]
