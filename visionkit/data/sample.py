"""The `sample` dataset: textured shapes on cluttered ground, drawn here with exact truth and written as plain COCO.

Two sets with no class in common, `a` to learn from and `b` to fine-tune on, made of the same strokes: a class is a
shape AND a texture, colour says nothing, and things of no class (bars with the same textures, plain blobs) lie
between. What is promised about the truth:

- Every object that is drawn is annotated. An object that would show less than `MIN_SHARE` of itself or less than
  `MIN_PIXELS` pixels, or would hide another one that far, is never drawn; so nothing half-hidden counts as background.
- Boxes and masks are of the visible part, and `area` counts the mask's pixels. Masks are RLE because a polygon cannot
  tell an occluded, multi-part or hollow shape exactly: compressed for objects, uncompressed for crowds, as in COCO.
- A crowd is a dense cluster of one class under one annotation with `iscrowd` 1.
- Semantic masks hold the label 0..K-1 of the visible object (crowds too) and K for background; 255 does not occur.
  `classes.json` names these indices.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from visionkit.errors import UsageError

SampleSet = Literal["a", "b"]
VERSION = 1  # raise it whenever a pixel or an annotation changes: stored sets of another version are not reused
DEFAULT_IMAGES: Mapping[str, int] = {"train": 320, "val": 80, "test": 40}

MIN_SHARE = 0.4
MIN_PIXELS = 24
SMALLEST_IMAGE = 64

_Floats = NDArray[np.float32]
_Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class SampleClass:
    """A class of the sample: its COCO category id, its name, and the shape and texture that only together make it."""

    category_id: int
    name: str
    shape: str
    texture: str


# Ids have gaps and do not start at 1, as real files do. In each set one pair differs by texture alone.
CLASSES: Mapping[SampleSet, tuple[SampleClass, ...]] = {
    "a": (
        SampleClass(3, "striped disc", "disc", "stripes"),
        SampleClass(7, "dotted ring", "ring", "dots"),
        SampleClass(11, "checker square", "square", "checker"),
        SampleClass(20, "striped square", "square", "stripes"),
        SampleClass(41, "dotted star", "star", "dots"),
    ),
    "b": (
        SampleClass(5, "striped triangle", "triangle", "stripes"),
        SampleClass(8, "dotted triangle", "triangle", "dots"),
        SampleClass(17, "checker cross", "cross", "checker"),
        SampleClass(23, "dotted crescent", "crescent", "dots"),
    ),
}

_SPLITS = ("train", "val", "test")
_TEXTURES = ("stripes", "dots", "checker")
_NO_OBJECT = -1


# --- The dataset: splits, files, reuse -------------------------------------------------------------------------------


def render_sample(
    out: Path, *, variant: SampleSet = "a", seed: int = 0, images: Mapping[str, int] | None = None, size: int = 256
) -> Path:
    """Draw the sample dataset into the folder `out`: the same bytes for the same arguments.

    Written: `images/*.jpg`, `annotations/{split}.json` (COCO), `masks/{split}/*.png` with `classes.json` (semantic
    masks), and `sample.json` (how it was made). The folder appears whole or not at all, and one that already holds
    this very set is reused. Image i of a split does not depend on how many are drawn.

    Args:
        out: the folder to make; its parents are made too.
        variant: `a` (5 classes) or `b` (4 classes, none of them in `a`).
        seed: another seed draws other pictures of the same kind.
        images: how many images each split has; splits are train, val and test. Default: `DEFAULT_IMAGES`.
        size: the longer side of each image in pixels; the shorter one varies from 2/3 of it to all of it.

    Returns:
        `out`.

    Raises:
        UsageError: an argument out of range, or `out` holds something else.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sample = render_sample(Path(folder) / "sample", images={"train": 2})
    ...     truth = json.loads((sample / "annotations/train.json").read_text())
    >>> [category["name"] for category in truth["categories"][:3]]
    ['striped disc', 'dotted ring', 'checker square']
    """
    recipe = _recipe(variant, seed, DEFAULT_IMAGES if images is None else images, size)
    if _holds(out, recipe):
        return out
    target = out.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside `out`, not in the system's temporary folder: a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        unfinished = Path(scratch) / target.name
        _write_dataset(unfinished, recipe)
        try:
            if target.exists():
                target.rmdir()  # empty, as `_holds` saw; Windows cannot rename onto it
            os.replace(unfinished, target)
        except OSError:
            if not _holds(out, recipe):  # else another process finished the same set first
                raise
    return out


def _recipe(variant: str, seed: int, images: Mapping[str, int], size: int) -> dict[str, Any]:
    """The checked arguments, as `sample.json` stores them."""
    if variant not in get_args(SampleSet):
        raise UsageError(f"sample variant must be one of {', '.join(get_args(SampleSet))}, got {variant!r}")
    if seed < 0:
        raise UsageError(f"sample seed must be 0 or more, got {seed}")
    if size < SMALLEST_IMAGE:
        raise UsageError(f"sample size must be at least {SMALLEST_IMAGE} pixels, got {size}; use 256")
    unknown = sorted(set(images) - set(_SPLITS))
    if unknown or not images:
        raise UsageError(f"sample splits must be some of {', '.join(_SPLITS)}, got {', '.join(unknown) or 'none'}")
    for split, count in images.items():
        if count < 1:
            raise UsageError(f"each sample split needs at least 1 image, got {split} {count}; leave the split out")
    ordered = {split: int(images[split]) for split in _SPLITS if split in images}
    return {"sample": variant, "version": VERSION, "seed": int(seed), "size": int(size), "images": ordered}


def _holds(out: Path, recipe: dict[str, Any]) -> bool:
    """Whether `out` already is the finished set of this recipe. Raises UsageError if it is anything else but empty."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / "sample.json").read_text())
    except (OSError, ValueError):
        raise UsageError(f"{out} already exists and is no sample dataset; name a new folder") from None
    if found != recipe:
        made_by = json.dumps(found, sort_keys=True)
        raise UsageError(f"{out} already holds a sample made with other values, {made_by}; name a new folder")
    return True


