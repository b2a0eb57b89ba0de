"""`--batch auto`: the largest batch that fits, tried on the image that asks for most."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from visionkit.api.prepare import Prepared, Say
from visionkit.api.training_samples import augment_settings
from visionkit.choices import Choices
from visionkit.data.collate import collate
from visionkit.data.dataset import DetectionDataset
from visionkit.data.tiles import TiledDataset
from visionkit.data.views import EvaluationView, multi_scale_bounds
from visionkit.engine.batch_size import LEAST, Fit, largest_batch, two_steps
from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.train import TrainingState
from visionkit.errors import VisionkitError
from visionkit.nn.thaw import thaw
from visionkit.types import Batch

MOST = 64
"""Images of the largest batch that is tried, all processes together. More would make fewer steps an epoch than learning
rates are meant for."""


def fit_batch(run: Prepared, choices: Choices, say: Say, processes: TorchProcesses | None = None) -> Prepared:
    """A prepared run with the largest batch that fits, and no larger than `MOST` or the training set.

    Args:
        choices: `train.batch` is added to it, with origin `auto`.
        processes: who learns from each batch together: the least of what fits in any of them is what each gets.

    Raises:
        VisionkitError: not even the smallest batch fits.
    """
    share = 1 if processes is None else processes.world_size
    most = max(LEAST, min(MOST, len(run.train_data)) // share)
    fit = fitting_batch(run, most)
    own = max(1, run.config.train.batch // share) if fit.batch is None else fit.batch
    # Every process takes part in the agreement, also one in which nothing fits.
    batch = own if processes is None else processes.least(own) * share
    if not batch:
        raise VisionkitError(
            f"not even a batch of {LEAST} fits into memory ({fit.words}); use a smaller --imgsz or model"
        )
    if fit.batch is None:
        say(f"Batch: {batch}, {fit.words}, so it is what it is without auto")
    else:
        each = f"{batch}, " if share == 1 else f"{batch}, {batch // share} a process, "
        say(f"Batch: {each}the largest power of two up to {most} that fits ({_worst(run)}: {fit.words})")
    choices.say({"train.batch": batch}, "auto")
    return replace(run, config=choices.config())


def fitting_batch(run: Prepared, most: int) -> Fit:
    """The largest power of two up to `most` of the worst image that a copy of a run's model can learn from, in this
    process."""
    make = _worst_batches(run)
    device, settings = run.device, run.config.train
    model = copy.deepcopy(run.state.model)
    # What learns later takes its memory then.
    for held in run.state.thaws.held:
        thaw(model, held.frozen)

    def trial(size: int) -> None:
        state = TrainingState.begin(model, settings, 1)
        state.optimizer.zero_grad(set_to_none=True)
        two_steps(state, make(size), settings, device)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return largest_batch(trial, most, device)


def _worst_batches(run: Prepared) -> Callable[[int], Batch]:
    """Batches of so many times the image that asks for most, in the largest square that training draws, with as many
    objects as a mosaic or a mixture of its like could have."""
    augment, size = augment_settings(run.config), _largest_side(run)
    sample, frame = EvaluationView(run.train_data, size).render(_worst_index(run), size)
    images = (4 if augment.mosaic else 1) * (2 if augment.mixup else 1)
    sample = sample.with_objects(np.tile(np.arange(len(sample.labels)), images))
    return lambda count: collate([(sample, frame)] * count)


def _largest_side(run: Prepared) -> int:
    """Of the squares that training draws, in pixels."""
    return multi_scale_bounds(run.config.imgsz, augment_settings(run.config).multi_scale)[1]


def _worst_index(run: Prepared) -> int:
    """The image with most objects; of equals the largest, and of these the first. One in tiles is there whole, too."""
    data = run.train_data
    if isinstance(data, TiledDataset) and isinstance(data.images, DetectionDataset):
        return data.whole(_most_objects(data.images))
    # Else one object a picture, or none: they are all alike.
    return _most_objects(data) if isinstance(data, DetectionDataset) else 0


def _most_objects(data: DetectionDataset) -> int:
    image, *_ = data.objects()
    counts = np.bincount(image, minlength=len(data))
    pixels = data.sizes.astype(np.int64).prod(axis=1)
    return int(np.lexsort((np.arange(len(data)), -pixels, -counts))[0])


def _worst(run: Prepared) -> str:
    data, size = run.train_data, _largest_side(run)
    if not isinstance(data, DetectionDataset):
        return f"at {size} px"
    worst = _worst_index(run)
    count = int(np.count_nonzero(data.objects()[0] == worst))
    return f"the image with most objects, {data.path(worst).name} with {count}, at {size} px"
