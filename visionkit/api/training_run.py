"""A training run: prepared parts, a folder, the loop between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from visionkit.api.evaluate import counted_images, split_loader
from visionkit.api.prepare import STATE_FORMAT, Prepared, Say, annotations_sha256, batch_plan, kept_sha256
from visionkit.api.task_data import FRAMINGS, proposals_file, task_dataset, task_of
from visionkit.api.training_samples import augment_settings, growth, sample_sheet
from visionkit.build import save_model
from visionkit.config import Config
from visionkit.data.loader import BatchLoader, BatchPlan, training_loader
from visionkit.data.views import TrainingView
from visionkit.engine.checkpoint import save_state
from visionkit.engine.curves import draw_curves
from visionkit.engine.evaluate import EVALUATIONS
from visionkit.engine.events import EpochDone, Event, Listener, Saved
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.tensorboard import tensorboard_log
from visionkit.engine.train import TrainingState, train
from visionkit.errors import DataError, VisionkitError
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.task_scores import TaskScores, scores_by_name
from visionkit.nn.freeze import frozen_sha256, prove_frozen
from visionkit.predict.writers import save_picture


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What a run came to.

    Args:
        folder: the run's folder.
        best, last: weights files.
        epochs: completed.
        best_epoch: whose weights `best` holds.
        scores: of the best epoch, as the metrics file has them: those of `SCORE_NAMES` for its task.
        frozen_sha256: of the frozen tensors, the same before and after; empty where nothing was frozen.
        left_out: items of the data that `skip_bad` left out, each named in the log.
    """

    folder: Path
    best: Path
    last: Path
    epochs: int
    best_epoch: int
    scores: dict[str, float | None]
    frozen_sha256: str
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "best": str(self.best),
            "last": str(self.last),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            **self.scores,
            "frozen_sha256": self.frozen_sha256 or None,
            "left_out": self.left_out,
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


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the training loop is handed for one run: where its batches come from, and what follows an epoch."""

    run: Prepared
    folder: RunFolder
    view: TrainingView
    plan: BatchPlan
    data_sha256: str
    listen: Listener

    @classmethod
    def of(cls, run: Prepared, folder: RunFolder, listen: Listener) -> RunParts:
        config = run.config
        view = TrainingView(
            run.train_data,
            augment_settings(config),
            config.imgsz,
            config.train.seed,
            growth(config),
            FRAMINGS[task_of(config)],
        )
        plan = batch_plan(config, len(run.train_data))
        return cls(run, folder, view, plan, annotations_sha256(run.layout), listen)

    @property
    def batches(self) -> _Batches:
        return _Batches(self.view, self.plan, self.run.config.workers or 0, self.run.device.type == "cuda")

    def evaluation(self, truth: AnnotatedImages) -> Callable[[nn.Module], TaskScores]:
        """Scores a model on annotated images; their loader is kept from one call to the next."""
        config, device = self.run.config, self.run.device
        data = task_dataset(config, truth, proposals=proposals_file(config, "val"))
        loader = split_loader(data, config.imgsz, config.train.batch, min(1, config.workers or 0), device)
        score = EVALUATIONS[task_of(config)]

        def evaluate(model: nn.Module) -> TaskScores:
            progress = counted_images(len(data), self.listen)
            return score(model, loader, truth, device=device, amp=config.train.amp, on_images=progress)

        return evaluate

    def save_state(self, state: TrainingState) -> None:
        content = {
            "format": STATE_FORMAT,
            "training": state.to_dict(),
            "config": _flat(self.run.config),
            "data_sha256": self.data_sha256,
            "kept_sha256": kept_sha256(self.run.train_images, self.run.val_images),
            "frozen_sha256": self.run.frozen_sha256,
        }
        save_state(self.folder.state, content)
        self.listen(Saved(self.folder.state))

    def save_epoch(self, state: TrainingState, scores: TaskScores | None, best: bool) -> None:
        card = {"epoch": state.epoch, **_shown_scores(state.history[-1], state.score_names)}
        classes, recipe = self.run.train_images.classes, self.run.config.recipe()
        save_model(self.folder.last, state.average.model, classes, recipe, card)
        if best:
            save_model(self.folder.best, state.average.model, classes, recipe, card)
        self.folder.write_metrics(state.history)
        if scores is not None:
            draw_curves(self.folder.curves, state.history)


def run_training(run: Prepared, folder: RunFolder, listen: Listener, say: Say) -> FinetuneResult:
    """Train from wherever the prepared state is to the end, writing the files of the run as it goes.

    Raises:
        VisionkitError: the loss is no longer finite, an image cannot be read any more, or frozen tensors moved.
    """
    state = run.state
    parts = RunParts.of(run, folder, listen)

    def log_event(event: Event) -> None:
        if isinstance(event, EpochDone):
            folder.add_to_log(epoch_line(event))
        listen(event)

    if state.epoch == state.batch == 0 and not folder.first_batch.exists():
        first = [parts.view[key][0] for key in next(parts.plan.batches(0))[:16]]
        save_picture(folder.first_batch, sample_sheet(first, run.train_images.classes))
    with tensorboard_log(folder.tensorboard, log_event) if run.config.tensorboard else nullcontext(log_event) as told:
        try:
            train(
                state,
                parts.batches,
                run.config.train,
                device=run.device,
                evaluate=parts.evaluation(run.val_images),
                save_state=parts.save_state,
                save_epoch=parts.save_epoch,
                listen=told,
            )
        except DataError as error:  # an image that is damaged within its pixels, or was changed since it was checked
            raise VisionkitError(
                f"{error}; training stopped, its last state is saved: once the image is put right, go on by "
                f"--resume {folder.root}"
            ) from error
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
        scores=_shown_scores(best, state.score_names),
        frozen_sha256=run.frozen_sha256,
        left_out=len(run.left_out),
    )


def _flat(config: Config) -> dict[str, Any]:
    """A configuration by dotted key, in what JSON knows."""
    values = config.model_dump(mode="json")
    inner = values.pop("train")
    return {**values, **{f"train.{name}": value for name, value in inner.items()}}


def _shown_scores(row: dict[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    return {name: row.get(name) for name in names}


def epoch_line(event: EpochDone) -> str:
    """An epoch in a line: `epoch  12/100  2:31  class 1.204  box 0.873  31 images/s  AP 0.4120  AP50 0.7000  best`."""
    minutes, seconds = divmod(round(event.elapsed), 60)
    losses = "  ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
    line = f"epoch {event.epoch:>3}/{event.epochs}  {minutes}:{seconds:02}  {losses}"
    line += f"  {event.images_per_second:.0f} images/s"
    if event.scores is not None:
        first = list(scores_by_name(event.scores).items())[:2]
        line += "".join(f"  {name} {_score(value)}" for name, value in first) + "  best" * event.best
    return line


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
