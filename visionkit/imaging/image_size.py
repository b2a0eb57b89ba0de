"""The side of the square that a network takes: which ones its stride divides."""

from __future__ import annotations

from visionkit.errors import UsageError


def require_divisible(side: int, stride: int) -> int:
    """The side itself, in pixels.

    Args:
        stride: input pixels that a cell of the network's coarsest map covers; it must divide the side.

    Raises:
        UsageError: it does not.

    >>> require_divisible(352, 32)
    352
    """
    if side < 1 or side % stride:
        fitting = max(1, -(-side // stride)) * stride
        raise UsageError(f"image size must be divisible by {stride}, got {side}; use {fitting}")
    return side