def _write_dataset(root: Path, recipe: dict[str, Any]) -> None:
    classes = CLASSES[recipe["sample"]]
    for folder in ("images", "annotations", *(f"masks/{split}" for split in recipe["images"])):
        (root / folder).mkdir(parents=True)
    for split, count in recipe["images"].items():
        _write_json(root / "annotations" / f"{split}.json", _write_split(root, split, count, classes, recipe))
    names = [*(c.name for c in classes), "background"]
    _write_json(root / "classes.json", [{"id": index, "name": name} for index, name in enumerate(names)])
    _write_json(root / "sample.json", recipe)


def _write_split(
    root: Path, split: str, count: int, classes: tuple[SampleClass, ...], recipe: dict[str, Any]
) -> dict[str, Any]:
    """Draw a split's images and semantic masks; return its COCO annotations."""
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    split_code, set_code = _SPLITS.index(split), get_args(SampleSet).index(recipe["sample"])
    for index in range(count):
        rng = np.random.default_rng([recipe["seed"], set_code, split_code, index])
        scene = draw_scene(rng, classes, recipe["size"])
        stem = f"{split}_{index:05d}"
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        _write_image(root / "images" / f"{stem}.jpg", scene.image[:, :, ::-1], quality)  # cv2 writes BGR
        _write_image(root / "masks" / split / f"{stem}.png", semantic_mask(scene, len(classes)), [])
        height, width = scene.owner.shape
        image_id = (split_code + 1) * 1_000_000 + index  # unique over splits, and not the index
        records.append({"id": image_id, "file_name": f"{stem}.jpg", "width": width, "height": height})
        for thing, mask in scene.visible_masks():
            annotation = _annotation(mask, thing.crowd)
            owner = {"id": len(annotations) + 1, "image_id": image_id, "category_id": classes[thing.label].category_id}
            annotations.append(owner | annotation)
    return {
        "info": {"description": f"visionkit sample {recipe['sample']}, drawn by a program", "version": str(VERSION)},
        "licenses": [],
        "images": records,
        "annotations": annotations,
        "categories": [{"id": c.category_id, "name": c.name, "supercategory": c.shape} for c in classes],
    }


