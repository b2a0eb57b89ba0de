"""Weights in half the bytes."""

from __future__ import annotations

from pathlib import Path

import torch

from visionkit.engine.checkpoint import load_weights, save_weights
from visionkit.errors import VisionkitError


def write_half(source: Path, target: Path) -> None:
    """The same weights file with its convolutions in half precision; what is small, as statistics are, stays as it is.

    Raises:
        VisionkitError: a number is too large for half precision.
    """
    tensors, card = load_weights(source)
    small = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    if any(not torch.isfinite(tensor).all() for tensor in small.values()):
        raise VisionkitError(f"{source} holds numbers beyond 65504, half precision ends there; bundle it as it is")
    save_weights(target, small, card)
