"""`visionkit segment`: `detect` under the name that people with a segmenter look for."""

from __future__ import annotations

import functools
from typing import Any

from visionkit.cli.detect import detect, named_sources
from visionkit.cli.loaded import require_other_than_bundled


# Its options are those of detect; name and words are its own.
@functools.wraps(detect, assigned=("__annotations__",))
def segment(**options: Any) -> None:
    """Say what class each pixel of a picture is of: the same command as detect, the weights decide what is done.

    --weights must be given: the bundled model is a detector.

    A line an image, and a row for each class with its share of the image and its pixels. Pictures are overlays with a
    legend. Files of results:

    masks  masks/NAME.png with a label a pixel, masks/classes.json, and areas.csv.

    coco  results.json: each connected region of a class, as a polygon, or as an RLE where it has holes.

    labelme, cvat  the pictures with each connected region as a polygon, or as a mask where it has holes.

    json  detections.jsonl: a Result an image, each class with its mask.

    Each pixel has one class, so --conf, --iou and --max-det, which choose among detections, change nothing.

    An image is seen as in training, whole or in tiles, unless --tile is given: then what is larger than a tile is seen
    in overlapping tiles, whose scores are blended without seams.

    Example: [bold]visionkit segment street/*.jpg --weights runs/finetune/camvid-1/best.safetensors[/bold]
    """
    weights = options.get("weights", "default")
    require_other_than_bundled(
        weights, "segment", "segmenter", "which visionkit finetune --model fcn8s makes, or torchvision:fcn_resnet50"
    )
    named_sources("segment", options.get("source"), options.get("source_"))
    detect(**options)
