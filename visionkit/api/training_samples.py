"""What the network sees in training: the augmentation that a configuration means, and pictures of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from visionkit.api.task_data import task_augment, task_of
from visionkit.classes import ClassTable
from visionkit.config import Config
from visionkit.data.augment import AugmentSettings, preset
from visionkit.data.growth import Growth
from visionkit.predict.drawing import contact_sheet, draw_map, draw_truth
from visionkit.types import Sample


def augment_settings(config: Config) -> AugmentSettings:
    """The settings, with mosaics in the first share of epochs that the recipe names."""
    settings = preset(config.augment) if isinstance(config.augment, str) else config.augment
    settings = task_augment(task_of(config), settings)
    return replace(settings, mosaic_epochs=round(config.mosaic_until * config.train.epochs))


def growth(config: Config) -> Growth:
    """Of the network's squares, over the share of epochs that the recipe names."""
    return Growth(config.grow_from, round(config.grow_until * config.train.epochs))


def sample_sheet(samples: Sequence[Sample], classes: ClassTable) -> NDArray[np.uint8]:
    """Samples of one size, at least one, with their boxes or maps, as one picture u8 [H, W, 3] of four columns. Regions
    that training ignores say so behind the name, and have a colour of their own."""
    if samples[0].semantic is not None:
        every = range(len(classes))  # one legend for all, so that tiles have one size
        return contact_sheet([draw_map(s.image, _map(s), classes.names, every) for s in samples])
    names = (*classes.names, *(f"{name} (ignored)" for name in classes.names))
    tiles = [draw_truth(s.image, s.boxes, (s.labels + s.ignore * len(classes)).tolist(), names) for s in samples]
    return contact_sheet(tiles)


def _map(sample: Sample) -> NDArray[np.uint8]:
    assert sample.semantic is not None
    return sample.semantic
