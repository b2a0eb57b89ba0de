"""What every model made of a backbone and further parts answers alike: its units, and whether an image fits.

A model has three verbs. Their arguments are the same in all models; one that has no use for an argument ignores it:

    forward(images, sizes=None, targets=None, proposals=None) -> what the network says, a record of its own
    loss(outputs, targets) -> Losses
    predict(outputs, *, score, iou, max_det, masks) -> one Detections, SegmentationMap or ClassScores an image

Its class says what has to be known before one is built: `task`; `says_masks`, whether it learns the masks of objects
and says them; `wants_proposals`, whether it learns from proposals that it has to be given; `weighs_classes`, whether it
has a buffer `class_weights` [K] for its loss; `snug`, whether it is judged and used on no more of the network's square
than an image needs, rounded up to its stride, and not on all of it.

A model, once it is built, says `loss_names`: what the parts of its `loss` are called, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.types import Level, Task, Unit

REGIONS = 300
"""What a model that is fed by proposals is run with where no one has any: as many as the light ones make their own."""


def model_units(model: nn.Module, parts: Sequence[str]) -> tuple[Unit, ...]:
    """The units of `model.backbone`, then the direct children of the further parts that learn: what `--freeze` counts.

    Args:
        parts: names of submodules in forward order, such as `("neck", "head")`.
    """
    of_backbone: tuple[Unit, ...] = model.get_submodule("backbone").units  # type: ignore[assignment]
    units = [Unit(f"backbone.{u.name}", tuple(f"backbone.{m}" for m in u.modules)) for u in of_backbone]
    for part in parts:
        for name, child in model.get_submodule(part).named_children():
            if any(True for _ in child.parameters()):  # where nothing is learnt there is nothing to freeze
                units.append(Unit(f"{part}.{name}", (f"{part}.{name}",)))
    return tuple(units)


def levels_of(part: nn.Module) -> tuple[Level, ...]:
    """The levels that a backbone or a neck publishes."""
    levels: tuple[Level, ...] = part.levels  # type: ignore[assignment]
    return levels


def model_task(model: nn.Module) -> Task:
    """What a model says of an image, as its class has it."""
    task: Task = model.task  # type: ignore[assignment]
    return task


def loss_names_of(model: nn.Module) -> tuple[str, ...]:
    """What the parts of a model's loss are called."""
    names: tuple[str, ...] = model.loss_names  # type: ignore[assignment]
    return names


def unknown_loss(weights: Iterable[str], names: Sequence[str]) -> str:
    """What is wrong with the names in `train.loss_weights`; empty where a model has all of these losses.

    Args:
        weights: the names that are weighed.
        names: of the model's losses.
    """
    unknown = [name for name in weights if name not in names]
    if not unknown:
        return ""
    return f"train.loss_weights has {unknown[0]!r}, the losses of this model are {', '.join(names)}; name these"


def frame_multiple_of(model: nn.Module) -> int | None:
    """What `letterbox` is to be told where the model is judged or used."""
    multiple: int | None = model.stride if model.snug else None  # type: ignore[assignment]
    return multiple


def unpadded_sizes(images: Tensor, sizes: Sequence[tuple[int, int]] | None) -> tuple[tuple[int, int], ...]:
    """H and W of each of B images in pixels without padding.

    Args:
        sizes: these, where someone knows them; else no image [B, 3, H, W] has padding.
    """
    return tuple(sizes) if sizes is not None else ((images.shape[-2], images.shape[-1]),) * len(images)


def run_whole(model: nn.Module, images: Tensor) -> None:
    """Every part of a model once, on images [B, 3, H, W] that no one knows anything of: proposals are of the whole, and
    where masks are said of detections, there are some."""
    whole = torch.tensor([[0.0, 0, images.shape[-1], images.shape[-2]]], device=images.device)
    regions = REGIONS if model.wants_proposals else 1
    outputs = model(images, proposals=[whole.expand(regions, 4)] * len(images))
    if model.says_masks:
        model.predict(outputs, score=0.0)  # type: ignore[operator]


def require_strides(model: str, levels: Sequence[Level], needed: Sequence[int]) -> None:
    """A backbone must have a level of each of these strides.

    Args:
        model: its name, as users know it.

    Raises:
        UsageError: one is missing.
    """
    strides = [level.stride for level in levels]
    if not set(needed) <= set(strides):
        wants, has = (", ".join(map(str, of)) for of in (needed, strides))
        raise UsageError(
            f"model {model} needs a backbone with maps of stride {wants}, but this one has {has}; choose another"
        )


def require_input_size(images: Tensor, stride: int) -> None:
    """Images [..., H, W] must have sides that a model's coarsest stride divides.

    Raises:
        UsageError: it does not divide H or W.
    """
    height, width = images.shape[-2:]
    if height % stride or width % stride:
        up = [-(-side // stride) * stride for side in (height, width)]
        raise UsageError(f"image size must be divisible by {stride}, got {height}x{width}; use {up[0]}x{up[1]}")
