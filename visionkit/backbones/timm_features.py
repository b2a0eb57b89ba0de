"""Any network of timm that can return feature maps; timm is an extra and imported only here, when one is asked for."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from torch import Tensor, nn

from visionkit.backbones.feature_stack import DETECTOR_STRIDES
from visionkit.errors import UsageError
from visionkit.nn.renormalize import Renormalize
from visionkit.types import Level, Unit

# What timm means where a network does not say.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class TimmFeatures(nn.Module):
    """A network of timm by its name, randomly initialised, with the parameter names timm gives it behind `network.`.

    `levels` are those of its maps that have stride 8, 16 or 32; of several at a stride the last. Units are the direct
    children of timm's network in their order. Where its weights want another normalisation than ImageNet's mean and
    deviation, images are rescaled first.

    `forward` takes normalised images f32 [B, 3, H, W], H and W divisible by 32, and returns one map [B, C, h, w] a
    level, whatever order of axes timm's network has.

    Args:
        name: as `timm.create_model` takes it, without `timm/`.

    Raises:
        UsageError: timm is not installed, does not know the name, or its network has no maps of such strides; in
            `forward`, the network was made for images of one size, as transformers are, and these have another.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        timm = _timm(name)
        if not timm.is_model(name):
            raise UsageError(
                f"timm has no network {name!r}; timm.list_models('{name[:4]}*') shows those that begin alike"
            )
        try:
            self.network = timm.create_model(name, pretrained=False, features_only=True)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(
                f"timm/{name} cannot return feature maps ({reason}); use a convolutional network of timm's"
            ) from None
        info = self.network.feature_info
        strides, channels = list(info.reduction()), list(info.channels())
        last = {stride: number for number, stride in enumerate(strides) if stride in DETECTOR_STRIDES}
        if not last:
            raise UsageError(
                f"timm/{name} has maps of stride {', '.join(map(str, strides))}, but none of 8, 16 or 32; use another"
            )
        self._numbers = [last[stride] for stride in sorted(last)]
        self.levels = tuple(Level(channels[number], strides[number]) for number in self._numbers)
        self.units = tuple(Unit(child, (f"network.{child}",)) for child, _ in self.network.named_children())
        self.name = name
        self._channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"  # as in Swin transformers
        trained = getattr(self.network, "pretrained_cfg", {})
        self._trained_size = tuple(trained.get("input_size", ()))[1:]
        self.renormalize = Renormalize(trained.get("mean", IMAGENET_MEAN), trained.get("std", IMAGENET_DEVIATION))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        try:
            maps = self.network(self.renormalize(images))
        except AssertionError as error:  # how timm says that a network takes one size alone
            raise self._other_size(images, error) from None
        chosen = (maps[number] for number in self._numbers)
        return tuple(level_map.movedim(-1, 1) if self._channels_last else level_map for level_map in chosen)

    def _other_size(self, images: Tensor, error: AssertionError) -> UsageError:
        height, width = images.shape[-2:]
        if not self._trained_size or (height, width) == self._trained_size:
            reason = " ".join(str(error).split()) or "no reason is given"
            return UsageError(f"timm/{self.name} does not take images of {height}x{width} ({reason}); use another")
        own = "x".join(map(str, self._trained_size))
        return UsageError(
            f"timm/{self.name} takes images of {own} pixels alone, got {height}x{width}; use --imgsz "
            f"{self._trained_size[0]} --set grow_from=1, or a convolutional network of timm's"
        )


def _timm(name: str) -> ModuleType:
    try:
        return import_module("timm")
    except ImportError:
        raise UsageError(
            f"backbone timm/{name} needs the package timm, which is not installed; "
            f"install it by: pip install 'visionkit[timm]'"
        ) from None