def _annotation(mask: NDArray[np.bool_], crowd: bool) -> dict[str, Any]:
    """COCO's geometry of a visible mask [H, W]: tight `x y w h`, pixel area, RLE."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return {
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": int(crowd),
        "segmentation": _uncompressed_rle(mask) if crowd else _compressed_rle(mask),
    }


def _compressed_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def _uncompressed_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Run lengths down the columns, the first one of background (COCO data format)."""
    padded = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(np.diff(padded))  # where the value changes; a mask that starts at once has a run of 0
    runs = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {"size": list(mask.shape), "counts": runs.tolist()}


def _write_image(path: Path, pixels: NDArray[np.uint8], options: list[int]) -> None:
    # Not cv2.imwrite: it reports a full disk or a non-ASCII Windows path by returning False.
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(pixels), options)
    assert done
    path.write_bytes(data.tobytes())


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


# --- A scene: who lies where, what stays visible ---------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class _Sprite:
    """A shape ready to be laid into a scene: alpha f32 [h, w] in [0, 1], colour f32 [h, w, 3] RGB, drop shadow 0..1."""

    alpha: _Floats
    colour: _Floats
    shadow: float


def draw_scene(rng: _Rng, classes: tuple[SampleClass, ...], size: int) -> Scene:
    """One picture of the given classes and where its objects are.

    Args:
        rng: decides everything.
        classes: the set's classes.
        size: longer side in pixels.

    Returns:
        The finished scene, image u8 [H, W, 3] RGB.
    """
    height, width = _image_shape(rng, size)
    scene = Scene(_ground(rng, height, width), np.full((height, width), _NO_OBJECT, np.int16))
    is_background, has_crowd = rng.random() < 0.08, rng.random() < 0.08
    if has_crowd and not is_background:
        _add_crowd(scene, rng, classes, size)
    objects = 0 if is_background else int(rng.integers(2, 7))
    distractors = int(rng.integers(1 if is_background else 0, 4))
    for is_object in rng.permutation([True] * objects + [False] * distractors):
        if is_object:
            label = int(rng.integers(len(classes)))
            sprite = _sprite(rng, classes[label].shape, classes[label].texture, _diameter(rng, size))
            _try_to_place(scene, rng, sprite, label)
        else:
            _try_to_place(scene, rng, _distractor(rng, size), None)
    scene.image = _photograph(rng, scene.image)
    return scene


def semantic_mask(scene: Scene, background: int) -> NDArray[np.uint8]:
    """u8 [H, W]: the label of the object each pixel shows, `background` where there is none."""
    labels = np.array([thing.label for thing in scene.things] + [background], np.uint8)
    return labels[scene.owner]  # _NO_OBJECT is -1: the last entry


def _image_shape(rng: _Rng, size: int) -> tuple[int, int]:
    """Height and width: half of the images square, the others lying or standing, down to 2:3."""
    shorter = size if rng.random() < 0.5 else round(size * rng.uniform(2 / 3, 0.95))
    return (shorter, size) if rng.random() < 0.6 else (size, shorter)


def _diameter(rng: _Rng, size: int) -> float:
    """Pixels: from a twelfth to more than half of the image, small ones more often."""
    smallest = max(9.0, 0.08 * size)
    return float(smallest + (0.6 * size - smallest) * rng.random() ** 1.4)


def _try_to_place(scene: Scene, rng: _Rng, sprite: _Sprite, label: int | None) -> None:
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


def _lay(scene: Scene, sprite: _Sprite, x: int, y: int, owner: int) -> None:
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


