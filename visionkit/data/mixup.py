"""Mixup: two images, one shining through the other, with the objects of both."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from visionkit.formats.outlines import Outlines
from visionkit.types import Sample

FAINTEST = 0.25
"""Neither image gets less than this share: a label on what hardly shows would teach to see what is not there."""

SHAPE = 1.5
"""Both shape parameters of the Beta distribution of the shares: most draws are near one half."""


def mixup(sample: Sample, other: Sample, generator: np.random.Generator) -> Sample:
    """Blend two images of one size and unite their objects (Zhang et al. 2018, mixup, sec. 2; for detectors Zhang et
    al. 2019, Bag of Freebies for Training Object Detection Neural Networks, sec. 3.1).

    The first image's share is drawn from Beta(1.5, 1.5), as there, but over [`FAINTEST`, 1 - `FAINTEST`]: the paper
    weighs each object's loss by the share of its image; here every object keeps weight 1, so both images must show.

    Args:
        sample: image u8 [H, W, 3]; neither sample is changed.
        other: image of the same size.
        generator: the sample's own, from `keyed_generator`.

    Returns:
        The blend, the objects of both, those of `sample` first, and its image id.
    """
    assert sample.image.shape == other.image.shape
    assert sample.semantic is None  # a pixel has one label
    share = FAINTEST + (1 - 2 * FAINTEST) * generator.beta(SHAPE, SHAPE)
    outlines = [part.outlines for part in (sample, other) if part.outlines is not None]
    regions = [part.proposals for part in (sample, other) if part.proposals is not None]
    blend = cv2.addWeighted(sample.image, share, other.image, 1 - share, 0)
    return replace(
        sample,
        image=blend,  # type: ignore[arg-type]
        boxes=np.concatenate((sample.boxes, other.boxes)),
        labels=np.concatenate((sample.labels, other.labels)),
        ignore=np.concatenate((sample.ignore, other.ignore)),
        outlines=Outlines.joined(outlines) if outlines else None,
        proposals=np.concatenate(regions) if regions else None,
    )
