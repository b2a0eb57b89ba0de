"""The advice on a run's own images, seen by the backbone that it would start from."""

from __future__ import annotations

import torch

from visionkit.advice.decision import Advice, decide
from visionkit.advice.look import look
from visionkit.advice.size import size_of
from visionkit.api.evaluate import split_loader
from visionkit.api.task_data import is_fitted, task_of
from visionkit.backbone_transfer import BackboneWeights, transfer_backbone
from visionkit.build import LoadedModel, Model, build_model
from visionkit.config import Config
from visionkit.data.dataset import DetectionDataset
from visionkit.engine.events import ImagesDone, Listener
from visionkit.errors import UsageError
from visionkit.formats.records import AnnotatedImages
from visionkit.models.assembly import levels_of

MOST_IMAGES = 256


def measured_advice(
    config: Config,
    images: AnnotatedImages,
    source: LoadedModel | BackboneWeights | None,
    device: torch.device,
    listen: Listener = lambda event: None,
) -> Advice:
    """Which strategy suits the training images of a run, by looking at up to 256 of them.

    Args:
        config: of the run, with what the weights decide.
        images: the train split, as its task sees it.
        source: the weights it would start from; nothing of them changes.
        listen: told how many images are through.

    Raises:
        UsageError: the model does not learn step by step.
        DataError: an image cannot be read.
        CheckpointError: the weights do not fit the backbone.
    """
    if is_fitted(config):
        raise UsageError(
            f"advice is on what learns step by step, and model {config.model} is fitted in a single pass over the "
            "images; leave --strategy auto out, or name another --model"
        )
    task = task_of(config)
    size = size_of(images, background=task == "segment")
    if source is None:
        return decide(size, None, ())
    model = _with_its_backbone(config, images, source)
    some = images.spread(MOST_IMAGES)
    loader = split_loader(DetectionDataset(some), config.imgsz, config.train.batch, config.workers, device)
    looked = look(
        model.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        model.units,
        loader,
        strides=[level.stride for level in levels_of(model.backbone)],
        classes=len(images.classes),
        background=task == "detect",
        device=device,
        source=source.source_statistics if isinstance(source, LoadedModel) else None,
        on_images=lambda done: listen(ImagesDone("looking at images", done, len(some.images))),
    )
    model.cpu()
    return decide(size, looked, model.units)


def _with_its_backbone(config: Config, images: AnnotatedImages, source: LoadedModel | BackboneWeights) -> Model:
    """A model whose backbone is the source's; of a published one that has nothing else, the run's own."""
    if isinstance(source, LoadedModel):
        return source.model
    model = build_model(config, images.classes)
    transfer_backbone(model, source)
    return model