def _add_crowd(scene: Scene, rng: _Rng, classes: tuple[SampleClass, ...], size: int) -> None:
    """A dense cluster of one class, annotated as one crowd. Drawn first: it may be occluded, but hides nothing."""
    label = int(rng.integers(len(classes)))
    height, width = scene.owner.shape
    centre = rng.uniform(0.25, 0.75, 2) * (width, height)
    diameter = max(9.0, size * rng.uniform(0.05, 0.09))
    spread = diameter * rng.uniform(1.4, 2.6, 2)
    for _ in range(int(rng.integers(14, 28))):
        sprite = _sprite(rng, classes[label].shape, classes[label].texture, diameter * rng.uniform(0.8, 1.2))
        spot = centre + rng.uniform(-1, 1, 2) * spread - sprite.alpha.shape[0] / 2
        _lay(scene, sprite, round(spot[0]), round(spot[1]), 0)
    scene.things.append(Thing(label, int(np.count_nonzero(scene.owner == 0)), crowd=True))


def _distractor(rng: _Rng, size: int) -> _Sprite:
    """A shape of no class: a bar that may share a texture with one, or a plain blob."""
    if rng.random() < 0.5:
        return _sprite(rng, "bar", str(rng.choice([*_TEXTURES, "plain"])), 0.3 * size)
    return _sprite(rng, "blob", "plain", _diameter(rng, size))


# --- A sprite: a shape with a texture --------------------------------------------------------------------------------


def _polar(angles: NDArray[Any], radii: Any) -> NDArray[np.float64]:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _circle(radius: float) -> NDArray[np.float64]:
    return _polar(np.linspace(0, 2 * np.pi, 48, endpoint=False), radius)


def _spokes(radii: list[float]) -> NDArray[np.float64]:
    """The closed outline with corners at these radii, evenly spaced in angle."""
    return _polar(2 * np.pi * np.arange(len(radii)) / len(radii), np.array(radii))


def _crescent() -> NDArray[np.float64]:
    """The unit disc less a smaller one whose circle cuts it at 45 degrees: outer arc there, inner arc back."""
    tip, inner_centre = math.sqrt(0.5), 0.62
    start = math.atan2(tip, tip - inner_centre)
    outer = _polar(np.linspace(np.pi / 4, 7 / 4 * np.pi, 40), 1)
    inner = _polar(np.linspace(2 * np.pi - start, start, 30), math.hypot(tip, tip - inner_centre))
    return np.concatenate([outer, inner + np.array([inner_centre, 0])])


def _blob(rng: _Rng) -> NDArray[np.float64]:
    """A smooth potato: a circle with a few random harmonics."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radii = np.ones_like(angles)
    for harmonic in (2, 3, 4, 5):
        radii += rng.uniform(0, 0.45 / harmonic) * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    return _polar(angles, radii / radii.max())


def _cross() -> NDArray[np.float64]:
    corner = np.array([(-0.34, -0.94), (0.34, -0.94), (0.34, -0.34)])
    return np.concatenate([corner @ _turn(quarter * np.pi / 2).T for quarter in range(4)])


def _bar() -> NDArray[np.float64]:
    return np.array([(-1, -0.13), (1, -0.13), (1, 0.13), (-1, 0.13)])


# Outlines [points, 2] of radius about 1 around the origin, filled by the even-odd rule: a second one is a hole.
_OUTLINES: Mapping[str, Callable[[_Rng], list[NDArray[np.float64]]]] = {
    "disc": lambda rng: [_circle(1)],
    "ring": lambda rng: [_circle(1), _circle(0.5)],
    "triangle": lambda rng: [_spokes([1] * 3)],
    "square": lambda rng: [_spokes([1] * 4)],
    "star": lambda rng: [_spokes([1, 0.45] * 5)],
    "cross": lambda rng: [_cross()],
    "crescent": lambda rng: [_crescent()],
    "bar": lambda rng: [_bar()],
    "blob": lambda rng: [_blob(rng)],
}


def _turn(angle: float) -> NDArray[np.float64]:
    """The 2x2 rotation matrix of an angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _sprite(rng: _Rng, shape: str, texture: str, diameter: float) -> _Sprite:
    """A shape turned, slightly squeezed and sheared, filled with a two-coloured texture, lit from one side."""
    to_pixels = _turn(rng.uniform(0, 2 * np.pi)) @ np.array([[1, rng.uniform(-0.15, 0.15)], [0, rng.uniform(0.75, 1)]])
    to_pixels *= diameter / 2
    outlines = [contour @ to_pixels.T for contour in _OUTLINES[shape](rng)]
    half = math.ceil(max(float(np.abs(o).max()) for o in outlines)) + 1
    outlined = 0.0 if rng.random() < 0.5 else rng.uniform(0.03, 0.06) * diameter
    alpha, rim = _rasterise(outlines, half, outlined)

    first, second, rim_colour = _colours(rng)
    mix = _texture(rng, texture, half, to_pixels, diameter)[..., None]
    colour = first + mix * (second - first)
    colour += rim[..., None] * (rim_colour - colour)
    ramp = np.linspace(-1, 1, 2 * half, dtype=np.float32)
    lean = rng.uniform(-0.16, 0.16, 2).astype(np.float32)
    colour *= 1 + (lean[0] * ramp[:, None] + lean[1] * ramp)[..., None]
    shadow = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.15, 0.5))
    return _Sprite(alpha, np.minimum(colour, 255).astype(np.float32), shadow)


