"""FCN: a network of convolutions alone that says a class for every pixel.

Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from visionkit.backbones.unit_maps import with_finer_map
from visionkit.errors import UsageError
from visionkit.models.assembly import levels_of, model_units, require_input_size, require_strides
from visionkit.models.fcn_features import FeatureHead
from visionkit.models.fcn_head import FcnHead, FcnOutputs, LearntUpsampling
from visionkit.nn.normalize import Normalize
from visionkit.ops.semantic_losses import SEMANTIC_LOSSES, loss_sum
from visionkit.types import ClassRows, Losses, SegmentationMap, Target, Task, Unit

Finest = Literal[4, 8, 16, 32]

AUXILIARY_WEIGHT = 0.4
"""What the auxiliary head's losses count. Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.3."""

MOST_CLASSES = 255
"""255 itself is the label that no one judges."""


class Fcn(nn.Module):
    """A backbone and the head that scores its maps.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes, at most 255.
        finest: stride of the finest map whose scores are added: 8, 16 or 32 for FCN-8s, FCN-16s, FCN-32s; 4 is one skip
            more than the paper has, of a map that backbones do not publish.
        auxiliary: whether the map before the last is scored too, to learn from.
        learnt_upsampling: which of the transposed convolutions learn; all start as bilinear interpolation.
        skip_width: channels of the features that are added in place of scores, see `FeatureHead`; None adds scores.
        semantic_loss: a sum by name, see `loss_sum`.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "segment"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = True
    snug: ClassVar[bool] = False
    class_weights: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        finest: Finest = 8,
        auxiliary: bool = False,
        learnt_upsampling: LearntUpsampling = "skips",
        skip_width: int | None = None,
        semantic_loss: str = "cross-entropy",
    ) -> None:
        super().__init__()
        coarsest = levels_of(backbone)[-1].stride
        own = max(8, finest)  # of the paper, by which users know the model
        published = [stride for stride in (8, 16, 32) if own <= stride <= coarsest] or [own]
        require_strides(f"fcn{own}s", levels_of(backbone), published)
        if finest < own:
            backbone = with_finer_map(backbone, finest)
        levels = levels_of(backbone)
        if auxiliary and len(levels) == 1:
            raise UsageError(
                "an auxiliary head scores the map before the last, and this backbone gives one map; leave auxiliary at "
                "false, or use another"
            )
        if classes > MOST_CLASSES:
            raise UsageError(f"a segmenter tells at most {MOST_CLASSES} classes apart, got {classes}; merge some")
        self.normalize = Normalize()
        self.backbone = backbone
        # Of maps with one stride the last has seen most.
        places = {level.stride: place for place, level in enumerate(levels)}
        skips = [places[stride] for stride in sorted(places, reverse=True) if finest <= stride < coarsest]
        make_head: Callable[..., FcnHead | FeatureHead] = FcnHead
        if skip_width is not None:
            make_head = partial(FeatureHead, width=skip_width)
        self.head = make_head(levels, skips, classes, auxiliary, learnt_upsampling)
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
    def loss_names(self) -> tuple[str, ...]:
        """What the parts of `loss` are called."""
        return (*self.loss_terms, *(() if self.head.auxiliary is None else ("auxiliary",)))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class: of the score layers and the transposed convolutions."""
        return {f"head.{name}": ClassRows() for name in self.head.class_rows}

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
        self,
        backbone: nn.Module,
        classes: int,
        *,
        auxiliary: bool = False,
        learnt_upsampling: LearntUpsampling = "skips",
        semantic_loss: str = "cross-entropy",
    ) -> None:
        super().__init__(
            backbone,
            classes,
            finest=32,
            auxiliary=auxiliary,
            learnt_upsampling=learnt_upsampling,
            semantic_loss=semantic_loss,
        )


class Fcn16s(Fcn):
    """With the scores of the map at stride 16."""

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        auxiliary: bool = False,
        learnt_upsampling: LearntUpsampling = "skips",
        skip_width: int | None = None,
        semantic_loss: str = "cross-entropy",
    ) -> None:
        super().__init__(
            backbone,
            classes,
            finest=16,
            auxiliary=auxiliary,
            learnt_upsampling=learnt_upsampling,
            skip_width=skip_width,
            semantic_loss=semantic_loss,
        )


class Fcn8s(Fcn):
    """With the scores of the maps at strides 16 and 8, and with `fine_skip` at stride 4."""

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        fine_skip: bool = False,
        auxiliary: bool = False,
        learnt_upsampling: LearntUpsampling = "skips",
        skip_width: int | None = None,
        semantic_loss: str = "cross-entropy",
    ) -> None:
        super().__init__(
            backbone,
            classes,
            finest=4 if fine_skip else 8,
            auxiliary=auxiliary,
            learnt_upsampling=learnt_upsampling,
            skip_width=skip_width,
            semantic_loss=semantic_loss,
        )
