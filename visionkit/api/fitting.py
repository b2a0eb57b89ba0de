"""A run of a model that is fitted in one pass over the images, as rcnn: from prepared parts to the files of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from visionkit.api.evaluate import split_loader
from visionkit.api.prepare import Prepared, Say
from visionkit.api.task_data import is_fitted, proposals_file, task_dataset, training_dataset
from visionkit.api.training_run import FinetuneResult
from visionkit.build import save_model
from visionkit.choices import Choices
from visionkit.counted import counted
from visionkit.engine.device import has_bf16, precision
from visionkit.engine.evaluate import EVALUATIONS
from visionkit.engine.events import ImagesDone, Listener
from visionkit.engine.run_folder import RunFolder
from visionkit.errors import ConfigError, UsageError
from visionkit.metrics.task_scores import scores_by_name
from visionkit.models.assembly import loss_names_of, unknown_loss
from visionkit.models.rcnn import Rcnn
from visionkit.proposals.segments import scikit_image

OF_EPOCHS = {
    "minutes": "--minutes",
    "train.epochs": "--epochs",
    "train.lr": "--lr",
    "train.optimizer": "--optimizer",
    "train.patience": "--patience",
    "augment": "--augment",
    "freeze": "--freeze",
    "strategy": "--strategy",
    "unfreeze": "--unfreeze",
    "keep_classes": "--keep-classes",
    "train.lr_backbone": "--lr-backbone",
    "train.layer_decay": "--set train.layer_decay",
    "train.groups": "--set train.groups",
    "train.loss_weights": "--set train.loss_weights",
    "train.loaded_rate": "--set train.loaded_rate",
    "tensorboard": "--tensorboard",
}
"""Settings, and their flags, that mean something only where a model learns epoch by epoch."""

PHASES = {
    "reading": "reading images",
    "proposals": "selective search",
    "features": "features",
    "svm": "SVMs",
    "boxes": "box regressors",
    "probabilities": "probabilities",
}
"""What the phases of a fitting are called, in their order."""


def settle_fitting(run: Prepared, choices: Choices) -> Prepared:
    """A prepared run as fitting wants it: few images where so many were asked for, one at a time. Other runs stay as
    they are.

    Args:
        choices: `train.batch` is added to it, with origin `auto`, where no one said it.

    Raises:
        UsageError: something was asked for that has no meaning; the backbone's weights are random; or scikit-image is
            needed and not installed.
        ConfigError: `train.loss_weights` of a model that learns epoch by epoch names a loss that it does not have.
    """
    config = run.config
    if not is_fitted(config):
        if config.max_images:
            raise UsageError(
                f"model {config.model} learns from all images, --max-images is for one that is fitted in a single "
                "pass, rcnn; leave it out"
            )
        if problem := unknown_loss(config.train.loss_weights, loss_names_of(run.state.model)):
            raise ConfigError(problem)
        return run
    said = [flag for key, flag in OF_EPOCHS.items() if choices.origin(key) in ("flag", "set")]
    if said:
        raise UsageError(
            f"model {config.model} is fitted in a single pass over the images and has no use for {', '.join(said)}; "
            f"leave {'it' if len(said) == 1 else 'them'} out"
        )
    if run.transfer is None and not config.force:
        raise UsageError(
            f"model {config.model} learns no features, and those of a random backbone tell little; give trained "
            "weights by --weights FILE, default or imagenet, or --force"
        )
    if not config.proposals:
        scikit_image()
    if choices.origin("train.batch") == "default":
        choices.say({"train.batch": 1}, "auto")
    run = replace(run, config=choices.config())
    if not config.max_images:
        return run
    images = run.train_images.spread(config.max_images)
    data = training_dataset(config, images, config.cache, proposals_file(config, "train"))
    return replace(run, train_images=images, train_data=data)


def say_fitting_plan(run: Prepared, say: Say) -> None:
    """What will be fitted, on what, in a line."""
    config, device, model = run.config, run.device, run.state.model
    assert isinstance(model, Rcnn)
    half = "bf16" if config.train.amp and has_bf16(device) else "fp32"
    source = f"out of {config.proposals}" if config.proposals else "by selective search"
    say(
        f"Fitting {config.architecture} at {config.imgsz} px on {device} ({half}): on "
        f"{counted(len(run.train_data), 'image')}, proposals {source}, regions warped to {model.warp} px"
    )


def run_fitting(run: Prepared, folder: RunFolder, listen: Listener, say: Say) -> FinetuneResult:
    """Fit the prepared model, judge it on the val split, and write the files of the run.

    Raises:
        DataError: an image cannot be read any more.
    """
    config, device, model = run.config, run.device, run.state.model
    assert isinstance(model, Rcnn)
    batches = split_loader(run.train_data, config.imgsz, config.train.batch, config.workers, device)
    with precision(device, config.train.amp):
        fitting = model.fit(
            (batch.to(device) for batch in batches), on_images=_told("fitting on", len(run.train_data), listen)
        )
    say(
        f"Fitted on {counted(fitting.images, 'image')}: {counted(fitting.proposals, 'proposal')}, "
        f"{counted(fitting.objects, 'object')}"
    )
    times = (f"{words} {fitting.seconds[phase]:.1f} s" for phase, words in PHASES.items())
    say(f"Took {', '.join(times)}: {sum(fitting.seconds.values()) / fitting.images:.2f} s an image")

    data = task_dataset(config, run.val_images, proposals=proposals_file(config, "val"))
    batches = split_loader(data, config.imgsz, config.train.batch, config.workers, device)
    on_images = _told("evaluating", len(data), listen)
    found = EVALUATIONS["detect"](
        model, batches, run.val_images, device=device, amp=config.train.amp, on_images=on_images
    )
    scores = scores_by_name(found)
    folder.write_metrics([{**{f"seconds_{phase}": fitting.seconds[phase] for phase in PHASES}, **scores}])
    for path in (folder.last, folder.best):
        save_model(path, model, run.train_images.classes, config.recipe(), scores)
    return FinetuneResult(
        folder=folder.root,
        best=folder.best,
        last=folder.last,
        epochs=0,
        best_epoch=0,
        scores=scores,
        frozen_sha256="",
        left_out=len(run.left_out),
    )


def _told(what: str, total: int, listen: Listener) -> Callable[[int], None]:
    """Tells `listen` of every few images that are through how many that makes."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        listen(ImagesDone(what, done, total))

    return count