def _rasterise(outlines: list[NDArray[Any]], half: int, rim_width: float) -> tuple[_Floats, _Floats]:
    """Antialiased alpha and rim, f32 [2 half, 2 half] in [0, 1], of outlines in pixels around the centre."""
    fine = 4 if half < 40 else 2  # subpixels a side
    side, shift = 2 * half, 4
    points = [np.round(((o + half) * fine - 0.5) * 2**shift).astype(np.int32) for o in outlines]
    layers = [np.zeros((side * fine, side * fine), np.uint8) for _ in range(2)]
    cv2.fillPoly(layers[0], points, 255, cv2.LINE_8, shift)
    if rim_width:
        cv2.polylines(layers[1], points, True, 255, max(1, round(rim_width * fine)), cv2.LINE_8, shift)
    alpha, rim = (cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255) for layer in layers)
    return alpha, rim


def _texture(rng: _Rng, texture: str, half: int, to_pixels: NDArray[np.float64], diameter: float) -> _Floats:
    """f32 [2 half, 2 half] in [0, 1]: how much of the second colour each pixel shows."""
    if texture == "plain":
        return np.zeros((2 * half, 2 * half), np.float32)
    # Periods are counted across the object, so the texture grows with it; turned anew, so its angle tells nothing.
    periods = rng.uniform(1.5, 2.6) if texture == "checker" else rng.uniform(2.7, 4.5)
    axes = _turn(rng.uniform(0, 2 * np.pi)) @ np.linalg.inv(to_pixels) * (np.pi * periods)
    phase = rng.uniform(0, 2 * np.pi, 2)
    centred = np.arange(2 * half) - (half - 0.5)
    u, v = (np.add.outer(axes[k, 1] * centred + phase[k], axes[k, 0] * centred).astype(np.float32) for k in (0, 1))
    match texture:
        case "stripes":
            wave = np.sin(u)
        case "checker":
            wave = 1.5 * np.sin(u) * np.sin(v)
        case "dots":
            wave = np.cos(u) + np.cos(v) - np.float32(0.55)
        case _:
            raise AssertionError(texture)
    # The wave becomes an edge about one pixel wide: sharp, yet free of aliasing.
    pixels_per_radian = diameter / (2 * np.pi * periods)
    return np.asarray(np.clip(0.5 + max(0.6, pixels_per_radian) * wave, 0, 1), np.float32)


# --- Colour, ground and camera ---------------------------------------------------------------------------------------


