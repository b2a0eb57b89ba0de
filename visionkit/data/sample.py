"""The `sample` dataset: textured shapes on cluttered ground, drawn here with exact truth and written as plain COCO.

Two sets with no class in common, `a` to learn from and `b` to fine-tune on, made of the same strokes: a class is a
shape AND a texture, colour says nothing, and things of no class (bars with the same textures, plain blobs) lie
between. What is promised about the truth:

- Every object that is drawn is annotated. An object that would show less than `MIN_SHARE` of itself or less than
  `MIN_PIXELS` pixels (see `sample_scene`), or would hide another one that far, is never drawn:
  nothing half-hidden counts as background.
- Boxes and masks are of the visible part, and `area` counts the mask's pixels. Masks are RLE because a polygon cannot
  tell an occluded, multi-part or hollow shape exactly: compressed for objects, uncompressed for crowds, as in COCO.
- A crowd is a dense cluster of one class under one annotation with `iscrowd` 1.
- Semantic masks hold the label 0..K-1 of the visible object (crowds too) and K for background; 255 does not occur.
  `classes.json` names these indices, as datasets of masks do.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from visionkit.data.sample_scene import SampleClass, draw_scene, semantic_mask
from visionkit.errors import UsageError

SampleSet = Literal["a", "b"]
VERSION = 1  # raise it whenever a pixel or an annotation changes: stored sets of another version are not reused
DEFAULT_IMAGES: Mapping[str, int] = {"train": 320, "val": 80, "test": 40}

SMALLEST_IMAGE = 64


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
    _write_json(root / "classes.json", {"names": names, "ignore_index": 255})
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
