"""What a model's backbone takes over from a classifier's published weights; all behind the backbone starts fresh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from visionkit.backbones.checkpoints import read_torchvision, without_classifier
from visionkit.counted import counted
from visionkit.errors import CheckpointError, UsageError
from visionkit.published.weights import IMAGENET, IMAGENET_WEIGHTS, PublishedFile

BACKBONE = "backbone."
COUNTER = "num_batches_tracked"
"""How many batches a norm has seen, which is no weight; checkpoints from before torch counted them lack it."""


@dataclass(frozen=True, slots=True)
class BackboneWeights:
    """A published file that is here, and proven to be what was published.

    Args:
        backbone: whose weights they are.
    """

    backbone: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class BackboneTransfer:
    """What starting from the published weights of its backbone gave a model.

    Args:
        weights: their name, as `--weights` takes it.
        source: the file.
        sha256: of it; its first digits where no more are known.
        loaded: names of the backbone's tensors that were taken over.
        reinitialised: names of the tensors that start fresh, those behind the backbone.
        unused: names of the file's tensors that have no place in a backbone, those of its classifier.
    """

    weights: str
    source: Path
    sha256: str
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """The same in words: a row a part of the model, with the reason, and one for what is unused."""
        rows = [("backbone", f"{counted(len(self.loaded), 'tensor')} loaded")]
        for part, count in Counter(name.split(".")[0] for name in self.reinitialised).items():
            rows.append((part, f"{counted(count, 'tensor')} start fresh, {self.weights} has only the backbone"))
        if self.unused:
            rows.append(("unused", f"{_listed(self.unused)}: its classifier, over other classes"))
        return [f"Weights {self.weights} from {self.source}:", *(f"  {part:<10}  {words}" for part, words in rows)]

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "weights": self.weights,
            "file": str(self.source),
            "sha256": self.sha256,
            "loaded": list(self.loaded),
            "reinitialised": list(self.reinitialised),
            "unused": list(self.unused),
        }


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{counted(len(names), 'tensor')}, {', '.join(names[:most])}{more}"


def imagenet_weights(backbone: str) -> PublishedFile:
    """The file that `--weights imagenet` means for a backbone.

    Raises:
        UsageError: nobody published one that it can take.

    >>> imagenet_weights("resnet18").name
    'resnet18-f37072fd.pth'
    """
    if backbone not in IMAGENET:
        raise UsageError(
            f"weights imagenet are not published for backbone {backbone}, they are for {', '.join(IMAGENET)}; name one "
            "of these by --backbone, or give --weights scratch or a file"
        )
    return IMAGENET[backbone]


def transfer_backbone(model: nn.Module, source: BackboneWeights) -> BackboneTransfer:
    """Load the tensors of a published classifier into the backbone of a model; its other parts stay as they are.

    Args:
        model: whose child `backbone` has torchvision's names; changed in place, or not at all.

    Raises:
        CheckpointError: outside its classifier the file lacks a tensor, has one too many, or one of another shape.
    """
    state = read_torchvision(source.path)
    given = without_classifier(state)
    backbone = model.get_submodule("backbone")
    own = backbone.state_dict()
    unfit = [
        name
        for name in own | given
        if not name.endswith(COUNTER) and (name not in own or name not in given or own[name].shape != given[name].shape)
    ]
    if unfit:
        raise CheckpointError(
            f"weights {IMAGENET_WEIGHTS} do not fit this {source.backbone}: {counted(len(unfit), 'tensor')} missing, "
            f"unknown or of another shape, such as {unfit[0]}; leave norm and activation at own, or give "
            "--weights scratch"
        )
    backbone.load_state_dict({name: given.get(name, tensor) for name, tensor in own.items()})
    return BackboneTransfer(
        IMAGENET_WEIGHTS,
        source.path,
        source.sha256,
        loaded=tuple(BACKBONE + name for name in own),
        reinitialised=tuple(name for name in model.state_dict() if not name.startswith(BACKBONE)),
        unused=tuple(name for name in state if name not in given),
    )
