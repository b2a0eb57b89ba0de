"""From settings to everything a training run needs, checked, before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.freezing import hold_still, say_rates
from visionkit.api.guard import Guard, open_guard
from visionkit.api.kept_classes import KeptClasses, keep_classes
from visionkit.api.starting_weights import adopted_settings, starting_weights
from visionkit.api.strategy import settle_by_advice, settle_freeze, settle_weights
from visionkit.api.task_data import TaskDataset, proposals_file, task_images, task_layout, task_of, training_dataset
from visionkit.api.training_samples import augment_settings
from visionkit.api.waived import waives_errors, with_codes
from visionkit.backbone_transfer import BackboneTransfer, BackboneWeights, transfer_backbone
from visionkit.build import LoadedModel, build_model
from visionkit.choices import Choices
from visionkit.config import Config
from visionkit.counted import counted
from visionkit.data.augment_values import in_words
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import BatchPlan
from visionkit.data.memory import processes_here
from visionkit.data.semantic import median_frequency_weights
from visionkit.data.tiles import TiledDataset
from visionkit.engine.device import choose_device, has_bf16, own_threads, use_threads
from visionkit.engine.distributed import TorchProcesses
from visionkit.engine.events import Listener
from visionkit.engine.tensorboard import summary_writer
from visionkit.engine.train import TrainingState
from visionkit.errors import ConfigError, DataError
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.folds import Fold, with_fold
from visionkit.formats.layout import check_same_classes, read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import label_counts
from visionkit.models.forms import OWN_FORM
from visionkit.nn.freeze import Frozen, frozen_sha256
from visionkit.nn.fresh_start import start_behind_backbone
from visionkit.nn.norms import FrozenBatchNorm2d
from visionkit.nn.sync_batch_norm import sync_batch_norms
from visionkit.transfer import Transfer, transfer_weights
from visionkit.types import Task

Say = Callable[[str], None]

STATE_FORMAT = "visionkit.state/1"


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs, checked; nothing is written yet.

    Args:
        train_data: what reads `train_images`, once for the whole process, so that what it keeps in memory is read once.
        state: before step 1, or where an interrupted run was.
        frozen: to the end; None where nothing is.
        frozen_sha256: of these tensors before step 1; empty where nothing is frozen.
        transfer: what the weights came to; None where they are random, and where a run goes on.
        fresh: names of the tensors that started random.
        data_kept_sha256: of what was read of the data, see `kept_sha256`.
        kept: what the run learns with so as not to forget classes of its weights; None where it keeps none.
        guard: where it is told what it forgets; None where nowhere.
    """

    config: Config
    layout: DatasetLayout
    train_images: AnnotatedImages
    train_data: TaskDataset
    val_images: AnnotatedImages
    device: torch.device
    state: TrainingState
    frozen: Frozen | None
    frozen_sha256: str
    transfer: Transfer | BackboneTransfer | None
    fresh: tuple[str, ...] = ()
    data_kept_sha256: str = ""
    kept: KeptClasses | None = None
    guard: Guard | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each item of the data that `skip_bad` left out."""
        # Once each: where val is held out of train, both name all that was left out before.
        return tuple(dict.fromkeys(self.train_images.left_out + self.val_images.left_out))


@dataclass(frozen=True)
class Opened:
    """What a run is about, read and checked.

    Args:
        source: the weights it starts from; None for random ones, and where a run goes on.
    """

    config: Config
    device: torch.device
    layout: DatasetLayout
    train_images: AnnotatedImages
    val_images: AnnotatedImages
    source: LoadedModel | BackboneWeights | None


def open_run(
    choices: Choices, say: Say, saved: Mapping[str, Any] | None = None, listen: Listener = lambda event: None
) -> Opened:
    """Check settings against each other and read the data and the weights that they name.

    Args and raises as `prepare`.
    """
    config = choices.config()
    if config.tensorboard:
        summary_writer()
    device = choose_device(config.device)
    layout = find_dataset(None if choices.origin("data") == "default" else config.data, say, config.train.seed)
    if saved is None:
        settle_weights(choices)
    source = starting_weights(choices, say, listen) if saved is None else None
    if isinstance(source, LoadedModel):
        choices.say(adopted_settings(choices, source), "auto")
    # The model decides what is read of data that have objects and masks.
    task = task_of(choices.config())
    layout = task_layout(task, layout, config.train.seed)
    if config.fold:
        layout = with_fold(layout, Fold.of(config.fold), config.train.seed)
        say(f"Fold {config.fold}: val is that part of train and val together, dealt out by seed {config.train.seed}")
    if saved is not None and saved["data_sha256"] != annotations_sha256(layout):
        raise DataError(
            f"the annotations in {layout.root} are not those this run began with, and it would end elsewhere; "
            "restore them, or start a new run"
        )
    if saved is not None and saved.get("proposals_sha256", "") not in ("", proposals_sha256(config)):
        raise DataError(
            f"the proposals in {config.proposals} are not those this run began with, and it would end elsewhere; "
            "restore them, or start a new run"
        )
    skip_bad = config.skip_bad or waives_errors(layout, config.waive, say)
    try:
        train_images, val_images = _read_splits(layout, task, skip_bad, say)
    except DataError as error:
        raise (error if skip_bad else with_codes(error, layout)) from error
    if saved is not None and saved.get("kept_sha256", "") not in ("", kept_sha256(train_images, val_images)):
        raise DataError(
            f"--skip-bad leaves other items of {layout.root} out than when this run began, and it would end elsewhere; "
            "restore the images, or start a new run"
        )

    choices.say({"data": str(layout.path.resolve())}, choices.origin("data"))
    for name in ("guard", "proposals"):
        if place := getattr(config, name):
            choices.say({name: str(Path(place).resolve())}, choices.origin(name))
    here, cores = processes_here(), os.cpu_count() or 1
    if config.workers is None:
        # A process that has one core to itself reads its images between steps, sooner than another would in its way.
        choices.say({"workers": max(int(here == 1), min(8, cores // here - 1))}, "auto")
    use_threads(own_threads(config.threads, device, here))
    if not config.threads:
        choices.say({"threads": here * torch.get_num_threads()}, "auto")
    return Opened(choices.config(), device, layout, train_images, val_images, source)


def prepare(
    choices: Choices,
    say: Say,
    saved: Mapping[str, Any] | None = None,
    listen: Listener = lambda event: None,
    processes: TorchProcesses | None = None,
) -> Prepared:
    """Check settings against each other and against data and weights, and build what they name.

    Args:
        choices: what the user said; what is decided here is added to it, with origin `auto`.
        saved: the state of an interrupted run, in place of fresh weights.
        listen: told how far a download is.
        processes: who else learns from each batch, in the same call.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError: something given is wrong.
        VisionkitError: weights cannot be downloaded.
    """
    opened = open_run(choices, say, saved, listen)
    config, device, layout, source = opened.config, opened.device, opened.layout, opened.source
    train_images, val_images = opened.train_images, opened.val_images
    if config.strategy == "auto":
        source = settle_by_advice(choices, train_images, source, device, say, listen, processes)
        config = choices.config()
    guard = open_guard(config, source, device, listen, None if saved is None else saved.get("guard"))
    kept = None
    if config.keep_classes:
        kept = (
            keep_classes(config, source, train_images, device, say, listen)
            if saved is None
            else KeptClasses.from_state(saved["kept_classes"])
        )
        train_images, val_images = kept.learnt(train_images), kept.judged(val_images)

    model = build_model(config, train_images.classes)
    if config.train.sync_batchnorm:
        sync_batch_norms(model)
    start_behind_backbone(model, config.fresh_init, config.train.seed)
    if source is None and saved is None:
        _require_learnable_norms(model, config)
    if config.class_weights == "median-frequency":
        if not model.weighs_classes:
            raise ConfigError(f"model {config.model} does not weigh classes; leave class_weights at none")
        weights = median_frequency_weights(label_counts(train_images))
        model.get_buffer("class_weights").copy_(torch.from_numpy(weights))
    fresh: tuple[str, ...] = tuple(model.state_dict() if saved is None else saved.get("fresh", ()))
    transfer: Transfer | BackboneTransfer | None = None
    if source is not None:
        transfer = (
            transfer_weights(model, train_images.classes, source, config)
            if isinstance(source, LoadedModel)
            else transfer_backbone(model, source)
        )
        fresh = transfer.reinitialised
        for line in transfer.lines():
            say(line)
    if saved is None:
        settle_freeze(choices, model, fresh)
        config = choices.config()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    done = 0 if saved is None else saved["training"].get("thawed", 0)
    thaws = hold_still(model, config, fresh if saved is None else (), say, done)
    train_data = training_dataset(config, train_images, config.cache, proposals_file(config, "train"))
    _say_what_there_is_to_learn(train_data, train_images, say)
    plan = batch_plan(config, len(train_data))
    state = TrainingState.begin(model, config.train, plan.steps_per_epoch, fresh, thaws)
    if saved is not None:
        state.restore(saved["training"])
    # Behind what is restored: the table counts what is held still now.
    say_rates(state, config, say)
    thaws.seal(model, saved.get("thaw_sha256", ()) if saved is not None else ())
    for thawed in thaws.thawed:
        say(thawed.sentence())
    frozen, sha256 = thaws.rest, frozen_sha256(model, thaws.rest) if thaws.rest else ""
    return Prepared(
        config,
        layout,
        train_images,
        train_data,
        val_images,
        device,
        state,
        frozen,
        sha256,
        transfer,
        fresh,
        data_kept_sha256=kept_sha256(opened.train_images, opened.val_images),
        kept=kept,
        guard=guard,
    )


def _say_what_there_is_to_learn(data: TaskDataset, images: AnnotatedImages, say: Say) -> None:
    """Of a detector's training images: how many objects lack a mask that is learnt, how many proposals there are."""
    data = data.images if isinstance(data, TiledDataset) else data
    if not isinstance(data, DetectionDataset):
        return
    if data.without_mask:
        say(f"Masks: {data.without_mask} of {images.object_count} objects have none and teach boxes alone")
    if data.proposal_counts is not None:
        counts = data.proposal_counts
        say(f"Proposals: {counts.sum()} for {(counts > 0).sum()} of {counted(len(counts), 'training image')}")


