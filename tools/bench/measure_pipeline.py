"""visionkit's contestant for `pipeline`: augmented mosaics a second, in one process, from images in memory."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from task import Task

from visionkit.cli.process import tune_process

tune_process()  # as the command line does, before torch is imported

import cv2
import torch

from visionkit.api.datasets import find_dataset
from visionkit.data.augment import preset
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import BatchPlan, training_loader
from visionkit.data.views import TrainingView
from visionkit.formats.layout import read_split


def measure(task: Task) -> dict[str, float]:
    """Images a second of the heavy augmentation with a mosaic for every sample, collated into batches u8."""
    # One thread, as each worker of a loader has: the workers are the parallelism.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    images = read_split(find_dataset(task.data, lambda line: None), "train")
    dataset = DetectionDataset(images, cache="ram")
    for index in range(len(dataset)):
        dataset.read(index)
    view = TrainingView(dataset, replace(preset("heavy"), mosaic=1.0), task.imgsz, task.seed)
    batches = iter(training_loader(view, BatchPlan(len(dataset), task.batch, 10_000, task.seed), workers=0))
    # Enough to have met the rare changes too, some of which load a library first.
    for _ in range(10):
        next(batches)
    began = time.perf_counter()
    for _ in range(task.steps):
        next(batches)
    return {"images_per_second": task.steps * task.batch / (time.perf_counter() - began)}


if __name__ == "__main__":
    print(json.dumps(measure(Task.from_environment())))
