"""Graphs of the models that say something of whole images: segmenters and classifiers."""

from __future__ import annotations

from torch import Tensor, nn

from visionkit.exporting.frames import channels_first
from visionkit.models.classifier import Classifier
from visionkit.models.fcn import Fcn


class SegmenterGraph(nn.Module):
    """Images u8 [B, H, W, 3] in, scores f32 [B, K, H, W] before the softmax out."""

    def __init__(self, model: Fcn) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(channels_first(images))
        return (outputs.logits,)


class ClassifierGraph(nn.Module):
    """Images u8 [B, H, W, 3] in, probabilities f32 [B, K] out."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # Without the auxiliary heads, which only learning asks for.
        model = self.model
        last = model.backbone(model.normalize(channels_first(images)))[-1]
        return (model.head.linear(last.mean((2, 3))).softmax(1),)
