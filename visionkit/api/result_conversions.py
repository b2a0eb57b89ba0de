"""Results to and from what other tools hold them in: `supervision.Detections`, pandas, COCO results.

supervision and pandas are no dependencies of visionkit: they are imported here, when one is asked for. What the other
side has no place for is lost, and each function says what. All give the same 32-bit scores and corners back, but for
COCO's corners, which have to be added up of x and width again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.coco import read_coco
from visionkit.formats.coco_results import checked_results, read_results
from visionkit.formats.object_shapes import as_rle, cutout, encoded
from visionkit.formats.records import ImageRecord
from visionkit.predict.coco_writer import coco_rows
from visionkit.predict.csv_writer import COLUMNS, CONFIDENCE
from visionkit.predict.masks import decoded_mask
from visionkit.result import Result, Rle, Task

CORNERS = ("x1", "y1", "x2", "y2")
CLASS_NAME = "class_name"
"""Of `supervision.Detections.data`, what its annotators write."""
CALIBRATED = "calibrated_confidence"
"""What a calibrated model's scores are worth, in `supervision.Detections.data`: supervision calls the score itself
confidence."""


# supervision ----------------------------------------------------------------------------------------------------------


def to_supervision(result: Result) -> Any:
    """The detections of an image as `supervision.Detections`.

    `xyxy`, `confidence` and `class_id` are boxes, scores and labels, `mask` the masks, bool [N, height, width], which
    takes as many bytes, `data["class_name"]` the names, and of a calibrated model `data["calibrated_confidence"]` what
    scores are worth. Path, size, model, times and why have no place there.

    Raises:
        UsageError: supervision is not installed, or the result is no detection.
    """
    supervision = _package("supervision", "supervision.Detections")
    _check_task(result, ("detect",), "supervision.Detections")
    data: dict[str, Any] = {CLASS_NAME: np.array([result.classes.names[label] for label in result.labels], np.str_)}
    if result.confidences is not None:
        data[CALIBRATED] = result.confidences.copy()
    mask = None
    if result.masks is not None:
        mask = np.zeros((len(result), result.height, result.width), np.bool_)
        for plane, rle in zip(mask, result.masks, strict=True):
            plane[:] = decoded_mask(rle)
    return supervision.Detections(
        xyxy=result.boxes.copy(),
        mask=mask,
        confidence=result.scores.copy(),
        class_id=result.labels.copy(),
        data=data,
    )


def from_supervision(detections: Any, *, classes: ClassTable, width: int, height: int, path: str = "") -> Result:
    """A Result of `supervision.Detections`, the highest score first.

    What a Result has no place for, such as `tracker_id`, is left behind.

    Args:
        classes: `class_id` counts in it, from 0.
        width, height: pixels of the image.
        path: where the image came from.

    Raises:
        DataError: there is no `confidence` or `class_id`, or they, boxes or masks are not what a Result can hold.
    """
    if detections.confidence is None or detections.class_id is None:
        absent = "confidence" if detections.confidence is None else "class_id"
        raise DataError(f"the detections have no {absent}, a Result has a score and a class for each; set {absent}")
    masks: tuple[Rle, ...] | None = None
    if detections.mask is not None:
        planes = np.asarray(detections.mask)
        if planes.shape != (len(detections), height, width):
            raise DataError(
                f"the masks are of shape {planes.shape}, those of {len(detections)} detections on an image of "
                f"{width}x{height} px must be {(len(detections), height, width)}; name the size of their image"
            )
        masks = tuple(encoded(plane.astype(np.bool_), 0, 0, width, height) for plane in planes)
    return _result(
        classes,
        detections.xyxy,
        detections.confidence,
        detections.class_id,
        (path, width, height),
        masks=masks,
        confidences=detections.data.get(CALIBRATED),
    )


# pandas ---------------------------------------------------------------------------------------------------------------


def to_pandas(results: Result | Iterable[Result]) -> Any:
    """A `pandas.DataFrame` with a row a detection, in the columns of `detections.csv`; of classifications a row a
    class, without corners (NaN).

    A column `mask` has the RLEs, where there are any, and a column `confidence` what calibrated models say. `image_id`
    is the image's place among the results, counted from 1; one where nothing was found has no row. Model, times and
    why have no place there.

    Raises:
        UsageError: pandas is not installed, or a result is a semantic map.
    """
    pandas = _package("pandas", "a pandas DataFrame")
    listed = [results] if isinstance(results, Result) else list(results)
    for result in listed:
        _check_task(result, ("detect", "classify"), "a table of boxes")
    rows = [(number, result) for number, result in enumerate(listed, 1) for _ in range(len(result))]
    labels = [label for result in listed for label in result.labels.tolist()]
    columns: dict[str, Any] = {
        "image_id": np.array([number for number, _ in rows], np.int64),
        "file_name": [result.path for _, result in rows],
        "width": np.array([result.width for _, result in rows], np.int64),
        "height": np.array([result.height for _, result in rows], np.int64),
        "category_id": np.array([r.classes.category_ids[i] for (_, r), i in zip(rows, labels, strict=True)], np.int64),
        "name": [result.classes.names[label] for (_, result), label in zip(rows, labels, strict=True)],
        "score": _joined([result.scores for result in listed]),
    }
    boxes = [r.boxes if r.task == "detect" else np.full((len(r), 4), np.nan, np.float32) for r in listed]
    corners = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
    columns |= dict(zip(CORNERS, corners.T, strict=True))
    assert tuple(columns) == COLUMNS
    if any(result.confidences is not None for result in listed):
        columns[CONFIDENCE] = _joined(
            [np.full(len(r), np.nan, np.float32) if r.confidences is None else r.confidences for r in listed]
        )
    if any(result.masks is not None for result in listed):
        columns["mask"] = [mask for result in listed for mask in result.masks or [None] * len(result)]
    return pandas.DataFrame(columns)


def from_pandas(table: Any, classes: ClassTable | None = None) -> list[Result]:
    """The results of a `pandas.DataFrame` as `to_pandas` makes it, or as `pandas.read_csv` reads `detections.csv`: one
    for each `image_id`, in the order of their first rows, each with its highest score first.

    Args:
        classes: the class table; one of the classes in the table, by ascending ids, where None.

    Raises:
        DataError: a column is missing or its values are not what a Result can hold.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"the table has no column {missing[0]}, results need {', '.join(COLUMNS)}; add it or rename another"
        )
    for name in COLUMNS:
        if name not in ("file_name", "name"):
            _check_numbers(table[name], name)
    if not len(table):
        return []
    if classes is None:
        if table["name"].isna().any():
            raise DataError(
                "column name has missing values, which pandas takes classes called None or NA for; read the file by "
                "pandas.read_csv(FILE, keep_default_na=False, na_values=''), or give classes"
            )
        pairs = zip(table["category_id"], table["name"], strict=True)
        classes = ClassTable.of_categories({(int(category_id), str(name)) for category_id, name in pairs})
    return [_result_of_rows(rows, classes) for _, rows in table.groupby("image_id", sort=False)]