def _colour(rng: _Rng, most_saturated: float = 0.9) -> _Floats:
    """Any colour, f32 [3] RGB 0..255: a hue, washed out and dimmed at random (HSV)."""
    hue = np.clip(np.abs((rng.random() * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    saturation, value = rng.uniform(0.05, most_saturated), rng.uniform(0.2, 1.0)
    return np.asarray(255 * value * (1 - saturation * (1 - hue)), np.float32)


def _brightness(colour: _Floats) -> float:
    """Luma 0..255 of an RGB colour (ITU-R BT.601)."""
    return float(colour @ np.array([0.299, 0.587, 0.114]))


def _colours(rng: _Rng) -> tuple[_Floats, _Floats, _Floats]:
    """Two colours of a texture, far enough apart in brightness to be seen, and one for the rim."""
    first, second = _colour(rng), _colour(rng)
    while abs(_brightness(first) - _brightness(second)) < 60:
        first, second = _colour(rng), _colour(rng)
    return first, second, 0.35 * min(first, second, key=_brightness)


def _ground(rng: _Rng, height: int, width: int) -> _Floats:
    """A background, f32 [H, W, 3]: clouds, grain or patchwork between two near colours, with strokes on it."""
    base, other = _colour(rng, 0.5), _colour(rng, 0.5)
    other = base + rng.uniform(0.25, 0.7) * (other - base)
    mix: _Floats
    match rng.choice(["clouds", "grain", "patchwork"]):
        case "clouds":
            octaves = [_noise(rng, height, width, cells, cells) / cells**0.5 for cells in (3, 7, 17, 40)]
            mix = np.sum(octaves, axis=0, dtype=np.float32)
        case "grain":
            mix = 0.6 * _noise(rng, height, width, 40, 3) + 0.4 * _noise(rng, height, width, 3, 3)
        case _:
            cells = int(rng.integers(4, 14))
            mix = _noise(rng, height, width, cells, cells, cv2.INTER_NEAREST)
    image = (base + mix[..., None] * (other - base)).astype(np.float32)
    _scatter_strokes(rng, image)
    return image


def _noise(rng: _Rng, height: int, width: int, rows: int, columns: int, how: int = cv2.INTER_CUBIC) -> _Floats:
    """A grid of random numbers in [0, 1], turned and enlarged to f32 [H, W]."""
    grid = rng.random((rows, columns), dtype=np.float32)
    side = math.hypot(height, width)
    matrix = _turn(rng.uniform(0, 2 * np.pi)) @ np.diag([side / columns, side / rows])
    shift = np.array([width, height]) / 2 - matrix @ (np.array([columns, rows]) / 2 - 0.5)
    affine = np.column_stack([matrix, shift])
    turned = cv2.warpAffine(grid, affine, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, np.float32)


def _scatter_strokes(rng: _Rng, image: _Floats) -> None:
    """Half-transparent strokes of no class, drawn into the image."""
    height, width = image.shape[:2]
    overlay = image.copy()
    for _ in range(int(rng.integers(22))):
        start = rng.uniform(-0.1, 1.1, 2) * (width, height)
        end = start + rng.normal(0, 0.15, 2) * (width, height)
        ends = np.round([start, end]).astype(int).tolist()
        cv2.line(overlay, ends[0], ends[1], _colour(rng).tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    cv2.addWeighted(image, 0.5, overlay, 0.5, 0, dst=image)


def _photograph(rng: _Rng, scene: _Floats) -> NDArray[np.uint8]:
    """Light from one side, contrast, focus and sensor noise; f32 in, u8 [H, W, 3] out."""
    height, width = scene.shape[:2]
    lean = rng.uniform(-0.3, 0.3, 2)
    light = 1 + np.add.outer(lean[0] * np.linspace(-1, 1, height), lean[1] * np.linspace(-1, 1, width))
    contrast, brightness = rng.uniform(0.65, 1.05), rng.uniform(-15, 25)
    image = scene * (contrast * light).astype(np.float32)[..., None] + np.float32(128 * (1 - contrast) + brightness)
    if rng.random() < 0.35:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.3)), np.float32)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(1, 9))
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)
