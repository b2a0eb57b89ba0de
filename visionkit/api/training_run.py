"""A training run: prepared parts, a folder, the loop between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from visionkit.api.evaluate import counted_images, split_loader
from visionkit.api.guard import Forgetting
from visionkit.api.prepare import STATE_FORMAT, Prepared, Say, annotations_sha256, batch_plan, proposals_sha256
from visionkit.api.run_failures import explained
from visionkit.api.task_data import FRAMINGS, proposals_file, task_dataset, task_of
from visionkit.api.tiled_evaluation import tiled_scores
from visionkit.api.training_samples import augment_settings, growth, sample_sheet
from visionkit.api.training_tiles import training_tiling
from visionkit.build import save_model
from visionkit.config import Config
from visionkit.counted import counted
from visionkit.data.loader import BatchLoader, BatchPlan, training_loader
from visionkit.data.views import TrainingView
from visionkit.engine.checkpoint import save_state
from visionkit.engine.curves import draw_curves
from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.evaluate import EVALUATIONS
from visionkit.engine.evaluate_together import Part, evaluate_together, own_part
from visionkit.engine.events import EpochDone, Event, Listener, Saved, StepSkipped, Stopped, Thawed
from visionkit.engine.interruption import StopRequest
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.tensorboard import tensorboard_log
from visionkit.engine.train import TrainingState, is_finished, train
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.task_scores import TaskScores, scores_by_name
from visionkit.models.assembly import frame_multiple_of
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
        frozen_sha256: of what was frozen to the end, the same before and after; empty where nothing was.
        left_out: items of the data that `skip_bad` left out, each named in the log.
        thawed: what was frozen at first and learnt later, with the SHA-256 that it had until then.
        skipped: steps that were not taken, because their loss or gradient was not finite.
        forgotten: AP of old classes before and after, where a guard was named.
    """

    folder: Path
    best: Path
    last: Path
    epochs: int
    best_epoch: int
    scores: dict[str, float | None]
    frozen_sha256: str
    left_out: int = 0
    thawed: tuple[Thawed, ...] = ()
    skipped: int = 0
    forgotten: Forgetting | None = None

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
            "thawed": [asdict(thawed) for thawed in self.thawed],
            "skipped": self.skipped,
            **({"forgotten": self.forgotten.to_json()} if self.forgotten else {}),
        }