def _read_splits(
    layout: DatasetLayout, task: Task, skip_bad: bool, say: Say
) -> tuple[AnnotatedImages, AnnotatedImages]:
    if "train" not in layout.splits:
        there = ", ".join(layout.splits)
        raise DataError(f"{layout.path} has no train split, training needs one, it has {there}; add it or name another")
    train, val = (task_images(task, read_split(layout, name, skip_bad=skip_bad)) for name in ("train", "val"))
    splits = train, val
    check_same_classes(dict(zip(("train", "val"), splits, strict=True)))
    for name, images in zip(("train", "val"), splits, strict=True):
        say_split(name, images, say)
    table = splits[0].classes
    named = ", ".join(f"{name} ({i})" for i, name in zip(table.category_ids, table.names, strict=True))
    say(f"Classes (category id): {named}")
    return splits


def _require_learnable_norms(model: nn.Module, config: Config) -> None:
    """Raises ConfigError where random weights would have to learn under norms that do not measure them."""
    own = config.form != OWN_FORM and config.norm == "own"
    if own and any(isinstance(module, FrozenBatchNorm2d) for module in model.modules()):
        raise ConfigError(
            f"form {config.form} has frozen norms, as its published weights want them, and random weights cannot learn "
            f"under these; give --weights torchvision:{config.form}, or norm batch by --set norm=batch"
        )


