"""A picture to try a model with, where one has none at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from visionkit.classes import ClassTable
from visionkit.data.sample import CLASSES, SampleSet
from visionkit.data.sample_scene import draw_scene
from visionkit.imaging.reader import check_image

SIDE = 640
SEED = 4


def own_sample(file: Path) -> Callable[[], bytes]:
    """What reads the user's own picture. Raises DataError where it is none."""
    check_image(file)
    return file.read_bytes


def sample_for(classes: ClassTable) -> Callable[[], bytes]:
    """What makes an image file that shows what a model of these classes may know, or else something."""
    drawn = {name: variant for variant, known in CLASSES.items() for name in (each.name for each in known)}
    variant = next((drawn[name] for name in classes.names if name in drawn), None)
    if variant is None and "cat" in classes.names:
        return _cat
    return cache(lambda: _drawn(variant or "a"))


def _cat() -> bytes:
    """Chelsea the cat, photographed by Stéfan van der Walt, who gave it away under CC0; 451 x 300 px."""
    return resources.files("visionkit.serve").joinpath("cat.jpg").read_bytes()


def _drawn(variant: SampleSet) -> bytes:
    """A picture as in the sample dataset that this project draws."""
    scene = draw_scene(np.random.default_rng(SEED), CLASSES[variant], SIDE)
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(scene.image[:, :, ::-1]))
    assert done
    return data.tobytes()