@dataclass(frozen=True, slots=True)
class _Batches:
    """A run's training batches, from anywhere in it."""

    view: TrainingView
    plan: BatchPlan
    workers: int
    pin_memory: bool
    loaders: list[BatchLoader]

    @property
    def batches_per_epoch(self) -> int:
        return self.plan.steps_per_epoch

    def start(self, epoch: int, batch: int) -> BatchLoader:
        step = epoch * self.plan.steps_per_epoch + batch
        loader = training_loader(
            self.view, self.plan, workers=self.workers, start_step=step, pin_memory=self.pin_memory
        )
        self.loaders.append(loader)
        return loader


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the training loop is handed for one run: where its batches come from, and what follows an epoch.

    Args:
        processes: who else learns from each batch; the first of them writes files.
        loaders: all that were made for the run.
    """

    run: Prepared
    folder: RunFolder
    view: TrainingView
    plan: BatchPlan
    data_sha256: str
    proposals_sha256: str
    listen: Listener
    processes: TorchProcesses | None = None
    loaders: list[BatchLoader] = field(default_factory=list)

    @classmethod
    def of(
        cls, run: Prepared, folder: RunFolder, listen: Listener, processes: TorchProcesses | None = None
    ) -> RunParts:
        config = run.config
        view = TrainingView(
            run.train_data,
            augment_settings(config),
            config.imgsz,
            config.train.seed,
            growth(config),
            FRAMINGS[task_of(config)],
        )
        plan = shared_plan(run, processes)
        hashes = annotations_sha256(run.layout), proposals_sha256(config)
        return cls(run, folder, view, plan, *hashes, listen, processes)

    @property
    def batches(self) -> _Batches:
        workers, on_gpu = self.run.config.workers or 0, self.run.device.type == "cuda"
        return _Batches(self.view, self.plan, workers, on_gpu, self.loaders)

    def evaluation(self, truth: AnnotatedImages) -> Callable[[nn.Module], TaskScores]:
        """Scores a model on annotated images; their loader is kept from one call to the next."""
        config, device, processes = self.run.config, self.run.device, self.processes
        task, tiling = task_of(config), training_tiling(config)
        if tiling is not None:
            seen = len(truth.images) if processes is None else len(own_part(len(truth.images), processes))
            count = counted_images(seen, self.listen)
            return lambda model: tiled_scores(
                model, config, truth, tiling, device=device, on_images=count, processes=processes
            )
        data = task_dataset(config, truth, proposals=proposals_file(config, "val"))
        items = range(len(data)) if processes is None else own_part(len(data), processes)
        own = data if processes is None else Part(data, items)
        batch = config.train.batch if processes is None else max(1, config.train.batch // processes.world_size)
        multiple = frame_multiple_of(self.run.state.model)
        loader = split_loader(own, config.imgsz, batch, config.workers, device, multiple)
        self.loaders.append(loader)

        def evaluate(model: nn.Module) -> TaskScores:
            settings: dict[str, Any] = {"device": device, "amp": config.train.amp}
            settings["on_images"] = counted_images(len(items), self.listen)
            if processes is None:
                return EVALUATIONS[task](model, loader, truth, **settings)
            return evaluate_together(task, model, loader, truth, items, processes=processes, **settings)

        return evaluate

    @property
    def _writes(self) -> bool:
        return self.processes is None or self.processes.first

    def save_state(self, state: TrainingState) -> None:
        if not self._writes:
            return
        content = {
            "format": STATE_FORMAT,
            "training": state.to_dict(),
            "config": _flat(self.run.config),
            "data_sha256": self.data_sha256,
            "proposals_sha256": self.proposals_sha256,
            "kept_sha256": self.run.data_kept_sha256,
            "frozen_sha256": self.run.frozen_sha256,
            "thaw_sha256": list(state.thaws.sha256),
            "fresh": list(self.run.fresh),
            "processes": 1 if self.processes is None else self.processes.world_size,
            "kept_classes": None if self.run.kept is None else self.run.kept.to_state(),
            "guard": None if self.run.guard is None else self.run.guard.to_state(),
        }
        save_state(self.folder.state, content)
        self.listen(Saved(self.folder.state))

    def save_epoch(self, state: TrainingState, scores: TaskScores | None, best: bool) -> None:
        if not self._writes:
            return
        card = {"epoch": state.epoch, **_shown_scores(state.history[-1], state.score_names)}
        classes, recipe = self.run.train_images.classes, self.run.config.recipe()
        save_model(self.folder.last, state.average.model, classes, recipe, card)
        if best:
            save_model(self.folder.best, state.average.model, classes, recipe, card)
        self.folder.write_metrics(state.history)
        if scores is not None:
            draw_curves(self.folder.curves, state.history)


def shared_plan(run: Prepared, processes: TorchProcesses | None) -> BatchPlan:
    """Which images make which batch of a run, and which of them are this process's.

    Raises:
        UsageError: a batch cannot be shared evenly by so many processes.
    """
    plan = batch_plan(run.config, len(run.train_data))
    return plan if processes is None else replace(plan, rank=processes.rank, world_size=processes.world_size)


def run_training(
    run: Prepared,
    folder: RunFolder,
    listen: Listener,
    say: Say,
    *,
    stop: StopRequest | None = None,
    processes: TorchProcesses | None = None,
) -> FinetuneResult:
    """Train from wherever the prepared state is to the end, writing the files of the run as it goes.

    Args:
        stop: asks the run to end.
        processes: who else learns from each batch, in the same call; only the first writes.

    Raises:
        VisionkitError: loss, gradient or weights are no longer finite, an image cannot be read any more, memory or disk
            is full, a process that prepares images was killed, or frozen tensors moved.
        InterruptedRunError: `stop` asked for it, and the state is saved.
    """
    state, writes = run.state, processes is None or processes.first
    parts = RunParts.of(run, folder, listen, processes)

    def tell(event: Event) -> None:
        if isinstance(event, EpochDone):
            say(epoch_line(event))
        elif isinstance(event, Stopped):
            say(f"Stopped after epoch {event.epoch}: no better {event.metric} since epoch {event.best_epoch}")
        elif isinstance(event, Thawed) or (isinstance(event, StepSkipped) and event.in_a_row == 1):
            say(event.sentence())
        listen(event)

    if writes and state.epoch == state.batch == 0 and not folder.first_batch.exists():
        first = [parts.view[key][0] for key in next(parts.plan.batches(0))[:16]]
        save_picture(folder.first_batch, sample_sheet(first, run.train_images.classes))
    if is_finished(state, run.config.train):
        epochs = run.config.train.epochs
        say(f"{folder.root} is finished, after {state.epoch} of {counted(epochs, 'epoch')}: nothing is left to do")
    else:
        watched = tensorboard_log(folder.tensorboard, tell) if run.config.tensorboard and writes else None
        with watched or nullcontext(tell) as told, explained(run, folder, parts.loaders, processes):
            train(
                state,
                parts.batches,
                run.config.train,
                device=run.device,
                evaluate=parts.evaluation(run.val_images),
                save_state=parts.save_state,
                save_epoch=parts.save_epoch,
                listen=told,
                stop=stop,
                processes=processes,
            )
    for line in state.thaws.prove_rest((state.model, state.average.model)):
        say(line)
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
        thawed=state.thaws.thawed,
        skipped=state.all_skipped,
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
