"""What training and evaluation see of a dataset: augmented, or just letterboxed; always in the network's square."""

from __future__ import annotations

from dataclasses import dataclass

from visionkit.data.augment import (
    AugmentSettings,
    augment,
    keyed_generator,
    letterboxed,
    random_colour,
    random_flip,
    square_frame,
)
from visionkit.data.dataset import DetectionDataset
from visionkit.data.mosaic import mosaic
from visionkit.imaging.letterbox import Frame
from visionkit.types import Sample


@dataclass(frozen=True, slots=True)
class TrainingView:
    """A dataset as training sees it: `view[epoch, draw]` is a function of (settings, size, seed, epoch, draw) alone.

    The epoch comes in with the index, so workers that live through all epochs need no shared state.

    Args:
        image_size: side of the network's square in pixels.
        seed: of the run, at least 0.
    """

    dataset: DetectionDataset
    settings: AugmentSettings
    image_size: int
    seed: int

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, Frame]:
        """The sample of (epoch, draw), boxes in network pixels, and its frame.

        A draw below the number of images N means that image; draw N + i means image i once more, varied anew.
        """
        epoch, draw = key
        index = draw % len(self.dataset)
        generator = keyed_generator(self.seed, epoch, draw)
        if generator.random() < self.settings.mosaic and epoch < self.settings.mosaic_epochs:
            partners = generator.integers(len(self.dataset), size=3)
            tiles = [random_flip(self.dataset.read(i), self.settings, generator) for i in (index, *map(int, partners))]
            sample = mosaic(tiles, self.image_size, generator, self.settings.mosaic_scale, self.settings.min_visible)
            return random_colour(sample, self.settings, generator), square_frame(self.image_size)
        return augment(self.dataset.read(index), self.image_size, self.settings, generator)


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """A dataset as evaluation sees it: every image once, letterboxed, every object kept."""

    dataset: DetectionDataset
    image_size: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, Frame]:
        """Image `index`, boxes in network pixels, and the frame that leads back to original pixels."""
        return letterboxed(self.dataset.read(index), self.image_size)
