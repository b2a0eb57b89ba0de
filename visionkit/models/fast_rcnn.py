"""Fast R-CNN: the R-CNN head on regions that something else proposed.

Source: Girshick 2015, Fast R-CNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.models.assembly import levels_of, model_units, require_input_size, unpadded_sizes
from visionkit.models.explanation import Assigned, Candidates
from visionkit.models.region_parts import light_head, light_neck
from visionkit.models.roi_head import RoiHead, RoiOutputs
from visionkit.models.searched_regions import searched_regions
from visionkit.nn.normalize import Normalize
from visionkit.proposals.selective_search import MOST_PROPOSALS
from visionkit.types import ClassRows, Detections, Losses, Target, Task, Unit


@dataclass(frozen=True, slots=True)
class FastRcnnOutputs:
    """What the network says of B images, before any decision.

    Args:
        regions: of the proposals, or of some drawn from them and the truth.
        sizes: H and W of each image in pixels, without padding.
    """

    regions: RoiOutputs
    sizes: tuple[tuple[int, int], ...]


class FastRcnn(nn.Module):
    """A backbone, a feature pyramid and the R-CNN head, which takes the largest value of each bin (RoIPool).

    Where no parts are given they are light, as those of `FasterRcnn`.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level.
        classes: K, number of classes, without background.
        neck: publishes `levels`, all of one width.
        head: reads regions from the first of the neck's maps.
        box_loss: of the head that is not given: a name of `DELTA_LOSSES`.
        class_loss: likewise: a name of `CLASS_LOSSES`.
        single_level: where no neck is given, one map of the backbone in place of a pyramid, as the paper has.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "detect"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = True
    """It learns from proposals of each image, and is judged on them."""

    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = ("class", "box")

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        neck: nn.Module | None = None,
        head: RoiHead | None = None,
        box_loss: str = "smooth-l1",
        class_loss: str = "cross-entropy",
        single_level: bool = False,
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        self.normalize = Normalize()
        self.backbone = backbone
        self.neck = neck or light_neck(levels, "none", single_level=single_level)
        self.head = head or light_head(
            levels_of(self.neck), classes, pooling="pool", box_loss=box_loss, class_loss=class_loss
        )
        self.classes = classes
        self.stride = max(level.stride for level in levels)
        """Image sides must be divisible by this many pixels."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of neck and head that learn: what `--freeze` counts."""
        return model_units(self, ("neck", "head"))

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
    ) -> FastRcnnOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes: H and W of each image without padding, to which detections are cut; the whole where not given.
            targets: where given, regions are drawn for learning, as in `FasterRcnn`, from all proposals. Else the first
                `MOST_PROPOSALS` are regions.
            proposals: f32 [N, 4] of each image in pixels, best first; N may be 0. By selective search, as in the paper,
                where not given: a new picture has none. Who learns has to give them.

        Raises:
            UsageError: no proposals to learn from; H or W is not divisible by the backbone's coarsest stride; or
                proposals have to be searched and scikit-image is not installed.
        """
        require_input_size(images, self.stride)
        if proposals is None and targets is not None:
            raise UsageError(
                "model fast-rcnn learns from proposals of each image and has none; finetune takes a folder of them by "
                "--set proposals=FOLDER; or use faster-rcnn, which makes its own"
            )
        given = searched_regions(images) if proposals is None else proposals
        best = [boxes[:MOST_PROPOSALS] for boxes in given]
        # Learning draws from all: in a mosaic each tile's are best first, the whole list is not.
        regions = best if targets is None else self.head.sample(given, targets)
        maps = self.neck(self.backbone(self.normalize(images)))
        return FastRcnnOutputs(self.head(maps, regions), unpadded_sizes(images, sizes))

    def loss(self, outputs: FastRcnnOutputs, targets: Sequence[Target]) -> Losses:
        """Class and box loss of the regions. Source: section 2.3, equation 1."""
        class_loss, box_loss = self.head.loss(outputs.regions, targets)
        return Losses({"class": class_loss, "box": box_loss})

    @torch.no_grad()
    def predict(
        self,
        outputs: FastRcnnOutputs,
        *,
        score: float = 0.05,
        iou: float = 0.5,
        max_det: int = 100,
        masks: bool = True,
        candidates: int = 3000,
    ) -> list[Detections]:
        """Decisions, one Detections an image: every (region, class) of at least `score`, suppressed per class.

        Args: as for `FasterRcnn`.
        """
        return self.head.predict(
            outputs.regions, outputs.sizes, score=score, iou=iou, max_det=max_det, candidates=candidates
        )

    @torch.no_grad()
    def candidates(self, outputs: FastRcnnOutputs, *, score: float, most: int) -> list[Candidates]:
        """What `predict` decides on, with `most` candidates, and the proposal that each is of."""
        return self.head.candidates(outputs.regions, outputs.sizes, score=score, most=most)

    @torch.no_grad()
    def assigned(self, outputs: FastRcnnOutputs, targets: Sequence[Target]) -> list[tuple[Assigned, ...]]:
        """Which proposals learn each object."""
        return [(regions,) for regions in self.head.assigned(outputs.regions, targets)]
