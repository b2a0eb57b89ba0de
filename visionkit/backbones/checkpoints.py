"""What of torchvision's checkpoints a backbone takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from visionkit.errors import CheckpointError
from visionkit.nn.finite import require_finite

CLASSIFIERS = ("fc.", "classifier.", "aux1.", "aux2.")
"""How the names of classifiers begin in torchvision's models; `aux` are GoogLeNet's auxiliary ones."""


def without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision model's state dict without its classifier, ready for `load_state_dict` of the same backbone."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIERS)}


def read_torchvision(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file that torchvision published, by name, on the CPU.

    Such a file is a pickle: only tensors and plain values are unpickled, nothing in it is ever run.

    Raises:
        CheckpointError: it holds anything but tensors by name, or a NaN or an infinity in them.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Bytes that are not torch's make it raise half a dozen kinds of errors.
    except Exception:
        content = None
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} is not a state dict, tensors by name; give the file that torchvision published")
    strange = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strange:
        raise CheckpointError(
            f"{path} must hold tensors by name and nothing else, {strange[0]!r} is not one; give the file that "
            "torchvision published"
        )
    require_finite(content, path, "give the file that torchvision published")
    return dict(content)
