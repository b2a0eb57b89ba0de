"""FCN: a network of convolutions alone that says a class for every pixel.

Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.models.assembly import levels_of, model_units, require_input_size, require_strides
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm, no_norm
from visionkit.nn.upsample import BilinearUpsample
from visionkit.ops.semantic_losses import SEMANTIC_LOSSES, loss_sum
from visionkit.types import ClassRows, Level, Losses, SegmentationMap, Target, Task, Unit

Finest = Literal[8, 16, 32]
Learnt = Literal["skips", "all", "none"]

AUXILIARY_WEIGHT = 0.4
"""What the auxiliary head's losses count. Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.3."""

MOST_CLASSES = 255
"""255 itself is the label that no one judges."""


@dataclass(frozen=True, slots=True)
class FcnOutputs:
    """What the network says of B images, before any decision.

    Args:
        logits: [B, K, H, W], of every pixel of the image.
        auxiliary: [B, K, h, w], of every cell of the auxiliary head's map; None where there is no such head.
    """

    logits: Tensor
    auxiliary: Tensor | None = None


def score_tower(channels: int, classes: int, norm: Norm = nn.BatchNorm2d) -> nn.Sequential:
    """A 3x3 convolution to a quarter of the channels, norm, ReLU, dropout, and the 1x1 scores, as torchvision's FCN has
    it. It does the work of the paper's fc6 and fc7, two layers of 4096 channels made for VGG's ImageNet classifier."""
    width = max(1, channels // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=norm is no_norm),
        norm(width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Conv2d(width, classes, 1),
    )


class FcnHead(nn.Module):
    """Scores of the coarsest map, made larger step by step, with the scores of a finer map added at each step.

    Args:
        levels: of all the backbone's maps; the last is scored by a tower.
        skips: places among them of the maps whose scores are added, coarse to fine.
        classes: K.
        auxiliary: whether the map before the last has a tower of its own, to learn from.
        learnt: which of the transposed convolutions learn: those before an addition, as in the paper, all or none.
    """

    def __init__(
        self, levels: Sequence[Level], skips: Sequence[int], classes: int, auxiliary: bool, learnt: Learnt
    ) -> None:
        super().__init__()
        strides = [levels[-1].stride, *(levels[place].stride for place in skips), 1]
        factors = [coarse // fine for coarse, fine in pairwise(strides)]
        self.places = tuple(skips)
        self.coarse = score_tower(levels[-1].channels, classes)
        self.skips = nn.ModuleList(nn.Conv2d(levels[place].channels, classes, 1) for place in skips)
        self.upsample = nn.ModuleList(
            BilinearUpsample(classes, factor, learnable=learnt != "none") for factor in factors[:-1]
        )
        self.enlarge = BilinearUpsample(classes, factors[-1], learnable=learnt == "all")
        self.auxiliary = score_tower(levels[-2].channels, classes) if auxiliary else None
        self.reset_skips()

    def reset_skips(self) -> None:
        """Start as if there were none. Source: Long et al. 2015, section 4.2."""
        for skip in self.skips:
            for parameter in skip.parameters():
                nn.init.zeros_(parameter)

    def forward(self, maps: Sequence[Tensor]) -> FcnOutputs:
        scores = self.coarse(maps[-1])
        for place, skip, upsample in zip(self.places, self.skips, self.upsample, strict=True):
            scores = upsample(scores) + skip(maps[place])
        return FcnOutputs(self.enlarge(scores), None if self.auxiliary is None else self.auxiliary(maps[-2]))


class Fcn(nn.Module):
    """A backbone and the head that scores its maps.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes, at most 255.
        finest: stride of the finest map whose scores are added: 8, 16 or 32 for FCN-8s, FCN-16s, FCN-32s.
        auxiliary: whether the map before the last is scored too, to learn from.
        learnt: which of the transposed convolutions learn; all start as bilinear interpolation.
        semantic_loss: a sum by name, see `loss_sum`.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "segment"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = True
    class_weights: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        finest: Finest = 8,
        auxiliary: bool = False,
        learnt: Learnt = "skips",
        semantic_loss: str = "cross-entropy",
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        strides = [level.stride for level in levels]
        coarsest = strides[-1]
        needed = [stride for stride in (8, 16, 32) if finest <= stride <= coarsest] or [finest]
        require_strides(f"fcn{finest}s", levels, needed)
        if classes > MOST_CLASSES:
            raise UsageError(f"a segmenter tells at most {MOST_CLASSES} classes apart, got {classes}; merge some")
        self.normalize = Normalize()
        self.backbone = backbone
        # Of maps with one stride the last has seen most.
        skips = [
            max(p for p, s in enumerate(strides) if s == wanted) for wanted in reversed(needed) if wanted < coarsest
        ]
        self.head = FcnHead(levels, skips, classes, auxiliary, learnt)
        self.classes = classes
        self.loss_terms = loss_sum(semantic_loss)
        # Of the data, not of what is learnt: who prepares a run sets them.
        self.register_buffer("class_weights", torch.ones(classes), persistent=False)
        self.stride = coarsest
        """Image sides must be divisible by this many pixels."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of the head that learn: what `--freeze` counts."""
        return model_units(self, ("head",))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class: of the score layers and the transposed convolutions."""
        towers = [name for name in ("coarse", "auxiliary") if getattr(self.head, name) is not None]
        scores = [f"{tower}.4.{kind}" for tower in towers for kind in ("weight", "bias")]
        scores += [f"skips.{name}" for name in self.head.skips.state_dict()]
        kernels = [name for name in self.head.state_dict() if name.startswith(("upsample.", "enlarge."))]
        return {f"head.{name}": ClassRows() for name in (*scores, *kernels)}

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> FcnOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs at the size of the images.

        Args:
            sizes, targets, proposals: ignored.

        Raises:
            UsageError: H or W is not divisible by the coarsest stride.
        """
        require_input_size(images, self.stride)
        outputs: FcnOutputs = self.head(self.backbone(self.normalize(images)))
        return outputs

    def loss(self, outputs: FcnOutputs, targets: Sequence[Target]) -> Losses:
        """The named losses over all judged pixels of the batch, and `AUXILIARY_WEIGHT` of the auxiliary head's sum."""
        maps = [target.semantic for target in targets if target.semantic is not None]
        assert len(maps) == len(targets), "a segmenter learns from semantic maps"
        labels = torch.stack(maps).long()
        parts = self._losses(outputs.logits, labels)
        if outputs.auxiliary is not None:
            size = (labels.shape[-2], labels.shape[-1])
            full = nn.functional.interpolate(outputs.auxiliary.float(), size, mode="bilinear", align_corners=False)
            parts["auxiliary"] = AUXILIARY_WEIGHT * torch.stack(tuple(self._losses(full, labels).values())).sum()
        return Losses(parts)

    def _losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {
            name: factor * SEMANTIC_LOSSES[name](logits, labels, self.class_weights)
            for name, factor in self.loss_terms.items()
        }

    @torch.no_grad()
    def predict(
        self,
        outputs: FcnOutputs,
        *,
        score: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        masks: bool = True,
    ) -> list[SegmentationMap]:
        """One SegmentationMap an image: the score of each class at each pixel.

        Args:
            score, iou, max_det, masks: ignored: each pixel has one class.
        """
        return [SegmentationMap(scores) for scores in outputs.logits]


class Fcn32s(Fcn):
    """The last map's scores alone, 32 times as large."""

    def __init__(
        self, backbone: nn.Module, classes: int, *, auxiliary: bool = False, semantic_loss: str = "cross-entropy"
    ) -> None:
        super().__init__(backbone, classes, finest=32, auxiliary=auxiliary, semantic_loss=semantic_loss)


class Fcn16s(Fcn):
    """With the scores of the map at stride 16."""

    def __init__(
        self, backbone: nn.Module, classes: int, *, auxiliary: bool = False, semantic_loss: str = "cross-entropy"
    ) -> None:
        super().__init__(backbone, classes, finest=16, auxiliary=auxiliary, semantic_loss=semantic_loss)


class Fcn8s(Fcn):
    """With the scores of the maps at strides 16 and 8."""

    def __init__(
        self, backbone: nn.Module, classes: int, *, auxiliary: bool = False, semantic_loss: str = "cross-entropy"
    ) -> None:
        super().__init__(backbone, classes, finest=8, auxiliary=auxiliary, semantic_loss=semantic_loss)
