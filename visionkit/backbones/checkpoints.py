"""What of torchvision's checkpoints a backbone takes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

CLASSIFIERS = ("fc.", "classifier.", "aux1.", "aux2.")
"""How the names of classifiers begin in torchvision's models; `aux` are GoogLeNet's auxiliary ones."""


def without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision model's state dict without its classifier, ready for `load_state_dict` of the same backbone."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIERS)}
