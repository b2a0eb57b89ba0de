"""The head of FCN: scores of the coarsest map, made larger step by step, with the scores of a finer map added at each.

Source: Long et al. 2015, Fully Convolutional Networks for Semantic Segmentation, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from visionkit.nn.norms import Norm, no_norm
from visionkit.nn.upsample import BilinearUpsample
from visionkit.types import Level

LearntUpsampling = Literal["skips", "all", "none"]
"""Which of the transposed convolutions learn: those before an addition, as in the paper, all or none."""


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


def enlargements(
    levels: Sequence[Level], skips: Sequence[int], width: int, classes: int, learnt: LearntUpsampling
) -> tuple[nn.ModuleList, BilinearUpsample]:
    """What enlarges `width` channels before each addition, and at the end `classes` channels to the size of the image.

    Args:
        levels, skips, learnt: as `FcnHead`.
    """
    strides = [levels[-1].stride, *(levels[place].stride for place in skips), 1]
    *between, last = [coarse // fine for coarse, fine in pairwise(strides)]
    before = nn.ModuleList(BilinearUpsample(width, factor, learnable=learnt != "none") for factor in between)
    return before, BilinearUpsample(classes, last, learnable=learnt == "all")


class FcnHead(nn.Module):
    """Scores of the coarsest map, made larger step by step, with the scores of a finer map added at each step.

    Args:
        levels: of all the backbone's maps; the last is scored by a tower.
        skips: places among them of the maps whose scores are added, coarse to fine.
        classes: K.
        auxiliary: whether the map before the last has a tower of its own, to learn from.
        learnt: which of the transposed convolutions learn.
    """

    def __init__(
        self, levels: Sequence[Level], skips: Sequence[int], classes: int, auxiliary: bool, learnt: LearntUpsampling
    ) -> None:
        super().__init__()
        self.places = tuple(skips)
        self.coarse = score_tower(levels[-1].channels, classes)
        self.skips = nn.ModuleList(nn.Conv2d(levels[place].channels, classes, 1) for place in skips)
        self.upsample, self.enlarge = enlargements(levels, skips, classes, classes, learnt)
        self.auxiliary = score_tower(levels[-2].channels, classes) if auxiliary else None
        self.reset_skips()

    def reset_skips(self) -> None:
        """Start as if there were none. Source: Long et al. 2015, section 4.2."""
        for skip in self.skips:
            for parameter in skip.parameters():
                nn.init.zeros_(parameter)

    @property
    def class_rows(self) -> tuple[str, ...]:
        """Names of the tensors with rows for each class: of the score layers and the transposed convolutions."""
        towers = [name for name in ("coarse", "auxiliary") if getattr(self, name) is not None]
        scores = [f"{tower}.4.{kind}" for tower in towers for kind in ("weight", "bias")]
        scores += [f"skips.{name}" for name in self.skips.state_dict()]
        return (*scores, *(name for name in self.state_dict() if name.startswith(("upsample.", "enlarge."))))

    def forward(self, maps: Sequence[Tensor]) -> FcnOutputs:
        scores = self.coarse(maps[-1])
        for place, skip, upsample in zip(self.places, self.skips, self.upsample, strict=True):
            scores = upsample(scores) + skip(maps[place])
        return FcnOutputs(self.enlarge(scores), None if self.auxiliary is None else self.auxiliary(maps[-2]))
