"""From network outputs to COCO results rows, with a model whose detections are known."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.classes import ClassTable
from visionkit.engine.evaluate import EVALUATION_IOU, EVALUATION_MAX_DET, EVALUATION_SCORE, detect_batches
from visionkit.imaging.letterbox import Frame
from visionkit.types import Batch, Detections

CLASSES = ClassTable((3, 17), ("car", "cat"))
CPU = torch.device("cpu")


class Says(nn.Module):
    """Finds the same things in every image: (x1, y1, x2, y2, score, label) in network pixels."""

    def __init__(self, *found: Sequence[float]) -> None:
        super().__init__()
        rows = torch.tensor(found).reshape(-1, 6)
        self.detections = Detections(rows[:, :4], rows[:, 4], rows[:, 5].long())
        self.asked: list[dict[str, Any]] = []

    def forward(self, images: Tensor) -> Tensor:
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
    asked = {"score": EVALUATION_SCORE, "iou": EVALUATION_IOU, "max_det": EVALUATION_MAX_DET}
    assert model.asked == [asked, asked]
    assert EVALUATION_SCORE <= 0.001
    assert EVALUATION_MAX_DET >= 100  # COCO's own limit


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