def _check_numbers(column: Any, name: str) -> None:
    """DataError unless a column has numbers, and whole ones where it counts something; corners may be missing."""
    is_whole = name not in ("score", *CORNERS)
    try:
        values = column.to_numpy(np.float64)
        sound = name in CORNERS or bool(np.isfinite(values).all())
        sound = sound and not (is_whole and (values != np.floor(values)).any())
    except (TypeError, ValueError):
        sound = False
    if not sound:
        kind = "whole numbers" if is_whole else "numbers"
        raise DataError(f"column {name} has other values than {kind}, results need these; correct or drop the rows")


def _result_of_rows(rows: Any, classes: ClassTable) -> Result:
    """The result of the rows of one image."""
    image_id = int(rows["image_id"].iloc[0])
    item = f"image_id {image_id}"
    said = zip(rows["file_name"], rows["width"], rows["height"], strict=True)
    images = {(str(path), int(width), int(height)) for path, width, height in said}
    if len(images) > 1:
        raise DataError(
            f"rows of {item} differ in file_name, width or height, an image has one of each; number the images apart"
        )
    corners = rows[list(CORNERS)].to_numpy(np.float32)
    nowhere = np.isnan(corners).all(axis=1)
    if nowhere.any() != nowhere.all():
        raise DataError(f"some rows of {item} have corners and others none, an image has either; fill or drop them")
    task: Task = "classify" if nowhere.all() else "detect"
    masks = [mask for mask in rows["mask"] if isinstance(mask, Mapping)] if "mask" in rows.columns else []
    if masks and len(masks) != len(rows):
        raise DataError(f"some rows of {item} have a mask and others none, an image has either; fill or drop them")
    labels = [_label(classes, int(category_id), item) for category_id in rows["category_id"]]
    confidences = rows[CONFIDENCE].to_numpy(np.float32) if CONFIDENCE in rows.columns else np.float32(np.nan)
    return _result(
        classes,
        corners if task == "detect" else np.zeros((0, 4), np.float32),
        rows["score"].to_numpy(np.float32),
        np.array(labels, np.int64),
        next(iter(images)),
        task=task,
        masks=tuple(dict(mask) for mask in masks) if masks else None,
        confidences=None if np.isnan(confidences).any() else confidences,
    )


# COCO -----------------------------------------------------------------------------------------------------------------


