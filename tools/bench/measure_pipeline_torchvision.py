"""A peer for `pipeline`: the same mosaic written with torchvision's transforms v2, and an example of an adaptor.

Four images from memory, each mirrored, scaled and cut to its quadrant about a random centre, put together, then
brightness, contrast, saturation and hue. Boxes go along, as v2 intends. Left out are the rare changes of `heavy`: grey,
blur and noise.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from task import Task
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from visionkit.api.datasets import find_dataset
from visionkit.data.dataset import DetectionDataset
from visionkit.formats.layout import read_split

GREY = 114
SCALE = (0.5, 1.25)
"""Of a tile, as `AugmentSettings.mosaic_scale` has it: at 1 the whole image would fit the canvas."""


def cached(data: str) -> list[tuple[tv_tensors.Image, dict[str, Any]]]:
    """Every training image, decoded u8 [3, H, W], with its boxes and labels."""
    dataset = DetectionDataset(read_split(find_dataset(data, lambda line: None), "train"))
    items = []
    for sample in map(dataset.read, range(len(dataset))):
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(sample.boxes), format="XYXY", canvas_size=sample.image.shape[:2]
        )
        image = tv_tensors.Image(torch.from_numpy(sample.image.copy()).permute(2, 0, 1).contiguous())
        items.append((image, {"boxes": boxes, "labels": torch.from_numpy(sample.labels)}))
    return items


def mosaic(
    items: list[tuple[tv_tensors.Image, dict[str, Any]]], size: int, colour: v2.Transform
) -> tuple[Tensor, Tensor, Tensor]:
    """An augmented mosaic: u8 [3, size, size], its boxes [G, 4] and labels [G]."""
    centre_x, centre_y = (int(size * (0.3 + 0.4 * torch.rand(()).item())) for _ in range(2))
    canvas = torch.empty((3, size, size), dtype=torch.uint8)
    boxes, labels = [], []
    for quadrant in range(4):
        left, right = (0, centre_x) if quadrant % 2 == 0 else (centre_x, size)
        top, bottom = (0, centre_y) if quadrant < 2 else (centre_y, size)
        image, truth = items[int(torch.randint(len(items), ()))]
        height, width = image.shape[-2:]
        factor = size / max(height, width) * torch.empty(()).uniform_(*SCALE).item()
        tile = v2.Compose(
            [
                v2.RandomHorizontalFlip(0.5),
                v2.Resize((max(1, round(height * factor)), max(1, round(width * factor)))),
                v2.RandomCrop((bottom - top, right - left), pad_if_needed=True, fill=GREY),
                v2.ClampBoundingBoxes(),
                v2.SanitizeBoundingBoxes(min_size=2),
            ]
        )
        image, truth = tile(image, truth)
        canvas[:, top:bottom, left:right] = image
        boxes.append(truth["boxes"].as_subclass(Tensor) + torch.tensor([left, top, left, top]))
        labels.append(truth["labels"])
    return colour(canvas), torch.cat(boxes), torch.cat(labels)


def measure(task: Task) -> dict[str, float]:
    torch.set_num_threads(1)
    items = cached(task.data)
    # The ranges of visionkit's `heavy`.
    colour = v2.ColorJitter(brightness=0.4, contrast=0.3, saturation=0.6, hue=0.03)
    for _ in range(task.batch):
        mosaic(items, task.imgsz, colour)
    began = time.perf_counter()
    for _ in range(task.steps):
        torch.stack([mosaic(items, task.imgsz, colour)[0] for _ in range(task.batch)])
    return {"images_per_second": task.steps * task.batch / (time.perf_counter() - began)}


if __name__ == "__main__":
    print(json.dumps(measure(Task.from_environment())))
