"""One picture of the sample: which objects lie where, and what of each stays visible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionkit.data.sample_paint import TEXTURES, Rng, Sprite, draw_ground, draw_sprite, photograph

MIN_SHARE = 0.4
MIN_PIXELS = 24
_NO_OBJECT = -1


@dataclass(frozen=True, slots=True)
class SampleClass:
    """A class of the sample: its COCO category id, its name, and the shape and texture that only together make it."""

    category_id: int
    name: str
    shape: str
    texture: str


@dataclass(frozen=True, slots=True)
class Thing:
    """An annotated object of a scene.

    Args:
        label: index into the set's classes.
        full_area: pixels it would show if nothing lay on it and no border cut it.
        crowd: a cluster under one annotation.
    """

    label: int
    full_area: int
    crowd: bool = False


@dataclass(slots=True)
class Scene:
    """A picture in the making, drawn back to front.

    Args:
        image: f32 [H, W, 3] RGB while it is drawn, u8 once finished.
        owner: i16 [H, W]; which of `things` each pixel shows, or -1.
        things: the annotated objects, in drawing order.
    """

    image: NDArray[Any]
    owner: NDArray[np.int16]
    things: list[Thing] = field(default_factory=list)

    def visible_masks(self) -> Iterator[tuple[Thing, NDArray[np.bool_]]]:
        """Each thing with its visible mask, bool [H, W]."""
        for index, thing in enumerate(self.things):
            yield thing, self.owner == index


def draw_scene(rng: Rng, classes: tuple[SampleClass, ...], size: int) -> Scene:
    """One picture of the given classes and where its objects are.

    Args:
        rng: decides everything.
        classes: the set's classes.
        size: longer side in pixels.

    Returns:
        The finished scene, image u8 [H, W, 3] RGB.
    """
    height, width = _image_shape(rng, size)
    scene = Scene(draw_ground(rng, height, width), np.full((height, width), _NO_OBJECT, np.int16))
    is_background, has_crowd = rng.random() < 0.08, rng.random() < 0.08
    if has_crowd and not is_background:
        _add_crowd(scene, rng, classes, size)
    objects = 0 if is_background else int(rng.integers(2, 7))
    distractors = int(rng.integers(1 if is_background else 0, 4))
    for is_object in rng.permutation([True] * objects + [False] * distractors):
        if is_object:
            label = int(rng.integers(len(classes)))
            sprite = draw_sprite(rng, classes[label].shape, classes[label].texture, _diameter(rng, size))
            _try_to_place(scene, rng, sprite, label)
        else:
            _try_to_place(scene, rng, _distractor(rng, size), None)
    scene.image = photograph(rng, scene.image)
    return scene


def semantic_mask(scene: Scene, background: int) -> NDArray[np.uint8]:
    """u8 [H, W]: the label of the object each pixel shows, `background` where there is none."""
    labels = np.array([thing.label for thing in scene.things] + [background], np.uint8)
    return labels[scene.owner]  # _NO_OBJECT is -1: the last entry


def _image_shape(rng: Rng, size: int) -> tuple[int, int]:
    """Height and width: half of the images square, the others lying or standing, down to 2:3."""
    shorter = size if rng.random() < 0.5 else round(size * rng.uniform(2 / 3, 0.95))
    return (shorter, size) if rng.random() < 0.6 else (size, shorter)


def _diameter(rng: Rng, size: int) -> float:
    """Pixels: from a twelfth to more than half of the image, small ones more often."""
    smallest = max(9.0, 0.08 * size)
    return float(smallest + (0.6 * size - smallest) * rng.random() ** 1.4)


def _try_to_place(scene: Scene, rng: Rng, sprite: Sprite, label: int | None) -> None:
    """Lay the sprite where the truth survives it; after a few tries in vain leave it out."""
    height, width = scene.owner.shape
    solid = sprite.alpha >= 0.5
    for _ in range(6):
        centre = rng.uniform(0.04, 0.96, 2) * (width, height)
        if scene.things and rng.random() < 0.15:  # seek company: occlusion should not be left to chance
            ys, xs = np.nonzero(scene.owner == rng.integers(len(scene.things)))
            pick = rng.integers(len(xs))
            centre = np.array([xs[pick], ys[pick]]) + rng.uniform(-0.4, 0.4, 2) * solid.shape[::-1]
        x, y = round(centre[0] - solid.shape[1] / 2), round(centre[1] - solid.shape[0] / 2)
        if _truth_survives(scene, solid, x, y, label is not None):
            owner = _NO_OBJECT
            if label is not None:
                owner = len(scene.things)
                scene.things.append(Thing(label, int(np.count_nonzero(solid))))
            _lay(scene, sprite, x, y, owner)
            return


def _truth_survives(scene: Scene, solid: NDArray[np.bool_], x: int, y: int, is_object: bool) -> bool:
    """Whether a shape laid at x, y shows enough of itself and leaves enough of all others to see."""
    height, width = scene.owner.shape
    there, part = _overlap(solid.shape, x, y, height, width)
    covered = solid[part]
    if is_object and not _counts_as_visible(int(np.count_nonzero(covered)), int(np.count_nonzero(solid))):
        return False
    hidden = np.bincount(scene.owner[there][covered] + 1, minlength=len(scene.things) + 1)[1:]
    return all(
        _counts_as_visible(int(np.count_nonzero(scene.owner == i) - hidden[i]), scene.things[i].full_area)
        for i in np.flatnonzero(hidden)
    )


def _counts_as_visible(visible: int, full: int) -> bool:
    return visible >= max(MIN_PIXELS, MIN_SHARE * full)


def _overlap(
    shape: tuple[int, ...], x: int, y: int, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch at x, y meets the image: its slices of the image, and of the patch."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = max(top, min(y + shape[0], height)), max(left, min(x + shape[1], width))
    return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))


def _lay(scene: Scene, sprite: Sprite, x: int, y: int, owner: int) -> None:
    """Composite a sprite into the picture, with its shadow, and claim its pixels for `owner`."""
    height, width = scene.owner.shape
    if sprite.shadow:
        offset = max(1, round(0.04 * sprite.alpha.shape[0]))
        soft = cv2.blur(sprite.alpha, (2 * offset + 1, 2 * offset + 1))
        there, part = _overlap(soft.shape, x + offset, y + offset, height, width)
        scene.image[there] *= 1 - sprite.shadow * soft[part][..., None]
    there, part = _overlap(sprite.alpha.shape, x, y, height, width)
    alpha = sprite.alpha[part][..., None]
    ground = scene.image[there]
    ground += alpha * (sprite.colour[part] - ground)
    scene.owner[there][sprite.alpha[part] >= 0.5] = owner


def _add_crowd(scene: Scene, rng: Rng, classes: tuple[SampleClass, ...], size: int) -> None:
    """A dense cluster of one class, annotated as one crowd. Drawn first: it may be occluded, but hides nothing."""
    label = int(rng.integers(len(classes)))
    height, width = scene.owner.shape
    centre = rng.uniform(0.25, 0.75, 2) * (width, height)
    diameter = max(9.0, size * rng.uniform(0.05, 0.09))
    spread = diameter * rng.uniform(1.4, 2.6, 2)
    for _ in range(int(rng.integers(14, 28))):
        sprite = draw_sprite(rng, classes[label].shape, classes[label].texture, diameter * rng.uniform(0.8, 1.2))
        spot = centre + rng.uniform(-1, 1, 2) * spread - sprite.alpha.shape[0] / 2
        _lay(scene, sprite, round(spot[0]), round(spot[1]), 0)
    scene.things.append(Thing(label, int(np.count_nonzero(scene.owner == 0)), crowd=True))


def _distractor(rng: Rng, size: int) -> Sprite:
    """A shape of no class: a bar that may share a texture with one, or a plain blob."""
    if rng.random() < 0.5:
        return draw_sprite(rng, "bar", str(rng.choice([*TEXTURES, "plain"])), 0.3 * size)
    return draw_sprite(rng, "blob", "plain", _diameter(rng, size))
