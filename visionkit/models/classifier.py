"""Any backbone as a classifier of whole pictures: the mean of its last map, dropout, one linear layer.

Source: Lin et al. 2014, Network In Network, section 3.2 (the mean in place of fully connected layers); dropout before
the last layer: Szegedy et al. 2015, Going Deeper with Convolutions, section 5; label smoothing: Szegedy et al. 2016,
Rethinking the Inception Architecture, section 7.

Trained here, a backbone feeds a detector: `--weights FILE` takes over its tensors by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from visionkit.models.assembly import levels_of, model_units, require_input_size
from visionkit.nn.normalize import Normalize
from visionkit.ops.global_count import share_of_batch
from visionkit.ops.losses import CLASS_LOSSES, named_loss
from visionkit.types import ClassRows, ClassScores, Level, Losses, Target, Task, Unit

AUXILIARY_WEIGHT = 0.3
"""What the losses of the auxiliary heads count (Szegedy et al. 2015, section 5)."""


@dataclass(frozen=True, slots=True)
class ClassifierOutputs:
    """What the network says of B images.

    Args:
        logits: [B, K].
        auxiliary: [B, K] of each auxiliary head; empty where the backbone asks for none.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]


class AuxiliaryHead(nn.Module):
    """A small classifier on a map half way, which brings a gradient to the layers before it.

    Source: Szegedy et al. 2015, Going Deeper with Convolutions, section 5: mean over 4x4 cells, a 1x1 convolution to
    128 channels, a fully connected layer of 1024, dropout of 70 %, a linear layer.
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, classes)
        _start(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        # A map of fewer cells shows some of them more than once.
        x = self.conv(nn.functional.adaptive_avg_pool2d(x, 4)).relu()
        logits: Tensor = self.fc2(self.dropout(self.fc1(x.flatten(1)).relu()))
        return logits


class ClassifierHead(nn.Module):
    """The mean of the last map, dropout, a linear layer; and a head on each map half way that the backbone names."""

    def __init__(self, level: Level, classes: int, auxiliary: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        self.auxiliary = nn.ModuleDict({name: AuxiliaryHead(wide, classes) for name, wide in auxiliary.items()})
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(level.channels, classes)
        _start(self.linear)

    def forward(self, last: Tensor, half_way: Sequence[Tensor]) -> ClassifierOutputs:
        logits = self.linear(self.dropout(last.mean((2, 3))))
        auxiliary = [head(x) for head, x in zip(self.auxiliary.values(), half_way, strict=True)]
        return ClassifierOutputs(logits, tuple(auxiliary))


def _start(linear: nn.Linear) -> None:
    """All classes about as likely, whatever the picture."""
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)


class Classifier(nn.Module):
    """A backbone, of which only the coarsest map is used, and the head.

    Args:
        backbone: publishes `levels` and `units`; its forward returns one map a level. Where it has an attribute
            `auxiliary`, names of direct children and their channels, an auxiliary head reads behind each of them.
        classes: K, number of classes.
        dropout: share of the mean's channels that training leaves out.
        label_smoothing: share of the truth that is spread evenly over all classes.
        class_loss: a name of `CLASS_LOSSES`.

    `forward`, `loss` and `predict` are the three verbs of every model; none depends on `self.training`.
    """

    task: ClassVar[Task] = "classify"
    says_masks: ClassVar[bool] = False
    wants_proposals: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    snug: ClassVar[bool] = False

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        dropout: float = 0.2,
        label_smoothing: float = 0.1,
        class_loss: str = "cross-entropy",
    ) -> None:
        super().__init__()
        levels = levels_of(backbone)
        auxiliary: Mapping[str, int] = getattr(backbone, "auxiliary", {})
        self.normalize = Normalize()
        self.backbone = backbone
        self.head = ClassifierHead(levels[-1], classes, auxiliary, dropout)
        self.classes = classes
        self.label_smoothing = label_smoothing
        self.class_loss = named_loss(CLASS_LOSSES, class_loss, "class_loss of classifier")
        self.half_way = tuple(auxiliary)
        self.stride = levels[-1].stride
        """Image sides must be divisible by this many pixels."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The backbone's units, then the direct children of the head that learn: what `--freeze` counts."""
        return model_units(self, ("head",))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What the parts of `loss` are called."""
        return ("class", "auxiliary") if self.half_way else ("class",)

    @property
    def class_rows(self) -> dict[str, ClassRows]:
        """By name, the tensors with rows for each class."""
        layers = ["head.linear", *(f"head.auxiliary.{name}.fc2" for name in self.head.auxiliary)]
        return {f"{layer}.{kind}": ClassRows() for layer in layers for kind in ("weight", "bias")}

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        targets: Sequence[Target] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> ClassifierOutputs:
        """u8 or float images [B, 3, H, W] in 0..255 -> raw outputs.

        Args:
            sizes, targets, proposals: ignored.

        Raises:
            UsageError: H or W is not divisible by the stride, or the backbone needs a larger image.
        """
        require_input_size(images, self.stride)
        with _outputs_of(self.backbone, self.half_way) as half_way:
            last = self.backbone(self.normalize(images))[-1]
        outputs: ClassifierOutputs = self.head(last, half_way)
        return outputs

    def loss(self, outputs: ClassifierOutputs, targets: Sequence[Target]) -> Losses:
        """The named loss of the smoothed labels, a mean over the images; and that of the auxiliary heads, times 0.3.

        Args:
            targets: with one object each, which fills the picture.
        """
        labels = torch.cat([target.labels for target in targets])
        assert len(labels) == len(targets), "a picture has one class"
        parts = {"class": self._class_loss(outputs.logits, labels)}
        if outputs.auxiliary:
            losses = [self._class_loss(logits, labels) for logits in outputs.auxiliary]
            parts["auxiliary"] = AUXILIARY_WEIGHT * torch.stack(losses).sum()
        return Losses(parts)

    def _class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = self.class_loss(logits, labels, label_smoothing=self.label_smoothing)
        return losses.mean() * share_of_batch(len(labels))

    @torch.no_grad()
    def predict(
        self,
        outputs: ClassifierOutputs,
        *,
        score: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        masks: bool = True,
    ) -> list[ClassScores]:
        """Decisions, one ClassScores an image: the best class always, and the others that score enough.

        Args:
            score: lowest probability kept, but for the best.
            max_det: most classes an image.
            iou, masks: ignored: nothing overlaps.
        """
        found = []
        for probabilities in outputs.logits.float().softmax(1):
            # Stable: of equal scores the lower label first, as where scores are judged.
            scores, labels = probabilities.sort(descending=True, stable=True)
            kept = max(1, min(max_det, int((scores >= score).sum())))
            found.append(ClassScores(scores[:kept], labels[:kept]))
        return found


@contextmanager
def _outputs_of(network: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """A list that fills with what these modules of a network return while it runs, in that order.

    The hooks stay no longer than that: nothing of them is in a copy of the network.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output)

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(network.get_submodule(name).register_forward_hook(keep).remove)
        yield seen
