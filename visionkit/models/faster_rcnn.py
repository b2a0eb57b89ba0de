"""Faster R-CNN: a network that proposes regions, and a head that says what is in them, on the same feature maps.

Source: Ren et al. 2015, Faster R-CNN; on several maps as in Lin et al. 2017, Feature Pyramid Networks, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size, unpadded_sizes
from visionkit.models.explanation import Assigned, Candidates
from visionkit.models.region_parts import region_parts
from visionkit.models.roi_head import RoiHead, RoiOutputs
from visionkit.models.rpn import RegionProposals, RpnOutputs
from visionkit.nn.normalize import Normalize
from visionkit.types import ClassRows, Detections, Losses, Target, Task, Unit


@dataclass(frozen=True, slots=True)
class FasterRcnnOutputs:
    """What the network says of B images, before any decision.

    Args:
        proposals: of all anchors.
        regions: of the regions that were proposed, or drawn from the proposals and the truth.
        maps: of the neck, for heads that read further regions.
        sizes: H and W of each image in pixels, without padding.
    """

    proposals: RpnOutputs
    regions: RoiOutputs
    maps: tuple[Tensor, ...]
    sizes: tuple[tuple[int, int], ...]


class FasterRcnn(nn.Module):
    """A backbone, a feature pyramid, region proposals and the R-CNN head.

    Where no parts are given they are light: narrow, 300 proposals, 64 regions an image to learn from. The form of the
    papers is in `visionkit.models.torchvision_models`.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes, without background.
        neck: publishes `levels`, all of one width.
        rpn: of the neck's levels.
        head: reads regions from the first of them.
        box_loss: of the parts that are not given: a name of `DELTA_LOSSES`.
        class_loss: of the head that is not given: a name of `CLASS_LOSSES`.
        single_level: where no neck is given, one map of the backbone in place of a pyramid, as in the first paper.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("objectness", "proposal", "class", "box")

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        neck: nn.Module | None = None,
        rpn: RegionProposals | None = None,
        head: RoiHead | None = None,
        box_loss: str = "smooth-l1",
        class_loss: str = "cross-entropy",
        single_level: bool = False,
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        parts = region_parts(
            levels,
            classes,
            neck=neck,
            rpn=rpn,
            head=head,
            box_loss=box_loss,
            class_loss=class_loss,
            single_level=single_level,
        )
        self.normalize = Normalize()
        self.backbone = backbone
        self.neck, self.rpn, self.head = parts.neck, parts.rpn, parts.head
        self.classes = classes
        # Coarser maps than the backbone's end where they end; the backbone's own must fit.
        self.stride = max(level.stride for level in levels)
        """Image sides must be divisible by this many pixels."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of neck, rpn and head that learn: what `--freeze` counts."""
        return model_units(self, ("neck", "rpn", "head"))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        return {f"head.{name}": rows for name, rows in self.head.class_rows.items()}

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> FasterRcnnOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes: H and W of each image without padding, to which proposals are cut; the whole where not given.
            targets: where given, regions are drawn for learning from proposals and true boxes: which ones depends on
                the seed torch was last given (`visionkit.ops.sampling.step_key`). Else all proposals are regions.
            proposals: ignored: it makes its own.

        Raises:
            UsageError: H or W is not divisible by the backbone's coarsest stride.
        """
        require_input_size(images, self.stride)
        within = unpadded_sizes(images, sizes)
        maps = self.neck(self.backbone(self.normalize(images)))
        proposed = self.rpn(maps, (images.shape[-2], images.shape[-1]))
        regions = self.rpn.propose(proposed, within, learning=targets is not None)
        if targets is not None:
            regions = self.head.sample(regions, targets)
        return FasterRcnnOutputs(proposed, self.head(maps, regions), tuple(maps), within)

    def loss(self, outputs: FasterRcnnOutputs, targets: Sequence[Target]) -> Losses:
        """The two losses of the proposals and the two of the regions, all of weight one.

        Source: Ren et al. 2015, equation 1; Girshick 2015, Fast R-CNN, equation 1.
        """
        objectness, proposal = self.rpn.loss(outputs.proposals, targets)
        class_loss, box_loss = self.head.loss(outputs.regions, targets)
        return Losses({"objectness": objectness, "proposal": proposal, "class": class_loss, "box": box_loss})

    @torch.no_grad()
    def predict(
        self,
        outputs: FasterRcnnOutputs,
        *,
        score: float = 0.05,
        iou: float = 0.5,
        max_det: int = 100,
        masks: bool = True,
        candidates: int = 3000,
    ) -> list[Detections]:
        """Decisions, one Detections an image: every (region, class) of at least `score`, suppressed per class.

        Args:
            score: lowest score kept.
            iou: overlap above which the worse box of a class goes.
            max_det: most detections an image.
            masks: ignored: there are none.
            candidates: most (region, class) pairs that enter suppression, best first; bounds the time.
        """
        return self.head.predict(
            outputs.regions, outputs.sizes, score=score, iou=iou, max_det=max_det, candidates=candidates
        )

    @torch.no_grad()
    def candidates(self, outputs: FasterRcnnOutputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates; the proposal that each is of, and the anchor of that."""
        proposed = self.rpn.explained(outputs.proposals, outputs.sizes)
        return self.head.candidates(outputs.regions, outputs.sizes, score=score, most=most, proposed=proposed)

    @torch.no_grad()
    def assigned(self, outputs: FasterRcnnOutputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """Which anchors learn to propose each object, and which proposals learn it."""
        stages = self.rpn.assigned(outputs.proposals, targets), self.head.assigned(outputs.regions, targets)
        return list(zip(*stages, strict=True))
