"""The FCN that torchvision publishes weights of, `fcn_resnet50`, of our parts; and its weights under our names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from visionkit.backbones.resnet import resnet50
from visionkit.errors import CheckpointError
from visionkit.models.fcn import Fcn
from visionkit.nn.norms import Norm
from visionkit.nn.upsample import BilinearUpsample

RENAMED = {"backbone.": "backbone.", "classifier.": "head.coarse.", "aux_classifier.": "head.auxiliary."}
"""How names begin there, and here."""


def fcn_resnet50(
    classes: int, *, auxiliary: bool = False, semantic_loss: str = "cross-entropy", norm: Norm = nn.BatchNorm2d
) -> Fcn:
    """`fcn_resnet50`: a ResNet-50 whose last two layers are dilated, so all is scored at stride 8 and nothing is added.

    Args:
        classes: K; torchvision's published weights have 21, of which 0 is background, a class like the others.
        auxiliary: whether layer3 is scored too, to learn from.
        semantic_loss: as `Fcn` takes it.
    """
    backbone = resnet50(norm=norm, dilated=2)
    return Fcn(backbone, classes, auxiliary=auxiliary, learnt_upsampling="none", semantic_loss=semantic_loss)


def from_torchvision_fcn(state: Mapping[str, Tensor], *, auxiliary: bool = False) -> dict[str, Tensor]:
    """The state dict of torchvision's `fcn_resnet50` as ours loads it.

    Args:
        state: of published weights or of a model.
        auxiliary: whether to keep the auxiliary head; published weights have one.

    Raises:
        CheckpointError: a tensor has a name that is not known, or the scores are missing.
    """
    tensors = {}
    for name, tensor in state.items():
        start = next((start for start in RENAMED if name.startswith(start)), None)
        if start is None:
            raise CheckpointError(
                f"the weights have a tensor {name!r}, which torchvision's fcn_resnet50 has not; give weights of that"
            )
        if auxiliary or start != "aux_classifier.":
            tensors[RENAMED[start] + name.removeprefix(start)] = tensor
    if "head.coarse.4.bias" not in tensors:
        raise CheckpointError("the weights have no classifier.4.bias; give weights of torchvision's fcn_resnet50")
    # Interpolation has no weights there.
    tensors["head.enlarge.weight"] = BilinearUpsample(len(tensors["head.coarse.4.bias"]), 8).weight
    return tensors
