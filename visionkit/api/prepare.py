"""From settings to everything a training run needs, checked, before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from visionkit.api.datasets import find_dataset, say_split
from visionkit.api.freezing import hold_still, say_rates
from visionkit.api.strategy import settle_by_advice, settle_freeze, settle_weights
from visionkit.api.task_data import TaskDataset, proposals_file, task_images, task_layout, task_of, training_dataset
from visionkit.api.weights import find_model
from visionkit.backbone_transfer import BackboneTransfer, BackboneWeights, imagenet_weights, transfer_backbone
from visionkit.build import DEFAULT_WEIGHTS, LoadedModel, build_model, load_model
from visionkit.bundled.files import bundled_weights
from visionkit.choices import Choices
from visionkit.config import Config
from visionkit.data.augment_values import in_words
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import BatchPlan
from visionkit.data.semantic import median_frequency_weights
from visionkit.engine.checkpoint import load_state
from visionkit.engine.device import choose_device, has_bf16, use_threads
from visionkit.engine.distributed import TorchProcesses, by_first, processes_here
from visionkit.engine.events import DownloadProgress, Listener
from visionkit.engine.run_folder import RunFolder
from visionkit.engine.tensorboard import summary_writer
from visionkit.engine.train import TrainingState, is_finished
from visionkit.errors import CheckpointError, ConfigError, DataError
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.layout import check_same_classes, read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.semantic_map import label_counts
from visionkit.models.forms import OWN_FORM
from visionkit.nn.freeze import Frozen, frozen_sha256
from visionkit.nn.fresh_start import start_behind_backbone
from visionkit.nn.norms import FrozenBatchNorm2d
from visionkit.nn.sync_batch_norm import sync_batch_norms
from visionkit.published.download import published_file
from visionkit.published.weights import IMAGENET_WEIGHTS
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
    source = _source(choices, say, listen) if saved is None else None
    if isinstance(source, LoadedModel):
        choices.say(_adopted(choices, source), "auto")
    # The model decides what is read of data that have objects and masks.
    task = task_of(choices.config())
    layout = task_layout(task, layout, config.train.seed)
    if saved is not None and saved["data_sha256"] != annotations_sha256(layout):
        raise DataError(
            f"the annotations in {layout.root} are not those this run began with, and it would end elsewhere; "
            "restore them, or start a new run"
        )
    train_images, val_images = _read_splits(layout, task, config.skip_bad, say)
    if saved is not None and saved.get("kept_sha256", "") not in ("", kept_sha256(train_images, val_images)):
        raise DataError(
            f"--skip-bad leaves other items of {layout.root} out than when this run began, and it would end elsewhere; "
            "restore the images, or start a new run"
        )

    choices.say({"data": str(layout.path.resolve())}, choices.origin("data"))
    here, cores = processes_here(), os.cpu_count() or 1
    if config.workers is None:
        # A process that has one core to itself reads its images between steps, sooner than another would in its way.
        choices.say({"workers": max(int(here == 1), min(8, cores // here - 1))}, "auto")
    if here > 1 and device.type == "cpu":
        use_threads(max(1, (config.threads or cores) // here))
    else:
        use_threads(config.threads)
    if not config.threads:
        choices.say({"threads": here * torch.get_num_threads()}, "auto")
    return Opened(choices.config(), device, layout, train_images, val_images, source)


def prepare(
    choices: Choices, say: Say, saved: Mapping[str, Any] | None = None, listen: Listener = lambda event: None
) -> Prepared:
    """Check settings against each other and against data and weights, and build what they name.

    Args:
        choices: what the user said; what is decided here is added to it, with origin `auto`.
        saved: the state of an interrupted run, in place of fresh weights.
        listen: told how far a download is.

    Raises:
        UsageError, ConfigError, DataError, CheckpointError: something given is wrong.
        VisionkitError: weights cannot be downloaded.
    """
    opened = open_run(choices, say, saved, listen)
    config, device, layout, source = opened.config, opened.device, opened.layout, opened.source
    train_images, val_images = opened.train_images, opened.val_images
    if config.strategy == "auto":
        source = settle_by_advice(choices, train_images, source, device, say, listen)
        config = choices.config()

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
            transfer_weights(model, train_images.classes, source)
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
    thaws = hold_still(model, config, fresh if saved is None else (), say)
    train_data = training_dataset(config, train_images, config.cache, proposals_file(config, "train"))
    if isinstance(train_data, DetectionDataset) and train_data.without_mask:
        say(f"Masks: {train_data.without_mask} of {train_images.object_count} objects have none and teach boxes alone")
    if isinstance(train_data, DetectionDataset) and train_data.proposal_counts is not None:
        counts = train_data.proposal_counts
        say(f"Proposals: {counts.sum()} for {(counts > 0).sum()} of {len(counts)} training images")
    plan = batch_plan(config, len(train_data))
    state = TrainingState.begin(model, config.train, plan.steps_per_epoch, fresh, thaws)
    say_rates(state, config, say)
    if saved is not None:
        state.restore(saved["training"])
    thaws.seal(model, saved.get("thaw_sha256", ()) if saved is not None else ())
    frozen, sha256 = thaws.rest, frozen_sha256(model, thaws.rest) if thaws.rest else ""
    return Prepared(
        config, layout, train_images, train_data, val_images, device, state, frozen, sha256, transfer, fresh
    )


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


def _source(choices: Choices, say: Say, listen: Listener) -> LoadedModel | BackboneWeights | None:
    """The model whose weights training starts from, or published ones of its backbone, or None for random ones.

    The bundled model is the start wherever nothing else is said, of another kind of model its backbone; but where it
    does not exist, or another backbone is asked for, the start is random, and `choices` say so, so that the run's
    config file means this run for good.
    """
    config = choices.config()
    if config.weights == "scratch":
        return None
    if config.weights == IMAGENET_WEIGHTS:
        return _imagenet(config, say, listen)
    if config.weights != DEFAULT_WEIGHTS:
        return find_model(
            config.weights,
            model=None if choices.origin("model") == "default" else config.model,
            backbone=None if choices.origin("backbone") == "default" else config.backbone,
            auxiliary=config.auxiliary,
            offline=config.offline,
            listen=listen,
            say=say,
        )
    if bundled_weights() is None:
        why = "this version bundles no model"
    else:
        bundled = load_model(DEFAULT_WEIGHTS)
        own = bundled.recipe.backbone
        if choices.origin("weights") != "default" or choices.origin("backbone") == "default" or config.backbone == own:
            return bundled
        why = f"the bundled model is {bundled.name}, without {config.backbone}"
    say(f"Weights: random, because {why}; start from one of yours by --weights FILE")
    choices.say({"weights": "scratch"}, "auto")
    return None


def _imagenet(config: Config, say: Say, listen: Listener) -> BackboneWeights:
    published = imagenet_weights(config.backbone)
    path = published_file(
        f"weights {IMAGENET_WEIGHTS} for {config.backbone}",
        published,
        offline=config.offline,
        say=say,
        progress=lambda done, total: listen(DownloadProgress(done, total)),
    )
    return BackboneWeights(config.backbone, path, published.sha256)


def _adopted(choices: Choices, source: LoadedModel) -> dict[str, Any]:
    """What weights decide where the user said nothing: their architecture and, for the same model, image size."""
    recipe, config = source.recipe, choices.config()
    own: dict[str, Any] = {"model": recipe.model, "backbone": recipe.backbone}
    if choices.origin("model") == "default" or config.model == recipe.model:
        own["imgsz"] = recipe.imgsz
        if choices.origin("backbone") == "default" or config.backbone == recipe.backbone:
            own["form"] = recipe.form
    return {key: value for key, value in own.items() if choices.origin(key) == "default"}


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
    augment = config.augment if isinstance(config.augment, str) else in_words(config.augment)
    say(f"Training data: {run.train_data.cache_words}")
    say(
        f"Training {config.architecture} at {config.imgsz} px on {device} ({half}): {settings.epochs} "
        f"epochs of {len(run.train_data)} {_counted(run)} in batches of {settings.batch * settings.accumulate}, "
        f"{settings.optimizer}, lr {settings.lr:g}, augment {augment}, seed {settings.seed}"
    )


def _counted(run: Prepared) -> str:
    """What the pictures that training draws are: images, or what is cut out of them."""
    return "crops" if task_of(run.config) == "classify" and not run.train_images.whole_images else "images"


def prepare_resumed(
    folder: RunFolder,
    say: Say,
    processes: TorchProcesses | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> Prepared:
    """The run in a folder, exactly as its state says.

    Args:
        processes: who else learns from each batch; the first one reads the state for all.
        elsewhere: settings that change no result, such as `workers`, in place of the run's own.

    Raises:
        CheckpointError: there is no whole state, or it does not hold together.
        DataError: the annotations changed since.
    """
    saved = by_first(processes, lambda: load_state(folder.state, say))
    if saved.get("format") != STATE_FORMAT:
        raise CheckpointError(
            f"{folder.state} has format {saved.get('format')!r}, this version reads {STATE_FORMAT!r}; start a new run"
        )
    choices = Choices()
    choices.say(saved["config"], "file")
    choices.say(elsewhere or {}, "flag")
    prepared = prepare(choices, say, saved)
    held = list(prepared.state.thaws.sha256)
    if prepared.frozen_sha256 != saved["frozen_sha256"] or held != list(saved.get("thaw_sha256", ())):
        raise CheckpointError(f"{folder.state}: its frozen tensors are not those the run began with; start a new run")
    if is_finished(prepared.state, prepared.config.train):
        return prepared
    say_plan(prepared, say)
    state, epochs = prepared.state, prepared.config.train.epochs
    say(f"Resuming {folder.root} after {state.epoch} of {epochs} epochs and {state.batch} batches")
    return prepared


def annotations_sha256(layout: DatasetLayout) -> str:
    """SHA-256 of the annotations a run learns from and is judged by."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for piece in layout.splits[split].content() if split in layout.splits else ():
            digest.update(piece)
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