def to_coco(results: Result | Iterable[Result], image_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The rows of a COCO results file (https://cocodataset.org/#format-results), as `--format coco` writes them.

    Of a semantic map each connected region is a row. Where nothing was found there is none. Sizes, model, times and why
    have no place there.

    Args:
        image_ids: the dataset's ids of the images; their places among the results, counted from 1, where None.

    Raises:
        UsageError: a result is a classification, or there are not as many ids as results.
    """
    listed = [results] if isinstance(results, Result) else list(results)
    ids = range(1, len(listed) + 1) if image_ids is None else image_ids
    if len(ids) != len(listed):
        raise UsageError(f"{len(ids)} image_ids are given for {len(listed)} results, each needs its own; name as many")
    for result in listed:
        _check_task(result, ("detect", "segment"), "a COCO results file")
    return [row for result, image_id in zip(listed, ids, strict=True) for row in coco_rows(result, image_id)]


def from_coco(predictions: str | Path | Sequence[Mapping[str, Any]], annotations: str | Path) -> list[Result]:
    """The results of a COCO results file, or of its rows: one for each image of the annotations, in their order, also
    where nothing was found, each with its highest score first.

    Args:
        annotations: the COCO annotation file, which has the sizes and names of images and the classes.

    Raises:
        DataError: either cannot be read, the two do not belong together, a score is not in [0, 1], or some detections
            of an image have a mask and others none.
    """
    truth = read_coco(Path(annotations))
    if isinstance(predictions, str | Path):
        rows, source = read_results(Path(predictions), truth), str(predictions)
    else:
        rows, source = checked_results(list(predictions), Path("predictions"), truth), "predictions"
    of_image: dict[int, list[dict[str, Any]]] = {image.id: [] for image in truth.images}
    for row in rows:
        of_image[row["image_id"]].append(row)
    return [_result_of_image(image, of_image[image.id], truth.classes, source) for image in truth.images]


def _result_of_image(image: ImageRecord, rows: list[dict[str, Any]], classes: ClassTable, source: str) -> Result:
    item = f"image {image.id} of {source}"
    if not (image.width and image.height):
        raise DataError(f"{item} has no size in the annotations, a Result needs it; add width and height")
    masks = [as_rle(row["segmentation"], image.width, image.height) for row in rows if "segmentation" in row]
    if masks and len(masks) != len(rows):
        raise DataError(f"some detections of {item} have a segmentation and others none, an image has either")
    boxes = [row["bbox"] if "bbox" in row else _box_around(mask) for row, mask in zip(rows, masks or rows, strict=True)]
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return _result(
        classes,
        corners,
        np.array([row["score"] for row in rows], np.float64),
        np.array([classes.label(row["category_id"]) for row in rows], np.int64),
        (image.file_name, image.width, image.height),
        masks=tuple(masks) if masks else None,
    )


def _box_around(mask: Rle) -> Sequence[float]:
    """x, y, width, height of the pixels of a mask; nothing at the corner of one without."""
    found = cutout(mask)
    return (0.0, 0.0, 0.0, 0.0) if found is None else found[1]


# ----------------------------------------------------------------------------------------------------------------------


def _result(
    classes: ClassTable,
    boxes: Any,
    scores: Any,
    labels: Any,
    image: tuple[str, int, int],
    *,
    task: Task = "detect",
    masks: tuple[Rle, ...] | None = None,
    confidences: Any = None,
) -> Result:
    """A Result of strangers' values, the highest score first; DataError where it cannot hold them.

    Args:
        image: path, width, height.
    """
    scores, boxes = np.asarray(scores, np.float32), np.asarray(boxes, np.float32).reshape(-1, 4)
    whole = np.asarray(labels)
    outside = whole[(whole < 0) | (whole >= len(classes))]
    if len(outside):
        raise DataError(
            f"a detection has class_id {outside[0]}, the table has classes 0 to {len(classes) - 1}; "
            "name the table that the detections were made with"
        )
    if not np.isfinite(boxes).all():
        raise DataError("a box has a corner that is not a finite number, each is four numbers of pixels; leave it out")
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if len(wrong):
        raise DataError(f"a detection has score {wrong[0]}, scores are in [0, 1]; bring them there or leave it out")
    order = np.argsort(-scores, kind="stable")
    path, width, height = image
    return Result(
        path=path,
        width=int(width),
        height=int(height),
        classes=classes,
        boxes=boxes[order] if task == "detect" else boxes,
        scores=scores[order],
        labels=whole[order].astype(np.int64),
        task=task,
        masks=None if masks is None else tuple(masks[place] for place in order),
        confidences=None if confidences is None else np.asarray(confidences, np.float32)[order],
    )


def _label(classes: ClassTable, category_id: int, item: str) -> int:
    try:
        return classes.label(category_id)
    except KeyError:
        ids = ", ".join(map(str, classes.category_ids[:8]))
        raise DataError(
            f"a row of {item} has category_id {category_id}, the class table has {ids}; name the table it belongs to"
        ) from None


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _check_task(result: Result, tasks: tuple[Task, ...], what: str) -> None:
    if result.task not in tasks:
        raise UsageError(
            f"the result of {result.path or 'an image'} is of task {result.task}, {what} holds {' and '.join(tasks)}; "
            "convert its to_json() instead"
        )


def _package(name: str, what: str) -> ModuleType:
    """A package that visionkit does not depend on."""
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(
            f"{what} needs the package {name}, which is not installed; install it by: pip install {name}"
        ) from None
