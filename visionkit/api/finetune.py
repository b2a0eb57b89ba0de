"""Train a detector on a dataset: the main job, from words to weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.evaluate import detections_on, split_loader
from visionkit.build import LoadedModel, build_model, load_model, save_model, transfer_weights
from visionkit.config import Choices, Config, describe, parse_assignments, read_config_file
from visionkit.data.augment import AugmentSettings, preset
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import BatchLoader, BatchPlan, training_loader
from visionkit.data.views import TrainingView
from visionkit.engine.checkpoint import load_state, save_state
from visionkit.engine.curves import draw_curves
from visionkit.engine.device import choose_device, has_bf16
from visionkit.engine.events import EpochDone, Event, Listener, Saved
from visionkit.engine.run_folder import RunFolder, numbered_folder
from visionkit.engine.train import TrainingState, train
from visionkit.errors import CheckpointError, DataError, UsageError
from visionkit.formats.layout import CocoLayout, check_same_classes, read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import CocoScores, coco_scores
from visionkit.nn.freeze import Frozen, freeze, frozen_sha256, prove_frozen, select_units
from visionkit.types import Unit

Say = Callable[[str], None]


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


def finetune(
    data: str | Path | None = None,
    *,
    freeze: str | int | Sequence[str | int] = (),
    config: str | Path | None = None,
    set: Sequence[str] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    dry_run: bool = False,
    listen: Listener = lambda event: None,
    say: Say = lambda line: None,
    **flags: Any,
) -> FinetuneResult | None:
    """Train a detector on a dataset with a train and a val split.

    Args:
        data: dataset folder; None for the one in the current folder or, where there is none, the rendered sample.
        freeze: units to hold still: 10, "backbone", "0-4", ...; one or several.
        config: YAML file of settings.
        set: settings as KEY=VALUE.
        out: folder of the run; by default a new one under runs/finetune.
        resume: folder of a run that was interrupted; it goes on where it was, and ends as if it never had been.
        dry_run: check and print everything, train nothing.
        listen: told what happens, event by event.
        say: told, line by line, what a user should read.
        flags: any other setting by its name on the command line: model, backbone, weights, force, epochs, batch, imgsz,
            lr, optimizer, patience, seed, augment, device, threads, workers, amp.

    Returns:
        The result, or None after a dry run.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError: something given is wrong; nothing was done.
        VisionkitError: training failed on its way; the last state is saved.
    """
    if resume is not None:
        if flags or freeze or config or set or out or data:
            raise UsageError("--resume goes on with the run's own settings and takes no other; leave them out")
        return _run(_resumed(Path(resume), say), listen, say)
    choices = _choices(data, freeze, config, set, flags)
    prepared = _prepared(choices, None if data is None else str(data), say)
    if dry_run:
        say("Dry run: nothing was trained and nothing written")
        return None
    if out is not None:
        folder = RunFolder.create(Path(out))
    else:
        folder = RunFolder(numbered_folder(Path("runs") / "finetune", prepared.layout.root.resolve().name))
    folder.config.write_text(describe(prepared.config, choices), encoding="utf-8")
    return _run(replace(prepared, folder=folder), listen, say)


# Flags whose setting lies in the group `train`.
_TRAIN_FLAGS = ("epochs", "batch", "lr", "optimizer", "patience", "seed", "amp")
_FLAGS = (
    "model", "backbone", "weights", "force", "imgsz", "augment", "device", "threads", "workers", *_TRAIN_FLAGS,
)  # fmt: skip


def _choices(
    data: str | Path | None,
    freeze_specs: str | int | Sequence[str | int],
    config: str | Path | None,
    assignments: Sequence[str],
    flags: dict[str, Any],
) -> Choices:
    choices = Choices()
    if config is not None:
        choices.say(read_config_file(Path(config)), "file")
    choices.say(parse_assignments(assignments), "set")
    unknown = [name for name in flags if name not in _FLAGS]
    if unknown:
        raise UsageError(f"finetune has no option {unknown[0]!r}; the options are {', '.join(sorted(_FLAGS))}")
    said = {f"train.{k}" if k in _TRAIN_FLAGS else k: v for k, v in flags.items() if v is not None}
    specs = [freeze_specs] if isinstance(freeze_specs, str | int) else freeze_specs
    if specs:
        said["freeze"] = [str(spec) for spec in specs]
    if data is not None:
        said["data"] = str(data)
    choices.say(said, "flag")
    return choices


@dataclass(frozen=True)
class _Prepared:
    """Everything a run needs, checked, before anything is written."""

    config: Config
    layout: CocoLayout
    train_images: AnnotatedImages
    val_images: AnnotatedImages
    device: torch.device
    state: TrainingState
    frozen: Frozen | None
    frozen_sha256: str
    folder: RunFolder | None = None


def _prepared(choices: Choices, data: str | None, say: Say, saved: dict[str, Any] | None = None) -> _Prepared:
    config = choices.config()
    device = choose_device(config.device)
    layout = find_dataset(config.data if choices.origin("data") != "default" else data, say)
    train_images, val_images = _read_splits(layout, say)

    source = _source(config, say)
    if source is not None:
        choices.say(_adopted(choices, source), "auto")
    choices.say({"data": str(layout.root.resolve())}, choices.origin("data"))
    if config.workers is None:
        choices.say({"workers": max(1, min(8, (os.cpu_count() or 1) - 1))}, "auto")
    config = choices.config()
    if config.threads:
        torch.set_num_threads(config.threads)

    model = build_model(config, train_images.classes)
    if source is not None:
        say(transfer_weights(model, train_images.classes, source).sentence())
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen = _frozen(model, model.units, config, trained=source is not None or saved is not None, say=say)
    plan = _plan(config, len(train_images.images))
    state = TrainingState.begin(model, config.train, plan.steps_per_epoch)
    if saved is not None:
        state.restore(saved["training"])
    sha256 = frozen_sha256(model, frozen) if frozen else ""
    _say_plan(config, train_images, device, say)
    return _Prepared(config, layout, train_images, val_images, device, state, frozen, sha256)


def _read_splits(layout: CocoLayout, say: Say) -> tuple[AnnotatedImages, AnnotatedImages]:
    for split in ("train", "val"):
        if split not in layout.splits:
            raise DataError(
                f"{layout.root} has no {split} split, training needs train and val; add annotations/{split}.json"
            )
    splits = read_split(layout, "train"), read_split(layout, "val")
    check_same_classes(dict(zip(("train", "val"), splits, strict=True)))
    for name, images in zip(("train", "val"), splits, strict=True):
        say_split(name, images, say)
    say(
        "Classes: "
        + ", ".join(
            f"{name} ({i})" for i, name in zip(splits[0].classes.category_ids, splits[0].classes.names, strict=True)
        )
    )
    return splits


def _source(config: Config, say: Say) -> LoadedModel | None:
    """The model whose weights training starts from, or None for random ones."""
    if config.weights == "default":
        say("Weights: random, because this version bundles no model; start from one of yours by --weights FILE")
        return None
    if config.weights == "scratch":
        return None
    return load_model(Path(config.weights))


def _adopted(choices: Choices, source: LoadedModel) -> dict[str, Any]:
    """What a weights file decides where the user said nothing: its architecture and image size."""
    recipe = source.recipe
    own = {"model": recipe.model, "backbone": recipe.backbone, "imgsz": recipe.imgsz}
    return {key: value for key, value in own.items() if choices.origin(key) == "default"}


def _frozen(model: nn.Module, units: Sequence[Unit], config: Config, *, trained: bool, say: Say) -> Frozen | None:
    numbers = select_units(units, config.freeze)
    if not numbers:
        return None
    if not trained and not config.force:
        raise UsageError(
            "freezing randomly initialised weights would keep noise in the network; "
            "give trained weights by --weights FILE, or --force"
        )
    frozen = freeze(model, units, numbers)
    say(frozen.sentence())
    return frozen


def _say_plan(config: Config, images: AnnotatedImages, device: torch.device, say: Say) -> None:
    settings = config.train
    half = "bf16" if settings.amp and has_bf16(device) else "fp32"
    say(
        f"Training {config.model}/{config.backbone} at {config.imgsz} px on {device} ({half}): {settings.epochs} "
        f"epochs of {len(images.images)} images in batches of {settings.batch * settings.accumulate}, "
        f"{settings.optimizer}, lr {settings.lr:g}, augment {config.augment}, seed {settings.seed}"
    )


def _resumed(root: Path, say: Say) -> _Prepared:
    """The run in a folder, exactly as its state says."""
    folder = RunFolder(root)
    saved = load_state(folder.state)
    choices = Choices()
    choices.say(saved["config"], "file")
    prepared = _prepared(choices, None, say, saved)
    if saved["data_sha256"] != _data_sha256(prepared.layout):
        raise DataError(
            f"the annotations in {prepared.layout.root} are not those this run began with, and it would end "
            "elsewhere; restore them, or start a new run"
        )
    if prepared.frozen_sha256 != saved["frozen_sha256"]:
        raise CheckpointError(f"{folder.state}: its frozen tensors are not those the run began with; start a new run")
    done = prepared.state.epoch
    say(f"Resuming {root} after {done} of {prepared.config.train.epochs} epochs and {prepared.state.batch} batches")
    return replace(prepared, folder=folder)


def _data_sha256(layout: CocoLayout) -> str:
    digest = hashlib.sha256()
    for split in ("train", "val"):
        digest.update(layout.splits[split].annotations.read_bytes())
    return digest.hexdigest()


def _plan(config: Config, images: int) -> BatchPlan:
    return BatchPlan(images, config.train.batch, config.train.epochs, config.train.seed)


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
    """The preset, with mosaics off in the last share of epochs that the recipe names."""
    return replace(preset(config.augment), close_epochs=round(config.close_mosaic * config.train.epochs))


def _run(run: _Prepared, listen: Listener, say: Say) -> FinetuneResult:
    config, folder, device, state = run.config, run.folder, run.device, run.state
    assert folder is not None
    settings = config.train
    classes = run.train_images.classes
    recipe = config.recipe()
    pin = device.type == "cuda"

    view = TrainingView(
        DetectionDataset(run.train_images), augment_settings(config), config.imgsz, settings.seed, settings.epochs
    )
    plan = _plan(config, len(run.train_images.images))
    val_loader = split_loader(run.val_images, config.imgsz, settings.batch, min(1, config.workers or 0), device)
    data_sha256 = _data_sha256(run.layout)

    def evaluate(model: nn.Module) -> CocoScores:
        rows = detections_on(model, val_loader, run.val_images, classes, device, settings.amp, listen)
        return coco_scores(run.val_images, rows)

    def save_run_state(state: TrainingState) -> None:
        content = {
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

    def log(event: Event) -> None:
        if isinstance(event, EpochDone):
            folder.add_to_log(epoch_line(event))
        listen(event)

    train(
        state,
        _Batches(view, plan, config.workers or 0, pin),
        settings,
        device=device,
        evaluate=evaluate,
        save_state=save_run_state,
        save_epoch=save_epoch,
        listen=log,
    )
    if run.frozen:
        for model in (state.model, state.average.model):
            prove_frozen(run.frozen_sha256, frozen_sha256(model, run.frozen))
        say(f"Frozen tensors unchanged: SHA-256 {run.frozen_sha256} before and after")
    best = state.best or {}
    return FinetuneResult(
        folder=folder.root,
        best=folder.best,
        last=folder.last,
        epochs=state.epoch,
        best_epoch=best.get("epoch", 0),
        scores=_shown_scores(best),
        frozen_sha256=run.frozen_sha256,
    )


def _flat(config: Config) -> dict[str, Any]:
    """A configuration by dotted key, in what JSON knows."""
    values = config.model_dump(mode="json")
    inner = values.pop("train")
    return {**values, **{f"train.{name}": value for name, value in inner.items()}}


def _shown_scores(row: dict[str, Any]) -> dict[str, float | None]:
    return {name: row.get(name) for name in ("AP", "AP50", "AP75", "AR100", "mean_iou_matched")}


def epoch_line(event: EpochDone) -> str:
    """An epoch in a line: `epoch  12/100  class 1.204  box 0.873  31 images/s  AP 0.4120  AP50 0.7000  best`."""
    losses = "  ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
    line = f"epoch {event.epoch:>3}/{event.epochs}  {losses}  {event.images_per_second:.0f} images/s"
    if event.scores is not None:
        line += f"  AP {_score(event.scores.AP)}  AP50 {_score(event.scores.AP50)}{'  best' if event.best else ''}"
    return line


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
