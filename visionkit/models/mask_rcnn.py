"""Mask R-CNN: Faster R-CNN with a further head that says which pixels of a region are the object's.

Source: He et al. 2017, Mask R-CNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size, unpadded_sizes
from visionkit.models.explanation import Assigned, Candidates
from visionkit.models.mask_head import MaskHead, MaskOutputs
from visionkit.models.region_parts import region_parts
from visionkit.models.roi_head import RoiHead, RoiOutputs
from visionkit.models.rpn import RegionProposals, RpnOutputs
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import group_norm
from visionkit.ops.matching import POSITIVE
from visionkit.types import ClassRows, Detections, Level, Losses, Target, Task, Unit

LIGHT_MASK_WIDTH = 64
LIGHT_MASK_DEPTH = 2


@dataclass(frozen=True, slots=True)
class MaskRcnnOutputs:
    """What the network says of B images, before any decision.

    Args:
        proposals: of all anchors.
        regions: of the regions that were proposed, or drawn from the proposals and the truth.
        masks: of those of them that hold an object, where the truth was given; else None.
        maps: of the neck: masks of detections are read from them.
        sizes: H and W of each image in pixels, without padding.
    """

    proposals: RpnOutputs
    regions: RoiOutputs
    masks: MaskOutputs | None
    maps: tuple[Tensor, ...]
    sizes: tuple[tuple[int, int], ...]


class MaskRcnn(nn.Module):
    """A backbone, a feature pyramid, region proposals, the R-CNN head and the mask head.

    Where no parts are given they are light, as those of `FasterRcnn`. The form of the paper is in
    `visionkit.models.torchvision_models`.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes, without background.
        neck: publishes `levels`, all of one width.
        rpn: of the neck's levels.
        head, mask: read regions from the first of them.
        box_loss, class_loss, single_level: of the parts that are not given, as for `FasterRcnn`.
        mask_loss: of the mask head that is not given: a sum by name, as it takes it.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = True
    """`loss` wants targets with masks, and `predict` says masks where it is asked to."""

    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("objectness", "proposal", "class", "box", "mask")

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        neck: nn.Module | None = None,
        rpn: RegionProposals | None = None,
        head: RoiHead | None = None,
        mask: MaskHead | None = None,
        box_loss: str = "smooth-l1",
        class_loss: str = "cross-entropy",
        mask_loss: str = "bce",
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
        self.mask = mask or _light_mask(levels_of(self.neck)[: len(levels)], classes, mask_loss)
        self.classes = classes
        self.stride = max(level.stride for level in levels)
        """Image sides must be divisible by this many pixels."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of neck, rpn and heads that learn: what `--freeze` counts."""
        return model_units(self, ("neck", "rpn", "head", "mask"))

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        parts = {"head": self.head.class_rows, "mask": self.mask.class_rows}
        return {f"{part}.{name}": rows for part, of_part in parts.items() for name, rows in of_part.items()}

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> MaskRcnnOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes: H and W of each image without padding, to which proposals are cut; the whole where not given.
            targets: where given, regions are drawn for learning, as in `FasterRcnn`, and masks are said of those that
                hold an object. Else all proposals are regions.
            proposals: ignored: it makes its own.

        Raises:
            UsageError: H or W is not divisible by the backbone's coarsest stride.
        """
        require_input_size(images, self.stride)
        within = unpadded_sizes(images, sizes)
        maps = tuple(self.neck(self.backbone(self.normalize(images))))
        proposed = self.rpn(maps, (images.shape[-2], images.shape[-1]))
        boxes = self.rpn.propose(proposed, within, learning=targets is not None)
        if targets is None:
            return MaskRcnnOutputs(proposed, self.head(maps, boxes), None, maps, within)
        regions = self.head(maps, self.head.sample(boxes, targets))
        return MaskRcnnOutputs(proposed, regions, self._masks_of_truths(maps, regions, targets), maps, within)

    def _masks_of_truths(self, maps: Sequence[Tensor], regions: RoiOutputs, targets: Sequence[Target]) -> MaskOutputs:
        """What is said of the positive regions (section 3.1, "Training": the mask loss is defined on these)."""
        gt_index, label = self.head.match(regions.boxes, regions.image, targets)
        positive = (label == POSITIVE).nonzero().squeeze(1)
        boxes = regions.boxes[positive]
        return MaskOutputs(boxes, gt_index[positive], self.mask(maps, boxes, regions.image[positive]))

    def loss(self, outputs: MaskRcnnOutputs, targets: Sequence[Target]) -> Losses:
        """The two losses of the proposals, the two of the regions and that of the masks, all of weight one.

        Args:
            targets: with masks; those that `forward` was given.
        """
        assert outputs.masks is not None, "forward wants the targets while learning"
        objectness, proposal = self.rpn.loss(outputs.proposals, targets)
        class_loss, box_loss = self.head.loss(outputs.regions, targets)
        mask_loss = self.mask.loss(outputs.masks, targets)
        parts = {"objectness": objectness, "proposal": proposal, "class": class_loss, "box": box_loss}
        return Losses({**parts, "mask": mask_loss})

    @torch.no_grad()
    def predict(
        self,
        outputs: MaskRcnnOutputs,
        *,
        score: float = 0.05,
        iou: float = 0.5,
        max_det: int = 100,
        masks: bool = True,
        candidates: int = 3000,
    ) -> list[Detections]:
        """Decisions, one Detections an image, and a mask of each: that of its class, read from its final box.

        Source: section 3.1, "Inference".

        Args:
            score, iou, max_det, candidates: as for `FasterRcnn`.
            masks: whether there are masks; of many boxes they take longer than all the rest.
        """
        found = self.head.predict(
            outputs.regions, outputs.sizes, score=score, iou=iou, max_det=max_det, candidates=candidates
        )
        if not masks:
            return found
        counts = torch.tensor([len(one.scores) for one in found], device=outputs.regions.image.device)
        image = torch.arange(len(found), device=counts.device).repeat_interleave(counts)
        labels = torch.cat([one.labels for one in found])
        logits = self.mask(outputs.maps, torch.cat([one.boxes for one in found]), image)
        said = logits[torch.arange(len(labels), device=labels.device), labels].float().sigmoid()
        parts = said.split([len(one.scores) for one in found])
        return [replace(one, masks=part) for one, part in zip(found, parts, strict=True)]

    @torch.no_grad()
    def candidates(self, outputs: MaskRcnnOutputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates; the proposal that each is of, and the anchor of that."""
        proposed = self.rpn.explained(outputs.proposals, outputs.sizes)
        return self.head.candidates(outputs.regions, outputs.sizes, score=score, most=most, proposed=proposed)

    @torch.no_grad()
    def assigned(self, outputs: MaskRcnnOutputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """Which anchors learn to propose each object, and which proposals learn it."""
        stages = self.rpn.assigned(outputs.proposals, targets), self.head.assigned(outputs.regions, targets)
        return list(zip(*stages, strict=True))


def _light_mask(levels: Sequence[Level], classes: int, mask_loss: str) -> MaskHead:
    return MaskHead(
        levels, classes, LIGHT_MASK_WIDTH, depth=LIGHT_MASK_DEPTH, norm=group_norm, sampling=1, mask_loss=mask_loss
    )