def say_plan(run: Prepared, say: Say) -> None:
    """What will be trained, for how long and with which settings, in a line."""
    config, device = run.config, run.device
    settings = config.train
    half = "bf16" if settings.amp and has_bf16(device) else "fp32"
    say(f"Training data: {run.train_data.cache_words}")
    say(
        f"Training {config.architecture} at {config.imgsz} px on {device} ({half}): "
        f"{counted(settings.epochs, 'epoch')} of {counted(len(run.train_data), _picture(run))} in batches of "
        f"{settings.batch * settings.accumulate}, {settings.optimizer}, lr {settings.lr:g}, "
        f"augment {in_words(augment_settings(config))}, seed {settings.seed}"
    )


def _picture(run: Prepared) -> str:
    """What a picture that training draws is: an image, or what is cut out of one."""
    return "crop" if task_of(run.config) == "classify" and not run.train_images.whole_images else "image"


def annotations_sha256(layout: DatasetLayout) -> str:
    """SHA-256 of the annotations a run learns from and is judged by."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for piece in layout.splits[split].content() if split in layout.splits else ():
            digest.update(piece)
    return digest.hexdigest()


def proposals_sha256(config: Config) -> str:
    """SHA-256 of the proposals that a run learns from and is judged on; empty where it names none.

    Raises:
        DataError: their folder has none for a split, or they cannot be read.
    """
    if not config.proposals:
        return ""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        place = proposals_file(config, split)
        assert place is not None
        try:
            with place.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{place} cannot be read ({error.strerror}); check its permissions") from error
    return digest.hexdigest()


def kept_sha256(*splits: AnnotatedImages) -> str:
    """SHA-256 of the ids of all images and annotations that were read; it tells what `skip_bad` left out."""
    digest = hashlib.sha256()
    for split in splits:
        ids = [[image.id, *(annotation.id for annotation in image.annotations)] for image in split.images]
        digest.update(json.dumps(ids).encode())
    return digest.hexdigest()


def batch_plan(config: Config, images: int) -> BatchPlan:
    """Which of `images` images make which batch of a run."""
    return BatchPlan(images, config.train.batch, config.train.epochs, config.train.seed)
