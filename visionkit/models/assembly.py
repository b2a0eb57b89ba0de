"""What every model made of a backbone and further parts answers alike: its units, and whether an image fits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.types import Level, Unit


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
