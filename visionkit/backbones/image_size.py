"""The smallest image that a backbone can halve as often as it does."""

from __future__ import annotations

from torch import Tensor

from visionkit.errors import UsageError


def require_least_side(images: Tensor, least: int, name: str) -> None:
    """Images [..., H, W] must be `least` pixels high and wide.

    Raises:
        UsageError: they are smaller.
    """
    height, width = images.shape[-2:]
    if min(height, width) < least:
        raise UsageError(
            f"{name} needs images of at least {least}x{least} pixels, got {height}x{width}; "
            f"use {max(height, least)}x{max(width, least)}"
        )
