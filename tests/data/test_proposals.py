"""Proposals go where the objects go: through every augmentation and into the batch."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from visionkit.data.augment import AugmentSettings
from visionkit.data.collate import pack
from visionkit.data.framing import letterboxed
from visionkit.data.views import EvaluationView, TrainingView
from visionkit.types import Sample

SIDE = 128
BOXES = np.array([[10, 20, 58, 68], [90, 50, 150, 110]], np.float32)


@dataclass(frozen=True)
class Proposed:
    """Pictures of 160 x 120 px; their objects are proposed, and a third box; of the second picture nothing is."""

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> Sample:
        proposals = np.concatenate((BOXES, [[0, 0, 160, 30]])).astype(np.float32)
        return Sample(
            np.zeros((120, 160, 3), np.uint8),
            boxes=BOXES.copy(),
            labels=np.array([0, 1]),
            ignore=np.zeros(2, np.bool_),
            image_id=index,
            proposals=proposals[:0] if index == 1 else proposals,
        )


AUGMENTATIONS = {
    "mirror": AugmentSettings(flip_left_right=0.5, flip_up_down=0.5),
    "transpose": AugmentSettings(transpose=1.0),
    "crop": AugmentSettings(crop=1.0),
    "turn and shear": AugmentSettings(affine=1.0, degrees=25, shear=8, translate=0.2, scale=0.3),
    "mosaic": AugmentSettings(mosaic=1.0, flip_left_right=0.5),
    "mixup": AugmentSettings(mixup=1.0),
}


@pytest.mark.parametrize("settings", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_what_is_proposed_goes_with_its_object(settings: AugmentSettings) -> None:
    class Always(Proposed):
        def read(self, index: int) -> Sample:
            return Proposed().read(0)

    view = TrainingView(Always(), settings, SIDE, seed=0)
    objects = 0
    for draw in range(6):
        sample = view[0, draw][0]
        assert sample.proposals is not None
        assert sample.proposals.dtype == np.float32
        assert sample.proposals.min() >= 0
        assert sample.proposals.max() <= SIDE
        distance = np.abs(sample.boxes[:, None] - sample.proposals).max(2)
        assert (distance.min(1) < 1e-3).all()
        objects += len(sample.boxes)
    assert objects >= 6


def test_a_batch_has_the_proposals_of_each_image() -> None:
    view = EvaluationView(Proposed(), SIDE)
    batch = pickle.loads(pickle.dumps(pack([view[i] for i in range(3)]))).unpack()
    assert batch.proposals is not None
    assert [len(boxes) for boxes in batch.proposals] == [3, 0, 3]
    # 160 px become 128: a factor of 0.8, and 16 px of padding above.
    assert batch.proposals[2][0].tolist() == pytest.approx([8, 32, 46.4, 70.4], abs=1e-4)
    plain = letterboxed(
        Sample(np.zeros((8, 8, 3), np.uint8), BOXES, np.zeros(2, np.int64), np.zeros(2, np.bool_), 1), 8
    )
    assert pack([plain]).unpack().proposals is None
