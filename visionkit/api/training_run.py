"""A training run: prepared parts, a folder, the loop between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from visionkit.api.evaluate import detections_on, split_loader
from visionkit.api.prepare import STATE_FORMAT, Prepared, Say, annotations_sha256, batch_plan
from visionkit.build import save_model
from visionkit.classes import ClassTable
from visionkit.config import Config
from visionkit.data.augment import AugmentSettings, preset
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import BatchLoader, BatchPlan, training_loader
from visionkit.data.views import TrainingView
from visionkit.engine.checkpoint import save_state
from visionkit.engine.curves import draw_curves
from visionkit.engine.events import EpochDone, Event, Listener, Saved
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.train import TrainingState, train
from visionkit.metrics.coco_map import CocoScores, coco_scores
from visionkit.nn.freeze import frozen_sha256, prove_frozen
from visionkit.predict.drawing import contact_sheet, draw_truth
from visionkit.predict.writers import save_picture


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What a run came to.

    Args:
        folder: the run's folder.
        best, last: weights files.
        epochs: completed.
        best_epoch: whose weights `best` holds.
        scores: of the best epoch, as the metrics file has them: AP, AP50, AP75, AR100, mean_iou_matched.
        frozen_sha256: of the frozen tensors, the same before and after; empty where nothing was frozen.
    """

    folder: Path
    best: Path
    last: Path
    epochs: int
    best_epoch: int
    scores: dict[str, float | None]
    frozen_sha256: str

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "best": str(self.best),
            "last": str(self.last),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            **self.scores,
            "frozen_sha256": self.frozen_sha256 or None,
        }


@dataclass(frozen=True, slots=True)
class _Batches:
    """A run's training batches, from anywhere in it."""

    view: TrainingView
    plan: BatchPlan
    workers: int
    pin_memory: bool

    @property
    def batches_per_epoch(self) -> int:
        return self.plan.steps_per_epoch

    def start(self, epoch: int, batch: int) -> BatchLoader:
        step = epoch * self.plan.steps_per_epoch + batch
        return training_loader(self.view, self.plan, workers=self.workers, start_step=step, pin_memory=self.pin_memory)


def augment_settings(config: Config) -> AugmentSettings:
    """The preset, with mosaics in the first share of epochs that the recipe names."""
    return replace(preset(config.augment), mosaic_epochs=round(config.mosaic_until * config.train.epochs))


def run_training(run: Prepared, folder: RunFolder, listen: Listener, say: Say) -> FinetuneResult:
    """Train from wherever the prepared state is to the end, writing the files of the run as it goes.

    Raises:
        VisionkitError: the loss is no longer finite, or frozen tensors moved.
    """
    config, device, state = run.config, run.device, run.state
    settings = config.train
    classes = run.train_images.classes
    recipe = config.recipe()
    pin = device.type == "cuda"

    view = TrainingView(DetectionDataset(run.train_images), augment_settings(config), config.imgsz, settings.seed)
    plan = batch_plan(config, len(run.train_images.images))
    val_loader = split_loader(run.val_images, config.imgsz, settings.batch, min(1, config.workers or 0), device)
    data_sha256 = annotations_sha256(run.layout)

    def evaluate(model: nn.Module) -> CocoScores:
        rows = detections_on(model, val_loader, run.val_images, classes, device, settings.amp, listen)
        return coco_scores(run.val_images, rows)

    def save_run_state(state: TrainingState) -> None:
        content = {
            "format": STATE_FORMAT,
            "training": state.to_dict(),
            "config": _flat(config),
            "data_sha256": data_sha256,
            "frozen_sha256": run.frozen_sha256,
        }
        save_state(folder.state, content)
        listen(Saved(folder.state))

    def save_epoch(state: TrainingState, scores: CocoScores | None, best: bool) -> None:
        card = {"epoch": state.epoch, **_shown_scores(state.history[-1])}
        save_model(folder.last, state.average.model, classes, recipe, card)
        if best:
            save_model(folder.best, state.average.model, classes, recipe, card)
        folder.write_metrics(state.history)
        if scores is not None:
            draw_curves(folder.curves, state.history)

    def log_event(event: Event) -> None:
        if isinstance(event, EpochDone):
            folder.add_to_log(epoch_line(event))
        listen(event)

    if state.epoch == state.batch == 0 and not folder.first_batch.exists():
        save_picture(folder.first_batch, _first_batch(view, plan, classes))
    train(
        state,
        _Batches(view, plan, config.workers or 0, pin),
        settings,
        device=device,
        evaluate=evaluate,
        save_state=save_run_state,
        save_epoch=save_epoch,
        listen=log_event,
    )
    if run.frozen:
        for model in (state.model, state.average.model):
            prove_frozen(run.frozen_sha256, frozen_sha256(model, run.frozen))
        say(f"Frozen tensors unchanged: SHA-256 {run.frozen_sha256} before and after")
    best = state.best or {}
    return FinetuneResult(
        folder=folder.root,
        # Without an object in the val split no epoch has an AP, and so none is best.
        best=folder.best if best else folder.last,
        last=folder.last,
        epochs=state.epoch,
        best_epoch=best.get("epoch", 0),
        scores=_shown_scores(best),
        frozen_sha256=run.frozen_sha256,
    )


def _first_batch(view: TrainingView, plan: BatchPlan, classes: ClassTable) -> NDArray[np.uint8]:
    """What the network sees first: up to 16 augmented images with their boxes."""
    samples = [view[key][0] for key in next(plan.batches(0))[:16]]
    return contact_sheet([draw_truth(s.image, s.boxes, s.labels.tolist(), classes.names) for s in samples])


def _flat(config: Config) -> dict[str, Any]:
    """A configuration by dotted key, in what JSON knows."""
    values = config.model_dump(mode="json")
    inner = values.pop("train")
    return {**values, **{f"train.{name}": value for name, value in inner.items()}}


def _shown_scores(row: dict[str, Any]) -> dict[str, float | None]:
    return {name: row.get(name) for name in ("AP", "AP50", "AP75", "AR100", "mean_iou_matched")}


def epoch_line(event: EpochDone) -> str:
    """An epoch in a line: `epoch  12/100  2:31  class 1.204  box 0.873  31 images/s  AP 0.4120  AP50 0.7000  best`."""
    minutes, seconds = divmod(round(event.elapsed), 60)
    losses = "  ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
    line = f"epoch {event.epoch:>3}/{event.epochs}  {minutes}:{seconds:02}  {losses}"
    line += f"  {event.images_per_second:.0f} images/s"
    if event.scores is not None:
        line += f"  AP {_score(event.scores.AP)}  AP50 {_score(event.scores.AP50)}{'  best' if event.best else ''}"
    return line


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
