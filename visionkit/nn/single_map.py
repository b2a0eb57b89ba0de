"""One map in place of a pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from visionkit.types import Level


class SingleMap(nn.Module):
    """Of a backbone's maps the coarsest whose stride is at most `stride`, or the finest where there is none; unchanged.

    Source: Ren et al. 2015, Faster R-CNN, section 3.3: the last convolution of VGG-16, at stride 16.

    Args:
        levels: of the maps that `forward` takes, fine to coarse.
    """

    def __init__(self, levels: Sequence[Level], stride: int = 16) -> None:
        super().__init__()
        self.place = max((p for p, level in enumerate(levels) if level.stride <= stride), default=0)
        self.levels = (levels[self.place],)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [features[self.place]]
