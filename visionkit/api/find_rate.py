"""`--find-lr`: which learning rate suits a run, found on a copy of its model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch

from visionkit.api.prepare import Prepared, Say
from visionkit.api.training_run import RunParts
from visionkit.data.growth import NO_GROWTH
from visionkit.engine.events import Listener, RateFound
from visionkit.engine.rate_range import STEPS, draw_rate_range, rate_range
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.train import TrainingState
from visionkit.errors import VisionkitError

LONG = 10_000
"""Epochs of the plan that the test draws its batches from: more than it can use up."""


def find_rate(run: Prepared, folder: Path, say: Say, listen: Listener) -> None:
    """Tell the highest learning rate that a prepared run should use; the plot behind it is `learning_rate.png` in
    `folder`.

    Raises:
        VisionkitError: the loss is not finite from the first steps on.
    """
    train = run.config.train.model_copy(update={"epochs": LONG})
    long = replace(run, config=run.config.model_copy(update={"train": train}))
    parts = RunParts.of(long, RunFolder(folder), lambda event: None)
    # At full size from the beginning: how large images are changes what a rate does.
    batches = replace(parts.batches, view=replace(parts.view, growth=NO_GROWTH))
    model = copy.deepcopy(run.state.model)
    with torch.random.fork_rng([run.device] if run.device.type == "cuda" else []):
        state = TrainingState.begin(model, run.config.train, parts.plan.steps_per_epoch, run.fresh)
        found = rate_range(state, batches, run.config.train, device=run.device)
    if len(found.rates) < 2:
        raise VisionkitError("the loss is not finite at any learning rate; look at the data and the weights")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "learning_rate.png"
    draw_rate_range(path, found)
    say(
        f"Learning rate: {found.suggestion:g}, a tenth of where the loss was least on {len(found.rates)} of {STEPS} "
        f"steps from {found.rates[0]:.2g} to {found.rates[-1]:.2g}; see {path}, use it by --lr {found.suggestion:g}"
    )
    listen(RateFound(found.suggestion, path))
