"""What training and evaluation see of a dataset: augmented, or just letterboxed; always in the network's square."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from visionkit.data.augment import AugmentSettings, keyed_generator
from visionkit.data.colour import random_colour
from visionkit.data.copy_paste import copy_paste
from visionkit.data.framing import letterboxed, random_framing, random_mirroring, random_transpose, square_frame
from visionkit.data.growth import NO_GROWTH, STRIDE, Growth
from visionkit.data.mixup import mixup
from visionkit.data.mosaic import mosaic
from visionkit.imaging.letterbox import Frame, frame_sides
from visionkit.types import Sample

Framing = Callable[[Sample, int, AugmentSettings, np.random.Generator, NDArray[np.uint8] | None], tuple[Sample, Frame]]


class Samples(Protocol):
    """A dataset: samples in original pixels, by number."""

    def __len__(self) -> int: ...

    def read(self, index: int, /) -> Sample: ...


class Sized(Samples, Protocol):
    """A dataset that knows the sizes of its images before they are read."""

    @property
    def sizes(self) -> NDArray[np.int32]:
        """[N, 2] width and height in pixels."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingView:
    """A dataset as training sees it: `view[epoch, draw]` is a function of (settings, size, seed, epoch, draw) alone.

    The epoch comes in with the index, so workers that live through all epochs need no shared state.

    Args:
        image_size: side of the network's square in pixels.
        seed: of the run, at least 0.
        growth: of the squares in the first epochs.
        framing: how an image that stands alone comes into the square.
    """

    dataset: Samples
    settings: AugmentSettings
    image_size: int
    seed: int
    growth: Growth = NO_GROWTH
    framing: Framing = random_framing

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, Frame]:
        """The sample of (epoch, draw) at `image_size`, boxes in network pixels, and its frame.

        A draw below the number of images N means that image; draw N + i means image i once more, varied anew.
        """
        return self.render(key, self.image_size)

    def batch_image_size(self, epoch: int, batch: int) -> int:
        """Side in pixels of the squares of an epoch's batch, both counted from 0: what they have grown to, varied by
        `AugmentSettings.multi_scale`."""
        size = self.growth.size(self.image_size, epoch)
        spread = self.settings.multi_scale
        if not spread:
            return size
        low, high = (side // STRIDE for side in multi_scale_bounds(size, spread))
        # Four numbers: a key that no sample has.
        return STRIDE * int(keyed_generator(self.seed, epoch, batch, 0).integers(low, high + 1))

    def render(self, key: tuple[int, int], size: int, out: NDArray[np.uint8] | None = None) -> tuple[Sample, Frame]:
        """As `view[key]`, in a square of `size` pixels; drawn on `out` u8 [size, size, 3], or on a new one."""
        epoch, draw = key
        settings = self.settings
        generator = keyed_generator(self.seed, epoch, draw)
        may_compose = epoch < settings.mosaic_epochs
        sample, frame = self._placed(draw % len(self.dataset), size, generator, may_compose, out)
        if settings.copy_paste and generator.random() < settings.copy_paste:
            donor = self._another(size, generator, may_compose)
            sample = copy_paste(sample, donor, generator, min_visible=settings.min_visible)
        if settings.mixup and may_compose and generator.random() < settings.mixup:
            sample = mixup(sample, self._another(size, generator, may_compose), generator)
        return random_colour(sample, settings, generator, sample.image if out is None else out), frame

    def _placed(
        self,
        index: int,
        size: int,
        generator: np.random.Generator,
        may_compose: bool,
        out: NDArray[np.uint8] | None = None,
    ) -> tuple[Sample, Frame]:
        """Image `index` in the square, alone or as one of a mosaic; in its own colours."""
        settings = self.settings
        if not (generator.random() < settings.mosaic and may_compose):
            return self.framing(self._read(index, generator), size, settings, generator, out)
        partners = generator.integers(len(self.dataset), size=3).tolist()
        tiles = [self._read(i, generator) for i in (index, *partners)]
        mirrored = [random_mirroring(settings, generator) for _ in tiles]
        sample = mosaic(tiles, size, generator, settings.mosaic_scale, settings.min_visible, mirrored, out)
        return sample, square_frame(size)

    def _read(self, index: int, generator: np.random.Generator) -> Sample:
        return random_transpose(self.dataset.read(index), self.settings, generator)

    def _another(self, size: int, generator: np.random.Generator, may_compose: bool) -> Sample:
        return self._placed(int(generator.integers(len(self.dataset))), size, generator, may_compose)[0]


def multi_scale_bounds(size: int, spread: float) -> tuple[int, int]:
    """The smallest and the largest side in pixels, multiples of `STRIDE`, that lie in [1 - spread, 1 + spread] sizes.

    >>> multi_scale_bounds(320, 0.25)  # 240 to 400
    (256, 384)
    """
    # Rounded, because 800 * (1 - 0.44) is a little more than 448, and 800 * (1 + 0.16) a little less than 928.
    low, high = (round(size * (1 + way * spread) / STRIDE, 6) for way in (-1, 1))
    smallest = max(1, math.ceil(low))
    return STRIDE * smallest, STRIDE * max(smallest, math.floor(high))


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """A dataset as evaluation sees it: every image once, letterboxed, every object kept.

    Args:
        image_size: side of the network's square in pixels.
        multiple: as of `letterbox`; then the dataset must know the sizes of its images.
    """

    dataset: Samples
    image_size: int
    multiple: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, Frame]:
        """Image `index`, boxes in network pixels, and the frame that leads back to original pixels."""
        return self.render(index, self.image_size)

    def sides(self) -> list[tuple[int, int]]:
        """Of each image in the view height and width in pixels."""
        if self.multiple is None:
            return [(self.image_size, self.image_size)] * len(self)
        sizes = cast(Sized, self.dataset).sizes.tolist()
        return [frame_sides(height, width, self.image_size, self.multiple) for width, height in sizes]

    def render(self, index: int, size: int, out: NDArray[np.uint8] | None = None) -> tuple[Sample, Frame]:
        """As `view[index]`, in a square of `size` pixels, or what it needs of it; drawn on `out` u8 of that size, or on
        a new one."""
        return letterboxed(self.dataset.read(index), size, out, multiple=self.multiple)
