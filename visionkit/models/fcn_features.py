"""A wider head for FCN: where the paper adds scores, K numbers a cell, this one adds features and scores their sum."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from visionkit.models.fcn_head import FcnOutputs, LearntUpsampling, enlargements, score_tower
from visionkit.nn.conv import ConvNormAct, conv_layers
from visionkit.types import Level


class FeatureHead(nn.Module):
    """Features of the coarsest map, made larger step by step, with those of a finer map added at each step and a 3x3
    convolution over the sum; the last sum is scored.

    A finer map's scores can but vote for a class by themselves: an upright edge is a pole anywhere. Its features can
    mean one thing beside a road and another inside a tree, which thin classes need.

    Source: the top-down pathway of Lin et al. 2017, Feature Pyramid Networks, section 3, scored at each pixel as in
    Kirillov et al. 2019, Panoptic Feature Pyramid Networks, section 3; enlarged by FCN's transposed convolutions.

    Args:
        levels, skips, classes, auxiliary, learnt: as `FcnHead`.
        width: channels of the features.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        skips: Sequence[int],
        classes: int,
        auxiliary: bool,
        learnt: LearntUpsampling,
        width: int,
    ) -> None:
        super().__init__()
        self.places = tuple(skips)
        self.coarse = ConvNormAct(levels[-1].channels, width, 3)
        self.skips = nn.ModuleList(
            nn.Sequential(*conv_layers(levels[place].channels, width, norm=nn.BatchNorm2d)) for place in skips
        )
        self.mix = nn.ModuleList(ConvNormAct(width, width, 3) for _ in skips)
        self.scores = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(width, classes, 1))
        self.upsample, self.enlarge = enlargements(levels, skips, width, classes, learnt)
        self.auxiliary = score_tower(levels[-2].channels, classes) if auxiliary else None

    @property
    def class_rows(self) -> tuple[str, ...]:
        """Names of the tensors with rows for each class."""
        of_auxiliary = () if self.auxiliary is None else ("auxiliary.4.weight", "auxiliary.4.bias")
        return ("scores.1.weight", "scores.1.bias", *of_auxiliary, "enlarge.weight")

    def forward(self, maps: Sequence[Tensor]) -> FcnOutputs:
        x = self.coarse(maps[-1])
        for place, skip, upsample, mix in zip(self.places, self.skips, self.upsample, self.mix, strict=True):
            x = mix(upsample(x) + skip(maps[place]))
        scores = self.enlarge(self.scores(x))
        return FcnOutputs(scores, None if self.auxiliary is None else self.auxiliary(maps[-2]))
